"""Gradient descent on an ensemble: many runs of one shape at once, each with its own step size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal

import torch
from torch import Tensor

from dmf_sharpness import engines, kernels
from dmf_sharpness.engines import Method, Minibatch, Observed, Runs
from dmf_sharpness.factors import Factors, check_factors, flatten, unflatten, widths

CHECK_EVERY = 100
CONVERGED_LOSS = 1e-20
DIVERGED_LOSS = 1e10
# Steps between two looks at which runs have ended, so that the rest can be packed anew.
STRETCH = 2000
# Numbers that the observations of one stretch may take: 128 MB.
OBSERVED_NUMBERS = 2**24

Engine = Literal["auto", "compiled", "torch"]


class Outcome(IntEnum):
    """How a run ended. Losses are relative to ``‖T‖_F²``."""

    STEP_LIMIT = engines.RUNNING
    """Still moving after the last step."""
    CONVERGED = engines.CONVERGED
    """The loss is at most 1e-20, and did not grow over the last 100 steps."""
    DIVERGED = engines.DIVERGED
    """The loss passed 1e10 or is not finite."""


@dataclass(frozen=True)
class Trajectory:
    """What was observed of ``B`` runs at ``K`` times; NaN after a run has ended.

    Attributes:
        step: ``(K,)``, the number of steps taken.
        loss: ``(K, B)``.
        distance: ``(K, B)``, Euclidean distance from the reference in parameter space.
        projections: ``(K, B, P)``, components of that displacement along the given directions.
        path: ``(K, B, N)``, the iterates, flattened; None unless they were asked for.
        measured: ``(K, B, Q)``, what ``measure`` made of the iterates; None without.
    """

    step: Tensor
    loss: Tensor
    distance: Tensor
    projections: Tensor
    path: Tensor | None = None
    measured: Tensor | None = None


@dataclass(frozen=True)
class DescentRun:
    """``B`` runs of gradient descent.

    Attributes:
        factors: The last iterates, each ``(B, d_i, d_{i-1})``; of a diverged run huge, or NaN.
        loss: ``(B,)``, the loss of ``factors``.
        steps: ``(B,)``, how many steps were taken.
        outcome: ``(B,)``, integer codes of :class:`Outcome`.
        trajectory: What was observed on the way, if it was asked for.
    """

    factors: list[Tensor]
    loss: Tensor
    steps: Tensor
    outcome: Tensor
    trajectory: Trajectory | None = None


def _checked_problem(
    factors: Factors, target: Tensor, step_size: Tensor | float, steps: int
) -> tuple[Tensor, Tensor]:
    check_factors(factors)
    if factors[0].ndim != 3:
        raise ValueError(
            f"factors: expected a batch, each of shape (B, d_i, d_i-1), got W_1 of "
            f"{tuple(factors[0].shape)}"
        )
    batch = factors[0].shape[0]
    eta = torch.as_tensor(step_size, dtype=torch.float64, device=factors[0].device)
    if eta.ndim == 0:
        eta = eta.expand(batch)
    if eta.shape != (batch,):
        raise ValueError(f"step_size: expected shape ({batch},), got {tuple(eta.shape)}")
    if not bool((torch.isfinite(eta) & (eta > 0)).all()):
        raise ValueError(f"step_size: expected positive finite numbers, got {eta.tolist()[:5]}")
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    if target.ndim not in (2, 3) or (target.ndim == 3 and target.shape[0] not in (1, batch)):
        raise ValueError(
            f"target: expected shape (d_L, r) or ({batch}, d_L, r), got {tuple(target.shape)}"
        )
    if not bool(torch.isfinite(target).all()):
        raise ValueError("target: expected finite values, got NaN or Inf")
    return eta, target.expand(batch, *target.shape[-2:])


def _checked_method(
    factors: Factors,
    target: Tensor,
    input_root: Tensor | None,
    momentum: float,
    nesterov: bool,
    minibatch: Minibatch | None,
) -> Method:
    shape = (factors[-1].shape[-2], (factors[0] if input_root is None else input_root).shape[-1])
    if input_root is not None and input_root.shape[-2:-1] != factors[0].shape[-1:]:
        raise ValueError(
            f"input_root: expected {factors[0].shape[-1]} rows, got {tuple(input_root.shape)}"
        )
    if target.shape[-2:] != shape:
        raise ValueError(f"target: expected shape {shape}, got {tuple(target.shape[-2:])}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum: expected a number in [0, 1), got {momentum}")
    if nesterov and momentum == 0:
        raise ValueError("nesterov: expected with a positive momentum, got momentum 0")
    if minibatch is not None:
        count = minibatch.inputs.shape[-1]
        if not 1 <= minibatch.size <= count:
            raise ValueError(f"minibatch: expected a size from 1 to {count}, got {minibatch.size}")
    return Method(momentum, nesterov, input_root, CHECK_EVERY, minibatch)


def _chosen_engine(engine: Engine, method: Method, factors: Factors) -> Engine:
    """The engine to use: the compiled one if it was built and can do what is asked."""
    fitting = (
        factors[0].device.type == "cpu"
        and method.minibatch is None
        and len(factors) <= kernels.MOST_LAYERS
    )
    if engine == "compiled" and not (fitting and kernels.available()):
        reason = "a kernel that was built" if fitting else "tensors on the CPU and no minibatch"
        raise ValueError(f"engine: expected {reason} for 'compiled', got none")
    if engine == "auto":
        return "compiled" if fitting and kernels.available() else "torch"
    return engine


def gradient_descent(
    factors: Factors,
    target: Tensor,
    step_size: Tensor | float,
    steps: int,
    *,
    input_root: Tensor | None = None,
    observe_every: int | None = None,
    reference: Tensor | None = None,
    directions: Tensor | None = None,
    keep_path: bool = False,
    measure: Callable[[list[Tensor]], Tensor] | None = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    minibatch: Minibatch | None = None,
    engine: Engine = "auto",
) -> DescentRun:
    """``W ← W − η ∇f(W)`` for ``f(W) = ‖T − W_{L:1} S‖_F²``, ``B`` runs at once.

    A run stops by itself when it has converged (looked at every 100 steps) or diverged (looked at
    every step); see :class:`Outcome`. The others go on without it, and no run's arithmetic depends
    on its neighbours', on the number of threads, or on its place in the batch.

    With ``momentum = β`` the heavy-ball method, ``V ← βV − η∇f(W)``, ``W ← W + V``, which is stable
    at a minimizer for ``ηλ_max < 2 + 2β`` (Polyak, USSR Comput. Math. 4, 1964); with ``nesterov``
    Nesterov's, for ``ηλ_max < (2 + 2β)/(1 + 2β)``. The iterates of the latter are the points at which
    it takes the gradient.

    Args:
        factors: Starts, ``W_i`` of shape ``(B, d_i, d_{i-1})``, float64.
        target: ``T``, shape ``(d_L, r)`` or ``(B, d_L, r)``.
        step_size: ``η``, a number or one per run, ``(B,)``.
        steps: Most steps to take.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
        observe_every: Record the trajectory every so many steps; None records nothing.
        reference: Point that the distance is measured from, flattened, ``(B, N)``; default the start.
        directions: Directions to project the displacement on, ``(B, P, N)``.
        keep_path: Record the iterates themselves, too: ``K B N`` numbers.
        measure: Record what this makes of the iterates, too, such as their sharpness: a function
            from finite factors ``(n, d_i, d_{i-1})`` to ``(n, Q)`` numbers. No path is kept for it.
        momentum: ``β`` of the heavy ball, in ``[0, 1)``.
        nesterov: Nesterov's method in place of the heavy ball.
        minibatch: Take each step on part of the data; losses stay those of ``T`` and ``S``.
        engine: What to compute with: the ``compiled`` kernel, ``torch``, or (``auto``) the kernel if
            it was built and the tensors are on the CPU. They differ by rounding.

    Raises:
        TypeError: A factor is not a float64 tensor.
        ValueError: Shapes do not fit, a value is not finite, a step size or ``steps`` is not
            positive, the momentum is not in ``[0, 1)``, or the engine cannot do what is asked.
    """
    eta, target = _checked_problem(factors, target, step_size, steps)
    method = _checked_method(factors, target, input_root, momentum, nesterov, minibatch)
    advance = (
        kernels.advance
        if _chosen_engine(engine, method, factors) == "compiled"
        else engines.advance
    )
    follow = keep_path or measure is not None
    if follow and observe_every is None:
        raise ValueError("observe_every: expected a number of steps beside keep_path or measure")
    batch = len(eta)
    w = flatten(factors).clone()
    if directions is not None and directions.shape[::2] != w.shape:
        got = tuple(directions.shape)
        raise ValueError(f"directions: expected shape ({batch}, P, {w.shape[1]}), got {got}")
    scale = target.square().sum((-2, -1))
    runs = Runs(
        widths=widths(factors),
        w=w,
        velocity=torch.zeros_like(w) if momentum else None,
        target=target.contiguous(),
        eta=eta.contiguous(),
        limit=DIVERGED_LOSS * scale,
        floor=CONVERGED_LOSS * scale,
        previous=torch.full_like(eta, -torch.inf),  # a start is never taken for an end
        outcome=torch.full((batch,), engines.RUNNING, device=w.device),
        taken=torch.zeros(batch, dtype=torch.int64, device=w.device),
        loss=torch.full_like(eta, torch.nan),
        reference=w.clone() if reference is None else reference.expand_as(w),
        directions=w.new_zeros(batch, 0, w.shape[1]) if directions is None else directions,
    )
    done = replace(runs, w=w.clone(), outcome=runs.outcome.clone(), taken=runs.taken.clone())
    alive = torch.arange(batch, device=w.device)
    pieces: list[tuple[range, Tensor, Observed]] = []
    taken = 0
    while len(alive):
        stretch = min(_stretch(runs, observe_every, follow), steps - taken)
        final = taken + stretch == steps
        seen = advance(runs, method, taken, stretch, final, observe_every, follow)
        if seen is not None and observe_every is not None:
            times = engines.observation_steps(taken, stretch, final, observe_every)
            if measure is not None:
                seen = replace(seen, measured=_measured(seen, measure, runs.widths))
            pieces.append((times, alive, seen if keep_path else replace(seen, path=None)))
        taken += stretch
        ended = (
            torch.ones_like(runs.outcome, dtype=torch.bool)
            if final
            else runs.outcome != engines.RUNNING
        )
        leaving = alive[ended]
        done.w[leaving], done.loss[leaving] = runs.w[ended], runs.loss[ended]
        done.outcome[leaving], done.taken[leaving] = runs.outcome[ended], runs.taken[ended]
        if bool(ended.any()):
            alive, runs = alive[~ended], runs.select(~ended)
    trajectory = None
    if observe_every is not None:
        trajectory = _assemble(pieces, batch)
    return DescentRun(
        unflatten(done.w, runs.widths), done.loss, done.taken, done.outcome, trajectory
    )


def _stretch(runs: Runs, observe_every: int | None, keep_path: bool) -> int:
    """Steps to take at one go, a multiple of ``CHECK_EVERY``, such that observations fit."""
    if observe_every is None:
        return STRETCH
    numbers = 2 + runs.directions.shape[1] + (runs.w.shape[1] if keep_path else 0)
    fitting = OBSERVED_NUMBERS // (len(runs.eta) * numbers) * observe_every
    return max(CHECK_EVERY, min(STRETCH, fitting // CHECK_EVERY * CHECK_EVERY))


def _measured(
    seen: Observed, measure: Callable[[list[Tensor]], Tensor], shape: tuple[int, ...]
) -> Tensor:
    """What ``measure`` makes of the iterates seen, ``(K, B, Q)``; NaN where a run had ended."""
    assert seen.path is not None
    there = torch.isfinite(seen.path).all(-1)
    numbers = measure(unflatten(seen.path[there], shape))
    measured = seen.loss.new_full((*seen.loss.shape, numbers.shape[-1]), torch.nan)
    measured[there] = numbers
    return measured


def _assemble(pieces: Sequence[tuple[range, Tensor, Observed]], batch: int) -> Trajectory:
    """Put the observations of whichever runs were alive into rows of all runs, NaN elsewhere."""
    steps = [step for times, _, _ in pieces for step in times]
    # Nothing is kept of the times after the last run has ended.
    kept = sum(int((~torch.isnan(seen.distance)).any(1).sum()) for _, _, seen in pieces)

    def gathered(name: str) -> Tensor:
        parts = [getattr(seen, name) for _, _, seen in pieces]
        table, row = parts[0].new_full((len(steps), batch, *parts[0].shape[2:]), torch.nan), 0
        for (times, alive, _), part in zip(pieces, parts, strict=True):
            table[row : row + len(times), alive] = part
            row += len(times)
        return table[:kept]

    first = pieces[0][2]
    return Trajectory(
        torch.tensor(steps[:kept]),
        gathered("loss"),
        gathered("distance"),
        gathered("projections"),
        None if first.path is None else gathered("path"),
        None if first.measured is None else gathered("measured"),
    )
