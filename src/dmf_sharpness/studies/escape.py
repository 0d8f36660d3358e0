"""Gradient descent from points beside a minimizer: whether it leaves, how fast, and where it ends.

Let ``c = η λ_max / 2`` be the *step ratio*. As long as a displacement along the top eigenvector is small,
every step multiplies it by ``1 − η λ_max = 1 − 2c``, and the loss by the square of that. So the
displacement decays for ``c < 1`` and grows for ``c > 1``.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dmf_sharpness.descent.outcomes import ESCAPE_FACTOR, EscapeOutcome
from dmf_sharpness.descent.trajectory import Trajectory
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import EscapeSpec
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.studies.common import crossed, growth_per_step, settle, sites_of
from dmf_sharpness.studies.landscape import flattening_directions

RECORDED = [
    "network", "minimizer", "step_ratio", "radius", "step", "loss", "distance", "along_top",
    "along_flattening",
]  # fmt: skip
"""The columns of recorded runs, also where none is recorded."""


@dataclass(frozen=True)
class Escapes:
    """Runs that started beside minimizers, one row of ``table`` for each.

    Attributes:
        table: The columns are those that :func:`study` lists.
        trajectory: Every step of every run, in the order of the rows, with projections on ``v_1`` and
            ``v_N``.
    """

    table: pd.DataFrame
    trajectory: Trajectory


def study(ensemble: Ensemble, spec: EscapeSpec) -> Escapes:
    """Start some minimizers' runs along ``v_1``, with every step ratio, at every radius.

    Returns:
        A row for each minimizer (slowest), step ratio and radius (fastest). The columns are those of
        :meth:`dmf_sharpness.experiments.ensembles.Ensemble.rows`, then ``step_ratio``, ``step_size``,
        ``radius``, ``sharpness`` (at the minimizer), ``outcome``, ``escaped``, ``steps``, ``farthest`` (the
        largest distance from the minimizer), ``growth`` (the measured factor per step in the linear phase;
        NaN if that phase is too short), ``predicted_growth`` (``|1 − ηλ_max|``), ``end_ratio`` (``ηλ/2`` at
        the landing, else NaN), and ``flat_sharpness`` (NaN with inputs).
    """
    chosen = _evenly(len(ensemble.kinds), spec.minimizers)
    here = ensemble.chosen(chosen)
    sites = sites_of(here)
    slopes = flattening_directions(here.factors, here.problem)
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
        landed_only=True,
    )
    path = end.run.observed
    norm = torch.linalg.vector_norm(sites.centre[index], dim=1)
    # An undecided run that is far away has escaped: only the place where it will settle is not known.
    left = end.farthest >= ESCAPE_FACTOR * radius.numpy()
    escaped = [EscapeOutcome[name.upper()].escaped for name in end.outcome]
    table = ensemble.rows(chosen[index.numpy()]).assign(
        step_ratio=ratio.numpy(),
        step_size=step_size.numpy(),
        radius=radius.numpy(),
        sharpness=sites.closed_form[index].numpy(),
        outcome=end.outcome,
        escaped=np.array(escaped) | left,
        steps=end.run.steps.numpy(),
        farthest=end.farthest,
        growth=growth_per_step(path.projections[:, :, 0], norm),
        predicted_growth=(1 - 2 * ratio).abs().numpy(),
        end_ratio=end.end_ratio,
        flat_sharpness=_flat_sharpness(ensemble)[chosen[index.numpy()]],
    )
    return Escapes(table, path)


def _flat_sharpness(ensemble: Ensemble) -> np.ndarray:
    """``λ_flat`` of each minimizer's target; NaN with inputs: it is compared in matrix factorization only."""
    if ensemble.input_root is not None:
        return np.full(len(ensemble.kinds), np.nan)
    return np.asarray(flat_sharpness(ensemble.target, ensemble.depth))


def _evenly(count: int, most: int) -> np.ndarray:
    """The numbers of at most ``most`` minimizers, evenly spaced over all ``count``."""
    places = np.linspace(0, count - 1, min(most, count))
    return np.unique(places.round().astype(int))


def recorded_paths(escapes: Escapes, kind: str | None) -> pd.DataFrame:
    """The runs beside the first minimizer of a kind, a row per run and step; no rows if ``kind`` is None."""
    table, path = escapes.table, escapes.trajectory
    first = table[table.kind == kind].minimizer.unique()[:1]
    frames: list[pd.DataFrame] = []
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
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=RECORDED)
