"""The structure of flat minimizers: adjacent layers share a singular vector along the top path."""

import numpy as np
import pandas as pd

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.minimizers.flat import path_defect
from dmf_sharpness.network.balance import flat_sharpness, relative_products

STUDY = StudyOptions()


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Balance and structure of every minimizer; the study has no options.

    Returns:
        A row per minimizer: ``ratio`` (``λ_max/λ_flat``), ``imbalance`` (of the spectral products), and
        ``path_defect`` (:func:`dmf_sharpness.minimizers.flat.path_defect`).
    """
    index = np.arange(len(ensemble.kinds))
    table = ensemble.rows(index)
    value = sharpness(ensemble.factors).value
    table["ratio"] = np.asarray(value / flat_sharpness(ensemble.target, ensemble.depth))
    table["imbalance"] = (relative_products(ensemble.factors) - 1).abs().amax(-1).numpy()
    table["path_defect"] = [path_defect(ensemble.one(b)) for b in range(len(index))]
    return table
