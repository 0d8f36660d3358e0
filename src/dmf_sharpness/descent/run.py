"""Gradient descent on many networks of the same widths at once, each run with its own step size."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dmf_sharpness.arguments import memory_told
from dmf_sharpness.compiled.lanes import EngineName
from dmf_sharpness.descent import compiled_engine, state, torch_engine
from dmf_sharpness.descent.arguments import (
    LEAST_LOSS,
    Engine,
    Measure,
    Request,
    checked_request,
    zero_starts,
)
from dmf_sharpness.descent.state import (
    Method,
    Minibatch,
    Observed,
    Runs,
    observation_steps,
)
from dmf_sharpness.descent.trajectory import Trajectory, assembled, kept
from dmf_sharpness.network.factors import Factors, flatten, unflatten

CHECK_EVERY = 100
"""Runs are checked for convergence every so many steps."""
CONVERGED_LOSS = 1e-20
"""A run has converged at this loss, relative to ``‖T‖_F²``."""
DIVERGED_LOSS = 1e10
"""A run has diverged at this loss, relative to the larger of ``‖T‖_F²`` and the loss at the start."""
STRETCH = 2000
"""After this many steps the runs that have ended are taken out of the batch."""
OBSERVED_NUMBERS = 2**24
"""The observations of one stretch may hold this many numbers, which take 128 MB."""


class Outcome(IntEnum):
    """The way in which a run ended."""

    STEP_LIMIT = state.RUNNING
    """Still moving after the last step."""
    CONVERGED = state.CONVERGED
    """The loss is at most ``1e-20 ‖T‖_F²``, and did not grow over the last 100 steps.

    If the target is zero, the loss is at most 1e-20 of the loss at the start. A run whose product is
    zero there has converged at once. A run that starts with a loss below 1e-280 but not zero never
    counts as converged, because its squares may underflow.
    """
    DIVERGED = state.DIVERGED
    """The loss passed 1e10 times the larger of ``‖T‖_F²`` and the loss at the start, or is not finite."""


@dataclass(frozen=True)
class DescentRun:
    """``B`` runs of gradient descent.

    Attributes:
        factors: The last iterates, each ``(B, d_i, d_{i-1})``; huge or NaN if the run has diverged.
        loss: ``(B,)``, the loss of ``factors``.
        steps: ``(B,)``, the number of steps taken.
        outcome: ``(B,)``, 0 at the last step, 1 converged, 2 diverged: see :class:`Outcome`.
        trajectory: The observations, or None if none were asked for.
        engine: The engine that was used, ``compiled`` or ``torch``.

    >>> starts = [torch.full((2, 1, 1), w, dtype=torch.float64) for w in (2.0, 0.4)]
    >>> target = torch.ones(1, 1, dtype=torch.float64)
    >>> run = gradient_descent(starts, target, step_size=[0.1, 0.6], steps=500)
    >>> run.outcome, run.steps  # converged, and diverged
    (tensor([1, 2]), tensor([100,   5]))
    """

    factors: list[Tensor]
    loss: Tensor
    steps: Tensor
    outcome: Tensor
    trajectory: Trajectory | None = None
    engine: EngineName = "torch"

    @property
    def observed(self) -> Trajectory:
        """The trajectory, if one was recorded.

        Raises:
            ValueError: None was.
        """
        if self.trajectory is None:
            raise ValueError("observe_every: expected a number of steps, to observe runs, got None")
        return self.trajectory


def _chosen_engine(request: Request) -> EngineName:
    """The engine to use: the compiled one if it was built and supports the request, else PyTorch."""
    reasons = (
        ("tensors on the CPU", request.target.device.type == "cpu"),
        (
            f"at most {compiled_engine.MOST_LAYERS} layers",
            len(request.factors) <= compiled_engine.MOST_LAYERS,
        ),
        ("a kernel that was built and loads", compiled_engine.available()),
    )
    missing = [reason for reason, met in reasons if not met]
    if request.engine == "compiled" and missing:
        raise ValueError(f"engine: expected {' and '.join(missing)} for 'compiled', got none")
    return "torch" if request.engine == "torch" or missing else "compiled"


def gradient_descent(
    factors: Factors,
    target: Tensor,
    step_size: Tensor | ArrayLike,
    steps: int,
    *,
    input_root: Tensor | None = None,
    observed: Tensor | None = None,
    observe_every: int | None = None,
    reference: Tensor | None = None,
    directions: Tensor | None = None,
    keep_path: bool = False,
    measure: Measure | None = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    minibatch: Minibatch | None = None,
    engine: Engine = "auto",
) -> DescentRun:
    """``W ← W − η ∇f(W)`` for ``f(W) = ‖T − W_{L:1} S‖_F²``, ``B`` runs at once.

    A run stops when it has converged (checked every 100 steps) or diverged (checked at every step);
    see :class:`Outcome`. The other runs go on without it. The arithmetic of a run does not depend on the
    other runs, on the number of threads, or on its place in the batch.

    With ``observed = ω`` the loss is ``Σ_ij ω_ij (T − W_{L:1} S)_ij²``, as in the completion of a matrix
    with missing entries, and ``Σ_ij ω_ij T_ij²`` takes the place of ``‖T‖_F²`` in :class:`Outcome`.

    With ``momentum = β`` it is the heavy-ball method, ``V ← βV − η∇f(W)``, ``W ← W + V``, which is stable
    at a minimizer for ``ηλ_max < 2 + 2β`` (Polyak, USSR Comput. Math. 4, 1964). With ``nesterov`` it is
    Nesterov's method, which is stable for ``ηλ_max < (2 + 2β)/(1 + 2β)``; its iterates are the points at
    which it takes the gradient.

    Everything is computed in float64, with sums of squares: a run whose squares overflow has diverged,
    and a displacement below 1e-150 may be recorded as zero. Results carry no autograd graph.

    Args:
        factors: Starts, ``W_i`` of shape ``(B, d_i, d_{i-1})``, float64.
        target: ``T``, shape ``(d_L, r)`` or ``(B, d_L, r)``, float64; zero, or of a Frobenius norm from
            1e-140 to 1e140.
        step_size: ``η``, a number or one per run, ``(B,)``: a tensor, an array or a list of real numbers
            of any type, each taken as it is.
        steps: The largest number of steps.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
        observed: Which entries of ``T`` are observed, a mask of truth values, or their nonnegative
            weights ``ω``, float64; of shape ``(d_L, r)`` or ``(B, d_L, r)``. None means all, with weight
            one. Entries of ``T`` with the weight zero are not read and may be NaN.
        observe_every: The number of steps between two observations; None records nothing.
        reference: The point that distances are measured from, flattened, ``(B, N)``, or ``(N,)`` for all
            runs; None means the start of each run.
        directions: Directions to project the displacement on, ``(B, P, N)``.
        keep_path: Record the iterates too, ``K B N`` numbers.
        measure: A function whose values at the iterates are recorded too, for instance their sharpness.
            It takes finite factors ``(n, d_i, d_{i-1})`` and returns a float64 tensor ``(n, Q)``. The
            iterates need not be recorded for it.
        momentum: ``β`` of the heavy ball, in ``[0, 1)``.
        nesterov: Use Nesterov's method in place of the heavy ball.
        minibatch: Take each step on part of the data; losses stay those of ``T`` and ``S``. Not with
            ``observed``.
        engine: ``compiled`` for the kernel in C, ``torch`` for PyTorch, or ``auto`` for the kernel if it
            was built and the tensors are on the CPU. The results differ by rounding.

    Raises:
        TypeError: A tensor is not a float64 tensor, or another argument is not of its type.
        ValueError: Shapes or devices do not fit, a value is not finite, a number is out of its range, or
            the engine does not support the request.
        MemoryError: The observations do not fit into memory.

    >>> start = [torch.full((1, 1, 1), w, dtype=torch.float64) for w in (2.0, 0.4)]
    >>> run = gradient_descent(start, torch.ones(1, 1, dtype=torch.float64), step_size=0.1, steps=500)
    >>> [round(float(W), 4) for W in run.factors]
    [2.0196, 0.4951]
    """
    request = checked_request(
        factors,
        target,
        step_size,
        steps,
        input_root=input_root,
        observed=observed,
        observe_every=observe_every,
        reference=reference,
        directions=directions,
        keep_path=keep_path,
        measure=measure,
        momentum=momentum,
        nesterov=nesterov,
        minibatch=minibatch,
        engine=engine,
    )
    with memory_told("gradient_descent"):
        return _descended(request, _chosen_engine(request))


def _stored(values: Tensor) -> Tensor:
    """Values in memory of their own, row by row from a cache line on, as the kernel reads them."""
    return values.clone(memory_format=torch.contiguous_format)


def _starting(request: Request) -> Runs:
    """The runs before their first step."""
    w, eta = flatten(request.factors), request.step_size
    batch, N = w.shape
    reference, directions = request.reference, request.directions
    # An engine changes the parameters in place. Without observations nothing is measured from the start.
    start = w.new_empty(batch, 0) if request.observe_every is None else w.clone()
    runs = Runs(
        widths=request.widths,
        w=w,
        velocity=torch.zeros_like(w) if request.momentum else None,
        target=_stored(request.target),
        observed=None if request.observed is None else _stored(request.observed),
        eta=eta.contiguous(),
        limit=DIVERGED_LOSS * request.scale,
        floor=CONVERGED_LOSS * request.scale,
        previous=torch.full_like(eta, -torch.inf),  # so that no run ends at its first step
        outcome=torch.full((batch,), state.RUNNING, device=w.device),
        taken=torch.zeros(batch, dtype=torch.int64, device=w.device),
        loss=torch.full_like(eta, torch.nan),
        reference=start if reference is None else reference,
        directions=w.new_zeros(batch, 0, N) if directions is None else directions,
    )
    zero = request.scale == 0
    if bool(zero.any()):
        start, there = zero_starts(request.factors, request.input_root, request.observed)
        # A floor of −1, which no loss reaches, keeps a run whose loss may have underflowed from converging.
        floor = torch.where(
            start >= LEAST_LOSS, CONVERGED_LOSS * start, torch.where(there, 0.0, -1.0)
        )
        runs.floor = torch.where(zero, floor, runs.floor)
        runs.limit = torch.where(zero, DIVERGED_LOSS * LEAST_LOSS, runs.limit)
        runs.previous = torch.where(zero & there, 0.0, runs.previous)
    return runs


def _descended(request: Request, engine: EngineName) -> DescentRun:
    """All runs to their ends, stretch by stretch; after each the runs that have ended leave the batch."""
    advance = compiled_engine.advance if engine == "compiled" else torch_engine.advance
    method = Method(
        momentum=request.momentum,
        nesterov=request.nesterov,
        input_root=request.input_root,
        check_every=CHECK_EVERY,
        growth=DIVERGED_LOSS,
        minibatch=request.minibatch,
    )
    every = request.observe_every
    follow = request.keep_path or request.measure is not None
    runs = _starting(request)
    batch = len(runs.w)
    alive = torch.arange(batch, device=runs.w.device)  # the numbers of the runs still in the batch
    pieces: list[tuple[range, Tensor, Observed]] = []
    parts: list[tuple[Tensor, ...]] = []  # the runs that have ended: their numbers and results
    taken = 0
    while True:
        # The steps of this stretch.
        stretch = min(_stretch(runs, every, follow), request.steps - taken)
        final = taken + stretch == request.steps
        seen = advance(runs, method, taken, stretch, final, every, follow)

        # The observations in it, as far as they were asked for.
        if seen is not None and every is not None:
            before = pieces[0][2] if pieces else None
            times = observation_steps(taken, stretch, final, every)
            pieces.append((times, alive, kept(seen, before, request)))
        taken += stretch

        # The runs that have ended, which leave the batch.
        present = (alive, runs.w, runs.loss, runs.taken, runs.outcome)
        ended = runs.outcome != state.RUNNING
        if final or bool(ended.all()):
            parts.append(present)
            break
        if bool(ended.any()):
            parts.append(tuple(values[ended] for values in present))
            alive, runs = alive[~ended], runs.select(~ended)
    w, loss, count, outcome = _in_order(parts)
    trajectory = None if every is None else assembled(pieces, batch, int(count.max()))
    return DescentRun(unflatten(w, runs.widths), loss, count, outcome, trajectory, engine)


def _in_order(parts: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """The columns of all runs in their original order, from parts that begin with the runs' numbers."""
    if len(parts) == 1:
        return list(parts[0][1:])
    numbers, *columns = (torch.cat(column) for column in zip(*parts, strict=True))
    order = numbers.argsort()
    return [column[order] for column in columns]


def _stretch(runs: Runs, observe_every: int | None, keep_path: bool) -> int:
    """The length of the next stretch: a multiple of ``CHECK_EVERY`` whose observations fit into memory."""
    if observe_every is None:
        return STRETCH
    numbers = 2 + runs.directions.shape[1] + (runs.w.shape[1] if keep_path else 0)
    fitting = OBSERVED_NUMBERS // (len(runs.eta) * numbers) * observe_every
    return max(CHECK_EVERY, min(STRETCH, fitting // CHECK_EVERY * CHECK_EVERY))
