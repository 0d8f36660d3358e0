"""Gradient descent from beside a minimizer: does it leave, how fast, and where does it end up.

With the *step ratio* ``c = η λ_max / 2``, a displacement along the top eigenvector is multiplied by
``1 − η λ_max = 1 − 2c`` at every step as long as it is small: it dies out for ``c < 1`` and grows for
``c > 1``, the loss by the square of that factor.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dmf_sharpness.descent.outcomes import ESCAPE_FACTOR, EscapeOutcome
from dmf_sharpness.descent.run import Trajectory
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import EscapeSpec
from dmf_sharpness.studies.common import crossed, growth_per_step, settle, sites_of
from dmf_sharpness.studies.landscape import flattening_directions


@dataclass(frozen=True)
class Escapes:
    """Runs from beside minimizers, one row of ``table`` for each.

    Attributes:
        table: See :func:`study` for the columns.
        trajectory: Every step of every run, in the order of the rows; projections on ``v_1`` and
            ``v_N``.
    """

    table: pd.DataFrame
    trajectory: Trajectory


def study(ensemble: Ensemble, spec: EscapeSpec) -> Escapes:
    """Leave some minimizers along ``v_1``, with every step ratio, from every radius.

    Returns:
        A row for each minimizer (slowest), step ratio and radius (fastest), with the columns of
        :meth:`dmf_sharpness.experiments.ensembles.Ensemble.rows` and
        ``step_ratio``, ``step_size``, ``radius``, ``sharpness``
        (at the start), ``outcome``, ``period`` (of a periodic orbit, else 0), ``escaped``,
        ``steps``, ``loss`` (at the end, above the least),
        ``farthest`` (largest distance from the minimizer), ``distance`` (the last one), ``growth``
        (measured factor per step in the linear phase, NaN where the run has none long enough),
        ``predicted_growth`` (``|1 − ηλ_max|``), ``end_ratio`` (``ηλ/2`` where it landed, else NaN), and
        ``flat_sharpness`` (NaN with inputs, where it has no closed form).
    """
    chosen = _evenly(len(ensemble.kinds), spec.minimizers)
    sites = sites_of(ensemble.chosen(chosen))
    slopes = flattening_directions(sites.factors(), sites.problem)
    number, ratio, radius = crossed(torch.arange(len(chosen)), spec.step_ratios, spec.radii)
    index = number.long()
    step_size = 2 * ratio / sites.closed_form[index]
    end = settle(
        sites,
        index,
        radius[:, None] * sites.top[index],
        step_size,
        spec.steps,
        observe_every=1,
        directions=torch.stack([sites.top, slopes], dim=1)[index],
    )
    path = end.run.observed
    norm = torch.linalg.vector_norm(sites.centre[index], dim=1)
    # A run that has left and is still settling is undecided only about where it will end.
    left = end.farthest >= ESCAPE_FACTOR * radius.numpy()
    escaped = [EscapeOutcome[name.upper()].escaped for name in end.outcome]
    table = ensemble.rows(chosen[index.numpy()]).assign(
        step_ratio=ratio.numpy(),
        step_size=step_size.numpy(),
        radius=radius.numpy(),
        sharpness=sites.closed_form[index].numpy(),
        outcome=end.outcome,
        period=end.period,
        escaped=np.array(escaped) | left,
        steps=end.run.steps.numpy(),
        loss=end.run.loss.numpy(),
        farthest=end.farthest,
        distance=end.last,
        growth=growth_per_step(path.projections[:, :, 0], norm),
        predicted_growth=(1 - 2 * ratio).abs().numpy(),
        end_ratio=np.where(end.outcome == "landed", end.end_ratio, np.nan),
        flat_sharpness=sites.flat[index].numpy(),
    )
    return Escapes(table, path)


def _evenly(count: int, most: int) -> np.ndarray:
    """The numbers of at most so many minimizers, evenly spaced over all of them."""
    places = np.linspace(0, count - 1, min(most, count))
    return np.unique(places.round().astype(int))


def recorded_paths(escapes: Escapes, kind: str | None) -> pd.DataFrame:
    """The paths that leave the first minimizer of a kind, a row per run and step; none without a kind."""
    table, path = escapes.table, escapes.trajectory
    first = table[table.kind == kind].minimizer.unique()[:1]
    frames = [pd.DataFrame(columns=["network", "minimizer", "step_ratio", "radius", "step"])]
    for b in np.flatnonzero(table.minimizer.isin(first)):
        steps = int(table.steps.iloc[b]) + 1
        frame = table.iloc[np.full(steps, b)][["network", "minimizer", "step_ratio", "radius"]]
        frames.append(
            frame.assign(
                step=path.step[:steps].numpy(),
                loss=path.loss[:steps, b].numpy(),
                distance=path.distance[:steps, b].numpy(),
                along_top=path.projections[:steps, b, 0].numpy(),
                along_flattening=path.projections[:steps, b, 1].numpy(),
            )
        )
    return pd.concat(frames[1:] or frames, ignore_index=True)
