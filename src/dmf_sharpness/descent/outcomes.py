"""Outcomes of runs that start beside a minimizer, and the criteria that distinguish them."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.descent.run import DescentRun, Outcome, gradient_descent
from dmf_sharpness.network.problem import Problem

ESCAPE_FACTOR = 10.0
"""A run has escaped when it is this many times farther from the minimizer than it started."""
RETURN_FACTOR = 2.0
"""A converged run has returned if it ends within this many times the distance at which it started.

It need not end at the minimizer, because a displacement along the set of minimizers does not decay.
"""
PERIOD_TOLERANCE = 1e-6
"""A periodic orbit must come back to its start to this distance, relative to its longest step."""
LONGEST_PERIOD = 32
"""Orbits of a longer period count as not periodic."""
WINDOWS, WINDOW = 8, 128
"""A run at the step limit is followed through this many windows of this many steps each."""
CLOSE_WATCH = 2 * LONGEST_PERIOD
"""For this many further steps all iterates are kept, to look for a period."""
_CHUNK = 512
"""The paths of this many runs are held in memory at once."""


class EscapeOutcome(IntEnum):
    """The outcome of a run that started beside a minimizer."""

    UNDECIDED = 0
    """At the step limit: neither returned nor escaped, or escaped and still settling."""
    RETURNED = 1
    """Converged within twice its initial distance from the minimizer, and never ten times as far from it."""
    LANDED = 2
    """Converged to another minimizer: it ends farther away, or was ten times as far on the way."""
    PERIOD_TWO = 3
    """Escaped; at the step limit it alternates between two points."""
    BOUNDED = 4
    """Escaped; at the step limit it stays bounded, on an orbit of higher period or on no periodic one."""
    DIVERGED = 5
    """Escaped to infinity."""

    @property
    def escaped(self) -> bool:
        """Whether the run is known to have left the minimizer for good."""
        return self not in (EscapeOutcome.UNDECIDED, EscapeOutcome.RETURNED)


@dataclass(frozen=True)
class Watch:
    """The behaviour of ``B`` runs that have reached the step limit, as seen in some further steps.

    Attributes:
        period: ``(B,)``. The least period from 2 to 32 with which the orbit closes to 1e-6 of its
            longest step; 0 if there is none.
        settling: ``(B,)``. True for a run without a period that either ended in the further steps, or
            whose largest loss fell from window to window, through eight windows of 128 steps. The loss of
            a bounded orbit fluctuates, and falls eight times in a row with a probability of about 1/8!.
    """

    period: Tensor
    settling: Tensor


def watch(factors: list[Tensor], problem: Problem, step_size: Tensor) -> Watch:
    """Take runs ``8 · 128 + 64`` steps further, and find out whether they are periodic or settle."""
    period, settling = [], []
    for first in range(0, len(step_size), _CHUNK):
        part = slice(first, first + _CHUNK)
        here = [W[part] for W in factors]
        one = _watch_chunk(here, problem.chosen(part), step_size[part])
        period.append(one.period)
        settling.append(one.settling)
    return Watch(torch.cat(period), torch.cat(settling))


def _watch_chunk(factors: list[Tensor], problem: Problem, step_size: Tensor) -> Watch:
    def on(start: list[Tensor], steps: int, keep_path: bool) -> DescentRun:
        return gradient_descent(
            start,
            problem.target,
            step_size,
            steps,
            input_root=problem.input_root,
            observe_every=1,
            keep_path=keep_path,
        )

    longer = on(factors, WINDOWS * WINDOW, keep_path=False)
    ended = longer.outcome != int(Outcome.STEP_LIMIT)
    loss = longer.observed.loss
    if len(loss) > WINDOWS * WINDOW:
        envelope = loss[: WINDOWS * WINDOW].reshape(WINDOWS, WINDOW, -1).amax(1)
        falling = (envelope[1:] < envelope[:-1]).all(0)
    else:  # all runs have ended
        falling = ended
    close = on(longer.factors, CLOSE_WATCH, keep_path=True)
    period = _period(close.observed.iterates)
    period[ended] = 0
    return Watch(period, (ended | falling) & (period == 0))


def _period(path: Tensor) -> Tensor:
    """The least period of orbits ``(K, B, N)``; 0 for an orbit that stands still or does not close."""
    norm = torch.linalg.vector_norm
    if len(path) <= LONGEST_PERIOD:  # all runs have ended
        return torch.zeros(path.shape[1], dtype=torch.int64)
    longest = norm(path[1:] - path[:-1], dim=-1).amax(0)
    moving = longest > PERIOD_TOLERANCE * norm(path[0], dim=-1)
    period = torch.zeros(path.shape[1], dtype=torch.int64)
    for p in range(LONGEST_PERIOD, 1, -1):
        gap = norm(path[p:] - path[:-p], dim=-1).amax(0)
        period[moving & (gap <= PERIOD_TOLERANCE * longest)] = p
    return period


def classify(
    run: DescentRun,
    radius: Tensor,
    farthest: Tensor,
    last: Tensor,
    problem: Problem,
    step_size: Tensor,
) -> tuple[list[EscapeOutcome], np.ndarray]:
    """Name the outcome of each run, and the period of those that have one.

    Args:
        run: ``B`` runs of plain gradient descent.
        radius: Distance between the start and the minimizer, ``(B,)``.
        farthest: Largest distance from the minimizer during the run, ``(B,)``.
        last: Distance at the end, ``(B,)``.
        problem: ``T``, shape ``(B, d_L, r)``, and ``S``.
        step_size: ``η``, shape ``(B,)``.

    Returns:
        ``B`` outcomes, and ``(B,)`` periods, 0 where there is none.
    """
    left = farthest >= ESCAPE_FACTOR * radius
    at_limit = run.outcome == int(Outcome.STEP_LIMIT)
    period = torch.zeros(len(left), dtype=torch.int64)
    settling = torch.zeros_like(left)
    moving = left & at_limit
    if bool(moving.any()):
        seen = watch([W[moving] for W in run.factors], problem.chosen(moving), step_size[moving])
        period[moving], settling[moving] = seen.period, seen.settling
    outcomes = []
    for b, code in enumerate(run.outcome.tolist()):
        if code == Outcome.DIVERGED:
            outcomes.append(EscapeOutcome.DIVERGED)
        elif code == Outcome.CONVERGED:
            near = not left[b] and last[b] <= RETURN_FACTOR * radius[b]
            outcomes.append(EscapeOutcome.RETURNED if near else EscapeOutcome.LANDED)
        elif period[b] == 2:
            outcomes.append(EscapeOutcome.PERIOD_TWO)
        elif moving[b] and not settling[b]:
            outcomes.append(EscapeOutcome.BOUNDED)
        else:
            outcomes.append(EscapeOutcome.UNDECIDED)
    return outcomes, period.numpy()
