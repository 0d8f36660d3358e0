"""Behind a bottleneck: the largest and the least ratio of sharpness and closed form that a search finds."""

import numpy as np
import pandas as pd
import torch

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.any_point import sharpness_at
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.minimizers.bottleneck_search import extreme_ratio
from dmf_sharpness.oracles import dense_spectrum

STUDY = StudyOptions(needs=("steps",), behind_bottleneck=True)


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """BFGS on the ratio from every minimizer, up and down, with at most ``spec.steps`` iterations.

    Returns:
        Two rows per minimizer: ``largest`` (whether the ratio was maximized), ``residual_ratio``
        (``σ_{k+1}/σ_k``), ``end_ratio`` (of the dense Hessian's largest eigenvalue and the closed form) and
        ``gradient_norm`` (of the loss at the end, relative to the sharpness).
    """
    k = min(ensemble.widths[1:-1])
    index = np.repeat(np.arange(len(ensemble.kinds)), 2)
    rows = []
    for number, b in enumerate(index):
        factors, target = ensemble.one(int(b)), ensemble.target[b]
        values = torch.linalg.svdvals(target)
        search = extreme_ratio(factors, target, number % 2 == 0, spec.steps)
        dense = float(dense_spectrum(search.factors, target)[0])
        rows.append(
            {
                "largest": number % 2 == 0,
                "residual_ratio": float(values[k] / values[k - 1]),
                "end_ratio": dense / sharpness(search.factors).value,
                "gradient_norm": sharpness_at(search.factors, target).gradient_norm / dense,
            }
        )
    return pd.concat([ensemble.rows(index), pd.DataFrame(rows)], axis=1)
