"""What runs underneath :func:`dmf_sharpness.descent.gradient_descent`: the state, and PyTorch.

An engine takes a batch of :class:`Runs` some steps further. There are two, of one contract: the
compiled kernel (:mod:`dmf_sharpness.kernels`), and :func:`advance` here, which needs nothing but
PyTorch, runs on any device, and takes minibatches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.factors import unflatten

RUNNING, CONVERGED, DIVERGED = 0, 1, 2


@dataclass(frozen=True)
class Minibatch:
    """Training on a random part of the data at each step.

    The gradient of a step is ``n/size`` times that of the loss on ``size`` of the ``n`` columns,
    drawn without replacement: its mean is the gradient of the whole loss. All runs of a batch see
    the same columns, drawn from ``(seed, step)``, so that a run does not depend on the others.

    Attributes:
        inputs: ``X``, shape ``(d_0, n)``.
        outputs: ``Y``, shape ``(d_L, n)``.
        size: Columns per step, from 1 to ``n``.
        seed: Seed of the draws.
    """

    inputs: Tensor
    outputs: Tensor
    size: int
    seed: int

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Target and input root of one step, scaled by ``(n/size)^{1/2}``."""
        count = self.inputs.shape[1]
        rng = np.random.default_rng([self.seed, step])
        chosen = torch.from_numpy(rng.choice(count, self.size, replace=False))
        scale = (count / self.size) ** 0.5
        return scale * self.outputs[:, chosen], scale * self.inputs[:, chosen]


@dataclass(frozen=True)
class Method:
    """The rule of a step, the same for all runs.

    Attributes:
        momentum: ``β``; 0 is plain gradient descent.
        nesterov: Take the gradient at the point that the momentum alone would reach.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
        check_every: Steps between two looks at convergence.
        growth: A run's limit is at least so many times its loss at step 0.
        minibatch: Draws part of the data for each step; None uses all of it.
    """

    momentum: float
    nesterov: bool
    input_root: Tensor | None
    check_every: int
    growth: float
    minibatch: Minibatch | None = None


@dataclass
class Runs:
    """``B`` runs under way; an engine updates it in place.

    Attributes:
        widths: ``(d_0, …, d_L)``.
        w: Parameters, ``(B, N)``.
        velocity: Of momentum, ``(B, N)``; None without.
        target: ``T``, shape ``(B, d_L, r)``.
        eta: Step sizes, ``(B,)``.
        limit: A run with a loss above it, or NaN, has diverged; ``(B,)``, raised at step 0.
        floor: A run with a loss not above it, not growing, has converged; ``(B,)``.
        previous: The loss at the last look at convergence, ``(B,)``.
        outcome: 0 running, 1 converged, 2 diverged; ``(B,)``, int64.
        taken: Steps taken, ``(B,)``, int64.
        loss: At the last iterate of the last advance, ``(B,)``.
        reference: Point that distances are measured from, ``(B, N)``.
        directions: Directions to project the displacement on, ``(B, P, N)``.
    """

    widths: tuple[int, ...]
    w: Tensor
    velocity: Tensor | None
    target: Tensor
    eta: Tensor
    limit: Tensor
    floor: Tensor
    previous: Tensor
    outcome: Tensor
    taken: Tensor
    loss: Tensor
    reference: Tensor
    directions: Tensor

    def select(self, which: Tensor) -> "Runs":
        """The runs of the given numbers or mask, as a copy."""
        return Runs(
            self.widths,
            *(
                None if value is None else value[which].contiguous()
                for name, value in vars(self).items()
                if name != "widths"
            ),  # type: ignore[arg-type]  # fields in order, each a tensor but for velocity
        )


@dataclass(frozen=True)
class Observed:
    """Observations of ``B`` runs at ``K`` times, NaN where a run had ended.

    Attributes:
        loss: ``(K, B)``.
        distance: ``(K, B)``, Euclidean, from the reference.
        projections: ``(K, B, P)``.
        path: ``(K, B, N)``, the iterates themselves; None if they were not asked for.
        measured: ``(K, B, Q)``, numbers made of the iterates; None if none were asked for.
    """

    loss: Tensor
    distance: Tensor
    projections: Tensor
    path: Tensor | None
    measured: Tensor | None = None


