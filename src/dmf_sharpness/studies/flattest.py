"""Minimization of the sharpness over the set of minimizers: the least value found, and the point it is at."""

import pandas as pd
import torch

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.flat import path_defect
from dmf_sharpness.minimizers.search import minimize_sharpness
from dmf_sharpness.network.balance import flat_sharpness, relative_products
from dmf_sharpness.network.factors import end_to_end

STUDY = StudyOptions(needs=("steps",))


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """BFGS from every minimizer, with at most ``spec.steps`` iterations.

    Returns:
        A row per minimizer: ``start_ratio``, ``end_ratio`` and ``least_ratio`` (``λ_max/λ_flat`` at the
        start, at the end, and at its least on the way), ``residual`` (of the product at the end, relative
        to the target), ``evaluations``, ``imbalance`` (of the spectral products at the end),
        ``path_defect`` (at the end) and ``start_path_defect``.
    """
    index = torch.arange(len(ensemble.kinds)).numpy()
    rows = []
    for b in index:
        factors, target = ensemble.one(b), ensemble.target[b]
        least = flat_sharpness(target, ensemble.depth)
        search = minimize_sharpness(factors, spec.steps)
        missed = torch.linalg.matrix_norm(end_to_end(search.factors) - target)
        rows.append(
            {
                "start_ratio": search.start / least,
                "end_ratio": search.value / least,
                "least_ratio": search.least / least,
                "residual": float(missed / torch.linalg.matrix_norm(target)),
                "evaluations": search.evaluations,
                "imbalance": float((relative_products(search.factors) - 1).abs().max()),
                "path_defect": path_defect(search.factors),
                "start_path_defect": path_defect(factors),
            }
        )
    return pd.concat([ensemble.rows(index), pd.DataFrame(rows)], axis=1)
