"""Landings of runs that leave a minimizer, as measured and as the landing law predicts them."""

import numpy as np
import pandas as pd
import torch

from dmf_sharpness.descent.landing_law import landing_terms, predict_landing
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.network.tangent import curvature_of
from dmf_sharpness.studies.common import crossed, settle, sites_of

STUDY = StudyOptions(needs=("step_ratios", "steps"), on_data=True, leaves=True)

START = 1e-3
"""Runs start at this distance, relative to the largest displacement that the law predicts.

The law takes ``s = x²`` at the start as zero, so the relative error is about the square of this.
"""

PATIENCE, PATIENCE_PER_EXCESS = 20_000, 300
"""A run may take ``20,000 + 300/δ`` steps, because leaving and settling both take of the order of ``1/δ``."""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Start a run along ``v_1`` from every minimizer with each step ratio above 1, and record its landing.

    Returns:
        A row per minimizer and step ratio: ``excess`` (``δ``), ``coefficient`` (``a``), ``refined``
        (``ã``), ``predicted`` and ``predicted_refined`` (``c_end``), ``slowest_rate`` (the least nonzero
        ``ηλ_k``; if it is far below ``δ`` the law does not apply), ``second_ratio`` (``ηλ_2/2``),
        ``flat_ratio`` (``ηλ_flat/2``), ``sharpness_ratio`` (``λ_max/λ_flat``), ``outcome`` and
        ``end_ratio``.
    """
    sites = sites_of(ensemble)
    terms = landing_terms(ensemble.factors, ensemble.problem)
    spectrum = curvature_of(ensemble.factors, ensemble.input_root).eigenvalues
    slowest = spectrum.masked_fill(spectrum == 0, torch.inf).amin(1)
    # Runs of one step ratio take about equally long, so they should share a vector of the compiled kernel.
    ratio, number = crossed(spec.step_ratios, torch.arange(len(sites.value)))
    index = number.long()
    excess = ratio - 1
    step_size = 2 * ratio / sites.value[index]
    amplitude = 2 * excess / terms.drift[index].sqrt()
    # A flat minimizer has no drift, so its predicted amplitude is infinite and must be limited.
    radius = START * amplitude.clamp(max=1.0)
    ends = []
    for c in spec.step_ratios:
        these = ratio == c
        steps = min(spec.steps, PATIENCE + int(PATIENCE_PER_EXCESS / (c - 1)))
        shift = radius[these, None] * sites.top[index[these]]
        ends.append(settle(sites, index[these], shift, step_size[these], steps))
    a, refined = terms.coefficient[index], terms.refined[index]
    finite = torch.isfinite(a) & torch.isfinite(refined)
    predicted = [
        torch.where(
            finite, torch.as_tensor(predict_landing(x.masked_fill(~finite, 0.0), ratio)), torch.nan
        )
        for x in (a, refined)
    ]
    return ensemble.rows(index.numpy()).assign(
        excess=excess.numpy(),
        coefficient=a.numpy(),
        refined=refined.numpy(),
        predicted=predicted[0].numpy(),
        predicted_refined=predicted[1].numpy(),
        slowest_rate=(step_size * slowest[index]).numpy(),
        second_ratio=(step_size * sites.second[index] / 2).numpy(),
        flat_ratio=(step_size * sites.flat[index] / 2).numpy(),
        sharpness_ratio=(sites.value / sites.flat)[index].numpy(),
        outcome=np.concatenate([end.outcome for end in ends]),
        end_ratio=np.concatenate([end.end_ratio for end in ends]),
    )