def observation_steps(first: int, steps: int, final: bool, every: int) -> range:
    """The steps of an advance at which runs are observed."""
    start = -(-first // every) * every
    return range(start, first + steps + (1 if final else 0), every)


def _loss_and_gradient(
    W: Sequence[Tensor], gradient: Sequence[Tensor], target: Tensor, input_root: Tensor | None
) -> Tensor:
    """The loss ``(B,)``; the gradients are written into ``gradient``. One sweep up, one down."""
    signals = [W[0] if input_root is None else W[0] @ input_root]
    for layer in W[1:]:
        signals.append(layer @ signals[-1])
    residual = signals[-1] - target
    back = 2 * residual
    for i in range(len(W) - 1, 0, -1):
        torch.matmul(back, signals[i - 1].mT, out=gradient[i])
        back = W[i].mT @ back
    gradient[0].copy_(back if input_root is None else back @ input_root.mT)
    return residual.square().sum((-2, -1))


def advance(
    runs: Runs,
    method: Method,
    first: int,
    steps: int,
    final: bool,
    observe_every: int | None,
    keep_path: bool,
) -> Observed | None:
    """Take runs from step ``first`` to ``first + steps``, in place; with PyTorch.

    Args:
        runs: The runs; those that have ended are left alone.
        method: The rule of a step.
        first: Steps taken so far.
        steps: Steps to take.
        final: Whether the runs end there: then the last iterate is judged and observed too, which
            is otherwise the first act of the next advance.
        observe_every: Observe at multiples of this step; None observes nothing.
        keep_path: Observe the iterates themselves, too.
    """
    w, velocity = runs.w, runs.velocity
    gradient = torch.empty_like(w)
    W, G = unflatten(w, runs.widths), unflatten(gradient, runs.widths)
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []
    beta = method.momentum
    for step in range(first, first + steps + 1):
        ending = step == first + steps
        runs.loss = _loss_and_gradient(W, G, runs.target, method.input_root)
        if ending and not final:
            break
        live = runs.outcome == RUNNING
        if observe_every is not None and step % observe_every == 0:
            rows.append(_observation(runs, live, keep_path))
        if step == 0:
            # A finite limit, so that an infinite loss is above it.
            grown = (method.growth * runs.loss).clamp(max=torch.finfo(w.dtype).max)
            runs.limit = torch.maximum(runs.limit, grown)
        runs.outcome[live & ~(runs.loss <= runs.limit)] = DIVERGED
        if step % method.check_every == 0 or ending:
            settled = (runs.loss <= runs.floor) & (runs.loss <= runs.previous)
            runs.outcome[(runs.outcome == RUNNING) & settled] = CONVERGED
            runs.previous = runs.loss
            if ending or not bool((runs.outcome == RUNNING).any()):
                break
        if method.minibatch is not None:
            part, root = method.minibatch.draw(step)
            _loss_and_gradient(W, G, part.to(w), root.to(w))
        live = runs.outcome == RUNNING
        runs.taken += live
        # A gradient that has overflowed must not touch the last finite iterate of its run.
        shift = torch.where(live[:, None], gradient, 0.0).mul_(-runs.eta[:, None])
        if velocity is not None:
            moved = torch.addcmul(
                shift, velocity, torch.tensor(beta, dtype=w.dtype, device=w.device)
            )
            velocity.copy_(torch.where(live[:, None], moved, velocity))
            shift = shift + beta * moved if method.nesterov else moved
            shift = torch.where(live[:, None], shift, 0.0)
        w.add_(shift)
    if observe_every is None:
        return None
    return _assembled(rows, runs, observation_steps(first, steps, final, observe_every), keep_path)


def _observation(
    runs: Runs, live: Tensor, keep_path: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    shift = runs.w - runs.reference
    along = torch.einsum("bpn,bn->bp", runs.directions, shift)
    ended = ~live
    return (
        runs.loss.masked_fill(ended, torch.nan),
        torch.linalg.vector_norm(shift, dim=1).masked_fill(ended, torch.nan),
        along.masked_fill(ended[:, None], torch.nan),
        runs.w.masked_fill(ended[:, None], torch.nan) if keep_path else None,
    )


def _assembled(
    rows: Sequence[tuple[Tensor, Tensor, Tensor, Tensor | None]],
    runs: Runs,
    times: range,
    keep_path: bool,
) -> Observed:
    """One row per time; NaN after the last run has ended."""
    batch, axes, size = runs.w.shape[0], runs.directions.shape[1], runs.w.shape[1]
    loss = runs.w.new_full((len(times), batch), torch.nan)
    distance, projections = loss.clone(), loss.new_full((len(times), batch, axes), torch.nan)
    path = loss.new_full((len(times), batch, size), torch.nan) if keep_path else None
    for k, (values, distances, along, points) in enumerate(rows):
        loss[k], distance[k], projections[k] = values, distances, along
        if path is not None and points is not None:
            path[k] = points
    return Observed(loss, distance, projections, path)
