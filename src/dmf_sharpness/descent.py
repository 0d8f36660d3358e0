"""Gradient descent on an ensemble: many runs of one shape at once, each with its own step size."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from dmf_sharpness.factors import Factors, check_factors, flatten, unflatten, widths

CHECK_EVERY = 100
CONVERGED_LOSS = 1e-20
DIVERGED_LOSS = 1e10


class Outcome(IntEnum):
    """How a run ended. Losses are relative to ``‖T‖_F²``."""

    STEP_LIMIT = 0
    """Still moving after the last step."""
    CONVERGED = 1
    """The loss is at most 1e-20, and did not grow over the last 100 steps."""
    DIVERGED = 2
    """The loss passed 1e10 or is not finite."""


@dataclass(frozen=True)
class Trajectory:
    """What was observed of ``B`` runs at ``K`` times; NaN after a run has ended.

    Attributes:
        step: ``(K,)``, the number of steps taken.
        loss: ``(K, B)``.
        distance: ``(K, B)``, Euclidean distance from the reference in parameter space.
        projections: ``(K, B, P)``, components of that displacement along the given directions.
    """

    step: Tensor
    loss: Tensor
    distance: Tensor
    projections: Tensor


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
    if not bool(torch.isfinite(target).all()):
        raise ValueError("target: expected finite values, got NaN or Inf")
    return eta, target.expand(batch, *target.shape[-2:])


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
) -> DescentRun:
    """``W ← W − η ∇f(W)`` for ``f(W) = ‖T − W_{L:1} S‖_F²``, ``B`` runs at once.

    A run stops by itself when it has converged or diverged (:class:`Outcome`; looked at every 100
    steps); the others go on without it, and no run's arithmetic depends on its neighbours'.

    Args:
        factors: Starts, ``W_i`` of shape ``(B, d_i, d_{i-1})``, float64.
        target: ``T``, shape ``(d_L, r)`` or ``(B, d_L, r)``.
        step_size: ``η``, a number or one per run, ``(B,)``.
        steps: Most steps to take.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
        observe_every: Record the trajectory every so many steps; None records nothing.
        reference: Point that the distance is measured from, flattened, ``(B, N)``; default the start.
        directions: Directions to project the displacement on, ``(B, P, N)``.

    Raises:
        TypeError: A factor is not a float64 tensor.
        ValueError: Shapes do not fit, a value is not finite, a step size or ``steps`` is not
            positive.
    """
    eta, target = _checked_problem(factors, target, step_size, steps)
    batch, layer_widths = len(eta), widths(factors)
    w = flatten(factors).clone()
    origin = w.clone() if reference is None else reference
    axes = w.new_zeros(batch, 0, w.shape[1]) if directions is None else directions
    scale = target.square().sum((-2, -1))

    final, final_loss = w.clone(), w.new_full((batch,), torch.nan)
    outcome = torch.full((batch,), int(Outcome.STEP_LIMIT))
    taken = torch.full((batch,), steps)
    observed: list[tuple[int, Tensor, Tensor, Tensor, Tensor]] = []

    alive = torch.arange(batch, device=w.device)
    last_checked = w.new_full((batch,), -torch.inf)  # a start is never taken for an end
    gradient = torch.empty_like(w)
    W, G = unflatten(w, layer_widths), unflatten(gradient, layer_widths)
    for step in range(steps + 1):
        loss = _loss_and_gradient(W, G, target[alive] if len(alive) < batch else target, input_root)
        if observe_every is not None and step % observe_every == 0:
            shift = w - origin[alive]
            along = torch.einsum("bpn,bn->bp", axes[alive], shift)
            observed.append((step, alive, loss, torch.linalg.vector_norm(shift, dim=1), along))
        if step % CHECK_EVERY == 0 or step == steps:
            share = loss / scale[alive]
            diverged = ~(share <= DIVERGED_LOSS)
            converged = (share <= CONVERGED_LOSS) & (loss <= last_checked)
            ended = diverged | converged
            last_checked = loss
            if bool(ended.any()) or step == steps:
                done = alive[ended]
                outcome[done] = torch.where(
                    diverged[ended], int(Outcome.DIVERGED), int(Outcome.CONVERGED)
                )
                taken[done] = step
                leaving = ended if step < steps else torch.ones_like(ended)
                final[alive[leaving]], final_loss[alive[leaving]] = w[leaving], loss[leaving]
                stay = ~leaving
                alive, w, last_checked = alive[stay], w[stay], last_checked[stay]
                gradient = torch.empty_like(w)
                W, G = unflatten(w, layer_widths), unflatten(gradient, layer_widths)
                if not len(alive):
                    break
                if step < steps:
                    _loss_and_gradient(W, G, target[alive], input_root)
        w.addcmul_(eta[alive, None] if len(alive) < batch else eta[:, None], gradient, value=-1)

    trajectory = None
    if observe_every is not None:
        trajectory = _assemble(observed, batch, axes.shape[1])
    return DescentRun(unflatten(final, layer_widths), final_loss, taken, outcome, trajectory)


def _assemble(
    observed: Sequence[tuple[int, Tensor, Tensor, Tensor, Tensor]], batch: int, axes: int
) -> Trajectory:
    """Put the observations of whichever runs were alive into rows of all runs, NaN elsewhere."""
    times = len(observed)
    device = observed[0][2].device
    loss = torch.full((times, batch), torch.nan, dtype=torch.float64, device=device)
    distance, projections = loss.clone(), loss.new_full((times, batch, axes), torch.nan)
    for k, (_, alive, values, distances, along) in enumerate(observed):
        loss[k, alive], distance[k, alive], projections[k, alive] = values, distances, along
    step = torch.tensor([row[0] for row in observed])
    return Trajectory(step, loss, distance, projections)
