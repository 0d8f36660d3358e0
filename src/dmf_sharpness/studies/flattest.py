"""Minimization of the sharpness over the set of minimizers: the least value found, and the point it is at."""

import pandas as pd
import torch

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.flat import path_defect
from dmf_sharpness.minimizers.search import minimize_sharpness
from dmf_sharpness.network.balance import flat_sharpness, relative_products
from dmf_sharpness.network.factors import Factors, end_to_end

STUDY = StudyOptions(needs=("steps",))


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """BFGS from every minimizer, with at most ``spec.steps`` iterations.

    Returns:
        A row per minimizer: ``flat_sharpness`` (``λ_flat``), ``start_ratio``, ``end_ratio`` and
        ``least_ratio`` (``λ_max/λ_flat`` at the start, at the end, and at its least on the way),
        ``residual`` (of the product at the end, relative to the target), ``start_imbalance`` and
        ``imbalance`` (of the spectral products, at the start and at the end), ``start_path_defect`` and
        ``path_defect``.
    """
    index = torch.arange(len(ensemble.kinds)).numpy()
    rows = []
    for b in index:
        factors, target = ensemble.one(b), ensemble.target[b]
        least = float(flat_sharpness(target, ensemble.depth))
        search = minimize_sharpness(factors, spec.steps)
        missed = torch.linalg.matrix_norm(end_to_end(search.factors) - target)
        rows.append(
            {
                "flat_sharpness": least,
                "start_ratio": search.start / least,
                "end_ratio": search.value / least,
                "least_ratio": search.least / least,
                "residual": float(missed / torch.linalg.matrix_norm(target)),
                "start_imbalance": _imbalance(factors),
                "imbalance": _imbalance(search.factors),
                "start_path_defect": path_defect(factors),
                "path_defect": path_defect(search.factors),
            }
        )
    return pd.concat([ensemble.rows(index), pd.DataFrame(rows)], axis=1)


def _imbalance(factors: Factors) -> float:
    """The largest relative deviation of a spectral product from ``‖M‖₂^{1−1/L}``."""
    return float((relative_products(factors) - 1).abs().max())
