"""The threshold: the step size at which gradient descent stops returning, by bisection on its outcome."""

import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.studies.common import Sites, random_directions, sites_of

STUDY = StudyOptions(needs=("steps",), takes=("momenta", "seed"), on_data=True)

BRACKET = (0.47, 1.61)
"""The bisection starts with this interval of step sizes, in units of the predicted threshold."""
WIDTH = 1e-3
"""The bisection ends when the interval is this short; the threshold is then right to half of it."""
RADIUS = 1e-7
"""Runs start at this distance from the minimizer, relative to its norm, in a random direction."""
ESCAPED, RETURNED = 1e3, 0.1
"""A run has escaped when its component along ``v_1`` is 1000 times that of its start, and has returned when
it ends at a tenth of that. The first number is large, because the heavy ball amplifies the component by
``(1 + β)/(1 − β)`` at the limit of stability, before it decays."""


def predicted_threshold(momentum: Tensor, nesterov: bool) -> Tensor:
    """``ηλ_max`` at the limit of stability: ``2 + 2β``, or ``(2 + 2β)/(1 + 2β)`` for Nesterov's method."""
    return (2 + 2 * momentum) / (1 + 2 * momentum) if nesterov else 2 + 2 * momentum


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Find the threshold of every minimizer for each momentum, with the heavy ball and Nesterov's method.

    Returns:
        A row per minimizer and method: ``momentum``, ``nesterov``, ``sharpness_ratio``
        (``λ_max/λ_flat``), ``predicted`` (``ηλ_max`` at the limit of stability), ``threshold`` (``ηλ_max`` as
        measured), ``relative`` (``threshold/predicted``), ``lowest_escape`` and ``highest_return`` (the ends
        of the last interval, relative to ``predicted``), and ``undecided`` (the number of runs that had
        neither escaped nor returned at the step limit).
    """
    sites = sites_of(ensemble)
    tables = []
    for momentum in spec.momenta:
        for nesterov in (False, True) if momentum else (False,):
            tables.append(_bisect(ensemble, sites, spec, momentum, nesterov))
    return pd.concat(tables, ignore_index=True)


def _bisect(
    ensemble: Ensemble, sites: Sites, spec: StudySpec, momentum: float, nesterov: bool
) -> pd.DataFrame:
    # The starts: the same for all step sizes.
    batch = len(sites.value)
    predicted = predicted_threshold(torch.tensor(momentum, dtype=torch.float64), nesterov)
    seed = [spec.seed, ensemble.network]
    direction = random_directions(batch, sites.centre.shape[1], seed)
    radius = RADIUS * torch.linalg.vector_norm(sites.centre, dim=1)
    shift = radius[:, None] * direction

    # The bisection: a run of each minimizer, at the middle of its interval, halves that interval.
    low, high = (torch.full((batch,), edge, dtype=torch.float64) for edge in BRACKET)
    undecided = torch.zeros(batch, dtype=torch.int64)
    while float((high - low).max()) > WIDTH:
        middle = (low + high) / 2
        run = gradient_descent(
            sites.factors(sites.centre + shift),
            sites.problem.target,
            middle * predicted / sites.value,
            spec.steps,
            input_root=sites.problem.input_root,
            observe_every=10,
            reference=sites.centre,
            directions=sites.top[:, None],
            momentum=momentum,
            nesterov=nesterov,
        )

        # The verdict on each run, by its component along v_1.
        along = run.observed.projections[:, :, 0].abs()
        start = (shift * sites.top).sum(1).abs()
        peak = along.nan_to_num(nan=0.0, posinf=torch.inf).amax(0)
        # A run may have ended between two observations, so its last observation is the last that is not NaN.
        seen = ~torch.isnan(along)
        last = along.gather(0, (seen.sum(0) - 1).clamp(min=0)[None])[0]
        escaped = peak >= ESCAPED * start
        returned = ~escaped & (last <= RETURNED * start)
        undecided += ~(escaped | returned)

        # An undecided run is counted, not dropped: it counts as escaped or returned by whether it grows.
        up = escaped | (~returned & (last > start))
        high, low = torch.where(up, middle, high), torch.where(up, low, middle)
    relative = (low + high) / 2
    return ensemble.rows(torch.arange(batch).numpy()).assign(
        momentum=momentum,
        nesterov=nesterov,
        sharpness_ratio=(sites.value / sites.flat).numpy(),
        predicted=float(predicted),
        threshold=(relative * predicted).numpy(),
        relative=relative.numpy(),
        lowest_escape=high.numpy(),
        highest_return=low.numpy(),
        undecided=undecided.numpy(),
    )
