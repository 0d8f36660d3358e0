"""Time the gradient-descent engines side by side: seconds per run and step, and the share of peak.

    python benchmarks/descent.py [--runs 1000] [--repeats 7]

Every repeat times all engines one after the other, so that what else the machine does hits all of
them; medians of the repeats and of the per-repeat ratios are printed. JAX and Numba are measured if
they are installed; the package does not need them.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.minimizers.targets import gaussian_matrix

import numpy as np
import torch

SIZES = (3, 10, 20)
DEPTH = 3


def problem(size: int, runs: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Small random starts: no run converges or diverges within the steps timed."""
    layers = [
        torch.stack([0.3 / size**0.5 * gaussian_matrix(size, size, [i, b]) for b in range(runs)])
        for i in range(DEPTH)
    ]
    return layers, gaussian_matrix(size, size, 7) / size


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def autograd_loop(W: list[torch.Tensor], M: torch.Tensor, steps: int) -> Callable[[], object]:
    """The plain loop, one run after the other; timed on a few runs."""

    def work() -> None:
        for b in range(4):
            layers = [w[b].clone().requires_grad_() for w in W]
            for _ in range(steps):
                product = layers[0]
                for layer in layers[1:]:
                    product = layer @ product
                loss = (M - product).square().sum()
                gradient = torch.autograd.grad(loss, layers)
                with torch.no_grad():
                    for layer, g in zip(layers, gradient, strict=True):
                        layer -= 1e-3 * g

    return work


def jax_scan(W: list[torch.Tensor], M: torch.Tensor, steps: int) -> Callable[[], object] | None:
    """``jax.jit(vmap(scan))`` with the analytic gradient by reverse mode, float64."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    jax.config.update("jax_enable_x64", True)
    target = jnp.asarray(M.numpy())

    def loss(layers: list[Any]) -> Any:
        product = layers[0]
        for layer in layers[1:]:
            product = layer @ product
        return jnp.sum((target - product) ** 2)

    def run(layers: list[object]) -> object:
        def step(state: list[object], _: object) -> tuple[list[object], None]:
            gradient = jax.grad(loss)(state)
            return [w - 1e-3 * g for w, g in zip(state, gradient, strict=True)], None

        return jax.lax.scan(step, layers, None, length=steps)[0]

    compiled = jax.jit(jax.vmap(run))
    batch = [jnp.asarray(w.numpy()) for w in W]
    jax.block_until_ready(compiled(batch))
    return lambda: jax.block_until_ready(compiled(batch))


def numba_loops(W: list[torch.Tensor], M: torch.Tensor, steps: int) -> Callable[[], object] | None:
    """Simple loops, a run per iteration of ``prange``."""
    try:
        import numba
    except ImportError:
        return None

    def descend(W: np.ndarray, M: np.ndarray, steps: int) -> None:
        runs, depth, n, _ = W.shape
        for b in numba.prange(runs):
            signals = np.empty((depth, n, n))
            back, other = np.empty((n, n)), np.empty((n, n))
            for _ in range(steps):
                signals[0] = W[b, 0]
                for i in range(1, depth):
                    signals[i] = 0.0
                    for p in range(n):
                        for q in range(n):
                            for s in range(n):
                                signals[i, p, s] += W[b, i, p, q] * signals[i - 1, q, s]
                for p in range(n):
                    for q in range(n):
                        back[p, q] = 2 * (signals[depth - 1, p, q] - M[p, q])
                for i in range(depth - 1, 0, -1):
                    other[:] = 0.0
                    for q in range(n):
                        for p in range(n):
                            for s in range(n):
                                other[p, s] += W[b, i, q, p] * back[q, s]
                    for p in range(n):
                        for q in range(n):
                            total = 0.0
                            for s in range(n):
                                total += back[p, s] * signals[i - 1, q, s]
                            W[b, i, p, q] -= 1e-3 * total
                    back[:] = other
                for p in range(n):
                    for q in range(n):
                        W[b, 0, p, q] -= 1e-3 * back[p, q]

    compiled = numba.njit(parallel=True, fastmath={"contract"})(descend)
    numba.set_num_threads(torch.get_num_threads())
    stacked = torch.stack(W, dim=1).numpy()
    target = M.numpy()
    compiled(stacked[:2].copy(), target, 1)
    return lambda: compiled(stacked.copy(), target, steps)


def main() -> None:
    """Print one table per size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    args = parser.parse_args()
    big = torch.randn(1500, 1500, dtype=torch.float64)
    peak = max(2 * 1500**3 / timed(lambda: big @ big) for _ in range(8))
    print(f"{torch.get_num_threads()} threads; large matrix product {peak / 1e9:.0f} GFLOP/s\n")
    for size in args.sizes:
        W, M = problem(size, args.runs)
        steps = {3: 2000, 10: 200}.get(size, 60)
        candidates: dict[str, tuple[Callable[[], object] | None, int, int]] = {
            "compiled": (
                partial(gradient_descent, W, M, 1e-3, steps, engine="compiled"),
                args.runs,
                steps,
            ),
            "torch bmm": (partial(gradient_descent, W, M, 1e-3, 20, engine="torch"), args.runs, 20),
            "jax jit(vmap(scan))": (jax_scan(W, M, steps), args.runs, steps),
            "numba prange": (numba_loops(W, M, steps), args.runs, steps),
            "autograd loop": (autograd_loop(W, M, 50), 4, 50),
        }
        times: dict[str, list[float]] = {}
        for _ in range(args.repeats):
            for name, (work, runs, count) in candidates.items():
                if work is not None:
                    times.setdefault(name, []).append(timed(work) / runs / count)
        flops = 2 * size**3 * 3 * (DEPTH - 1)
        print(f"{size} × {size}, depth {DEPTH}, {args.runs} runs")
        for name, values in times.items():
            ratio = statistics.median(t / c for t, c in zip(values, times["compiled"], strict=True))
            median = statistics.median(values)
            print(
                f"  {name:<20} {median:.2e} s per run and step  {ratio:8.1f} × compiled"
                f"  {flops / median / 1e9:6.1f} GFLOP/s  {flops / median / peak:5.1%} of peak"
            )
        print()


if __name__ == "__main__":
    main()
