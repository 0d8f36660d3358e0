"""The observations of runs of gradient descent: collected stretch by stretch, and put together at the end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_tensor
from dmf_sharpness.descent.arguments import Measure, Request
from dmf_sharpness.descent.state import Observed
from dmf_sharpness.network.factors import unflatten


@dataclass(frozen=True)
class Trajectory:
    """Observations of ``B`` runs at ``K`` times; NaN after a run has ended.

    Attributes:
        step: ``(K,)``, the number of steps taken.
        loss: ``(K, B)``.
        distance: ``(K, B)``, Euclidean distance from the reference in parameter space. A distance below
            1e-150 may be recorded as zero, and one above 1e150 as infinite, because squares are summed.
        projections: ``(K, B, P)``, components of that displacement along the given directions.
        path: ``(K, B, N)``, the iterates, flattened; None unless they were asked for.
        measured: ``(K, B, Q)``, the values of ``measure`` at the iterates; None without ``measure``.
    """

    step: Tensor
    loss: Tensor
    distance: Tensor
    projections: Tensor
    path: Tensor | None = None
    measured: Tensor | None = None

    @property
    def iterates(self) -> Tensor:
        """The iterates ``(K, B, N)``, if they were recorded.

        Raises:
            ValueError: They were not.
        """
        if self.path is None:
            raise ValueError("keep_path: expected True, to have the iterates, got False")
        return self.path


def kept(seen: Observed, before: Observed | None, request: Request) -> Observed:
    """The part of a stretch's observations that the request asks for.

    Args:
        seen: All observations, with the iterates if ``measure`` needs them.
        before: The observations of the first stretch; None if this is the first.
        request: The checked arguments.
    """
    if request.measure is not None:
        columns = None if before is None or before.measured is None else before.measured.shape[2]
        measured = _measured(seen, request.measure, request.widths, columns)
        seen = replace(seen, measured=measured)
    return seen if request.keep_path else replace(seen, path=None)


def _measured(
    seen: Observed, measure: Measure, shape: tuple[int, ...], columns: int | None
) -> Tensor:
    """The values of ``measure`` at the iterates, ``(K, B, Q)``; NaN where a run had ended."""
    path = seen.iterates
    there = torch.isfinite(path).all(-1)
    points = path[there]
    if len(points):
        numbers = checked_tensor(
            measure(unflatten(points, shape)),
            "measure",
            (len(points), columns),
            device=points.device,
            finite=False,
        )
    else:  # no observation falls into this stretch
        numbers = points.new_empty(0, columns or 0)
    measured = seen.loss.new_full((*seen.loss.shape, numbers.shape[-1]), torch.nan)
    measured[there] = numbers
    return measured


def assembled(
    pieces: Sequence[tuple[range, Tensor, Observed]], batch: int, last: int
) -> Trajectory:
    """The observations of all stretches in one table of all runs, NaN where a run had ended.

    Times after ``last``, the step at which the last run ended, are left out.
    """
    steps = [step for times, _, _ in pieces for step in times]
    count = sum(step <= last for step in steps)

    def gathered(name: str) -> Tensor:
        parts = [getattr(seen, name) for _, _, seen in pieces]
        table, row = parts[0].new_full((len(steps), batch, *parts[0].shape[2:]), torch.nan), 0
        for (times, alive, _), part in zip(pieces, parts, strict=True):
            table[row : row + len(times), alive] = part
            row += len(times)
        return table[:count]

    first = pieces[0][2]
    return Trajectory(
        torch.tensor(steps[:count], dtype=torch.int64, device="cpu"),
        gathered("loss"),
        gathered("distance"),
        gathered("projections"),
        None if first.path is None else gathered("path"),
        None if first.measured is None else gathered("measured"),
    )
