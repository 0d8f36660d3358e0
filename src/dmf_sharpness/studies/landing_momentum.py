"""Landings of runs of the heavy ball, as measured and as the landing law predicts them."""

import numpy as np
import pandas as pd
import torch

from dmf_sharpness.descent.landing_law import landing_terms, predict_landing
from dmf_sharpness.descent.run import Outcome, gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.studies.common import Sites, sites_of

STUDY = StudyOptions(needs=("step_ratios", "steps"), takes=("momenta",), on_data=True, leaves=True)

START = 1e-3
"""Runs start so near that the heavy ball makes this of it, relative to the largest displacement predicted.

A start at rest excites the slow mode along ``v_1`` with ``(1 + β_m)/(1 − β_m)`` times its displacement.
"""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Start a heavy ball at rest, along ``v_1`` from every minimizer, and record where it lands.

    Returns:
        A row per minimizer, momentum and step ratio ``c = ηλ_max/(2 + 2β_m)``: ``momentum``, ``excess``
        (``δ = c − 1``), ``coefficient`` (``a − b``, of plain descent), ``refined`` (``ã`` for the momentum),
        ``predicted`` and ``predicted_plain`` (``c_end`` by this ``ã`` and by that of plain descent),
        ``amplitude`` (the largest displacement predicted, ``2δ/β^{1/2}``), ``displaced`` (the largest along
        ``v_1``), ``second_ratio`` and ``flat_ratio`` (``λ_2`` and ``λ_flat`` in place of ``λ_max`` in
        ``c``), ``outcome`` and ``end_ratio`` (NaN unless it landed).
    """
    sites = sites_of(ensemble)
    terms = landing_terms(ensemble.factors, ensemble.problem)
    tables = []
    for momentum in spec.momenta:
        for c in spec.step_ratios:
            excess, refined = c - 1, terms.refined_for(momentum)
            amplitude = 2 * excess / terms.drift.sqrt()
            # A flat minimizer has no drift, so its predicted amplitude is infinite and must be limited.
            start = START * amplitude.clamp(max=1.0) * (1 - momentum) / (1 + momentum)
            limit = c * (2 + 2 * momentum)  # the value of η λ_max
            ends = _landed(sites, start, limit / sites.value, momentum, spec.steps)
            tables.append(
                ensemble.rows(np.arange(len(refined))).assign(
                    momentum=momentum,
                    excess=excess,
                    coefficient=(terms.coefficient - terms.drift_slope).numpy(),
                    refined=refined.numpy(),
                    predicted=_predicted(refined, c),
                    predicted_plain=_predicted(terms.refined, c),
                    amplitude=amplitude.numpy(),
                    second_ratio=(c * sites.second / sites.value).numpy(),
                    flat_ratio=(c * sites.flat / sites.value).numpy(),
                    **ends,
                )
            )
    return pd.concat(tables, ignore_index=True)


def _predicted(coefficient: torch.Tensor, step_ratio: float) -> np.ndarray:
    finite = torch.isfinite(coefficient)
    landing = torch.as_tensor(predict_landing(coefficient.masked_fill(~finite, 0.0), step_ratio))
    return torch.where(finite, landing, torch.nan).numpy()


def _landed(
    sites: Sites, start: torch.Tensor, step_size: torch.Tensor, momentum: float, steps: int
) -> dict[str, np.ndarray]:
    """The columns ``displaced``, ``outcome`` and ``end_ratio`` of one run from each minimizer."""
    run = gradient_descent(
        sites.factors(sites.centre + start[:, None] * sites.top),
        sites.problem.target,
        step_size,
        steps,
        input_root=sites.problem.input_root,
        observe_every=1,
        reference=sites.centre,
        directions=sites.top[:, None],
        momentum=momentum,
    )
    displaced = run.observed.projections[:, :, 0].abs().nan_to_num(nan=0.0).amax(0)
    landed = (run.outcome == int(Outcome.CONVERGED)).numpy()
    value = np.asarray(sharpness(run.factors, sites.problem.input_gram).value)
    end_ratio = step_size.numpy() * value / (2 + 2 * momentum)
    return {
        "displaced": displaced.numpy(),
        "outcome": np.where(landed, "landed", "undecided"),
        "end_ratio": np.where(landed, end_ratio, np.nan),
    }
