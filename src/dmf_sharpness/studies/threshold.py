"""When: the step size at which gradient descent stops returning, found by bisection on its outcome."""

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
"""Where the bisection starts, in units of the predicted threshold."""
WIDTH = 1e-3
"""Where it ends: half of this is the accuracy of the threshold."""
RADIUS = 1e-7
"""Of the starts, relative to the minimizer's norm; in a random direction."""
ESCAPED, RETURNED = 1e3, 0.1
"""The component along ``v_1`` over its start, from which and to which a run counts as one or the
other. At the limit of stability the heavy ball amplifies it by ``(1 + β)/(1 − β)`` first."""


def predicted_threshold(momentum: Tensor, nesterov: bool) -> Tensor:
    """``ηλ_max`` at the limit of stability: ``2 + 2β``, and ``(2 + 2β)/(1 + 2β)`` for Nesterov's method."""
    return (2 + 2 * momentum) / (1 + 2 * momentum) if nesterov else 2 + 2 * momentum


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Find the threshold of every minimizer, for each momentum, heavy ball and Nesterov.

    Returns:
        A row per minimizer and method: ``momentum``, ``nesterov``, ``sharpness_ratio``
        (``λ_max/λ_flat``), ``predicted`` (``ηλ_max`` at the
        limit), ``threshold`` (measured, in the same unit), ``relative`` (their quotient), ``lowest_escape``
        and ``highest_return`` (relative), ``undecided`` (how often neither had happened at the step
        limit).
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
    batch = len(sites.value)
    predicted = predicted_threshold(torch.tensor(momentum, dtype=torch.float64), nesterov)
    seed = [spec.seed, ensemble.network]
    direction = random_directions(batch, sites.centre.shape[1], seed)
    radius = RADIUS * torch.linalg.vector_norm(sites.centre, dim=1)
    shift = radius[:, None] * direction
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
        along = run.observed.projections[:, :, 0].abs()
        start = (shift * sites.top).sum(1).abs()
        peak = along.nan_to_num(nan=0.0, posinf=torch.inf).amax(0)
        # The last look at which the run was still going: it may have converged in between.
        seen = ~torch.isnan(along)
        last = along.gather(0, (seen.sum(0) - 1).clamp(min=0)[None])[0]
        escaped = peak >= ESCAPED * start
        returned = ~escaped & (last <= RETURNED * start)
        undecided += ~(escaped | returned)
        # An undecided run halves the bracket by whether it is growing: counted, not dropped.
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
