"""Time the sharpness at the points of a trajectory: all at once, and by full Hessians of autograd and JAX.

    python benchmarks/points.py [--points 1000] [--repeats 3] [--width 10]

Every repeat times all ways one after the other, in processor seconds. The loop over autograd's Hessians,
and JAX, are timed on a part of the points. JAX is measured if it is installed.
"""

import argparse
import statistics
import time
from collections.abc import Callable

from dmf_sharpness.hessian.any_point import sharpness_at
from dmf_sharpness.minimizers.targets import gaussian_matrix

import torch
from torch import Tensor

DEPTH = 3
IN_LOOP, IN_JAX = 10, 100
Solver = Callable[[Tensor], Tensor]


def product(layers: Tensor) -> Tensor:
    """``W_L ⋯ W_1`` of stacked layers."""
    result = layers[0]
    for W in layers[1:]:
        result = W @ result
    return result


def together(target: Tensor) -> Solver:
    """The batch of :func:`sharpness_at`."""

    def values(points: Tensor) -> Tensor:
        found = sharpness_at(list(points.unbind(1)), target)
        assert torch.as_tensor(found.converged).all()
        return torch.as_tensor(found.value)

    return values


def autograd_loop(target: Tensor) -> Solver:
    """The largest eigenvalue of ``torch.autograd.functional.hessian``, point by point."""

    def loss(layers: Tensor) -> Tensor:
        return (target - product(layers)).square().sum()

    def value(layers: Tensor) -> Tensor:
        hessian = torch.autograd.functional.hessian(loss, layers)  # type: ignore[no-untyped-call]
        order = layers.numel()
        return torch.linalg.eigvalsh(torch.as_tensor(hessian).reshape(order, order))[-1]

    return lambda points: torch.stack([value(layers) for layers in points])


def jax_vmap(target: Tensor) -> Solver | None:
    """``jax.jit(jax.vmap(…))`` of the largest eigenvalue of ``jax.hessian``, float64."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    jax.config.update("jax_enable_x64", True)
    M = jnp.asarray(target.numpy())

    def top(layers):  # type: ignore[no-untyped-def]
        hessian = jax.hessian(lambda W: jnp.sum((M - product(W)) ** 2))(layers)
        return jnp.linalg.eigvalsh(hessian.reshape(layers.size, layers.size))[-1]

    compiled = jax.jit(jax.vmap(top))
    return lambda points: torch.tensor(
        compiled(jnp.asarray(points.numpy())).tolist(), dtype=torch.float64
    )


def main() -> None:
    """Print seconds for all points, the ratio to ours, and the largest relative difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=10)
    args = parser.parse_args()
    n, count = args.width, args.points
    points = gaussian_matrix(count * DEPTH * n, n, 1).reshape(count, DEPTH, n, n) / n**0.5
    target = gaussian_matrix(n, n, 2)
    ways: dict[str, tuple[Solver | None, int]] = {
        "sharpness_at, a batch": (together(target), count),
        "JAX, jit(vmap(eigvalsh))": (jax_vmap(target), min(IN_JAX, count)),
        "loop over autograd": (autograd_loop(target), min(IN_LOOP, count)),
    }
    exact = together(target)(points)
    times: dict[str, list[float]] = {}
    errors: dict[str, float] = {}
    for repeat in range(args.repeats + 1):
        for name, (solve, part) in ways.items():
            if solve is None:
                continue
            start = time.process_time()
            values = solve(points[:part])
            seconds = (time.process_time() - start) / part * count
            if repeat:  # the first round compiles
                times.setdefault(name, []).append(seconds)
            errors[name] = float((values / exact[:part] - 1).abs().max())
    ours = times["sharpness_at, a batch"]
    print(f"The sharpness at {count} points, {DEPTH} layers of {n} × {n}")
    for name, seconds in times.items():
        ratio = statistics.median(t / u for t, u in zip(seconds, ours, strict=True))
        median = statistics.median(seconds)
        print(f"  {name:<26} {median:9.3f} s  {ratio:7.1f} × ours  difference {errors[name]:.0e}")


if __name__ == "__main__":
    main()
