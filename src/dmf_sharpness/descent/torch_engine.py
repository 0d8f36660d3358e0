"""The PyTorch engine of gradient descent, for any device; tests compare the compiled engine with it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_sharpness.descent.state import (
    CONVERGED,
    DIVERGED,
    RUNNING,
    Method,
    Observed,
    Runs,
    observation_steps,
)
from dmf_sharpness.network.factors import unflatten


def _loss_and_gradient(
    W: Sequence[Tensor],
    gradient: Sequence[Tensor],
    target: Tensor,
    input_root: Tensor | None,
    observed: Tensor | None = None,
) -> Tensor:
    """The loss ``(B,)``; writes the gradients into ``gradient``. One forward pass and one backward pass."""
    signals = [W[0] if input_root is None else W[0] @ input_root]
    for layer in W[1:]:
        signals.append(layer @ signals[-1])
    residual = signals[-1] - target
    weighted = residual if observed is None else observed * residual
    back = 2 * weighted
    for i in range(len(W) - 1, 0, -1):
        torch.matmul(back, signals[i - 1].mT, out=gradient[i])
        back = W[i].mT @ back
    gradient[0].copy_(back if input_root is None else back @ input_root.mT)
    return (weighted * residual).sum((-2, -1))


def advance(
    runs: Runs,
    method: Method,
    first: int,
    steps: int,
    final: bool,
    observe_every: int | None,
    keep_path: bool,
) -> Observed | None:
    """Take runs from step ``first`` to ``first + steps``, in place.

    Args:
        runs: The runs; those that have ended are not changed.
        method: The rule of a step.
        first: The number of steps taken so far.
        steps: The number of steps to take.
        final: Whether the runs end at ``first + steps``. If so, the last iterate is checked and observed
            here; otherwise the next call does that first.
        observe_every: Runs are observed at multiples of this step; None observes nothing.
        keep_path: Whether the iterates are observed too.

    Returns:
        The observations, or None without ``observe_every``.
    """
    w, velocity = runs.w, runs.velocity
    gradient = torch.empty_like(w)
    W, G = unflatten(w, runs.widths), unflatten(gradient, runs.widths)
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []
    beta = method.momentum
    for step in range(first, first + steps + 1):
        ending = step == first + steps
        runs.loss = _loss_and_gradient(W, G, runs.target, method.input_root, runs.observed)
        if ending and not final:
            break
        live = runs.outcome == RUNNING
        if observe_every is not None and step % observe_every == 0:
            rows.append(_observation(runs, live, keep_path))
        if step == 0:
            # The limit is kept finite, so that an infinite loss is above it.
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
    """The observations with one row per time; NaN after the last run has ended."""
    batch, axes, size = runs.w.shape[0], runs.directions.shape[1], runs.w.shape[1]
    loss = runs.w.new_full((len(times), batch), torch.nan)
    distance, projections = loss.clone(), loss.new_full((len(times), batch, axes), torch.nan)
    path = loss.new_full((len(times), batch, size), torch.nan) if keep_path else None
    for k, (values, distances, along, points) in enumerate(rows):
        loss[k], distance[k], projections[k] = values, distances, along
        if path is not None and points is not None:
            path[k] = points
    return Observed(loss, distance, projections, path)
