"""Sharpness along paths through the set of minimizers, from flat ones outwards."""

import numpy as np
import pandas as pd
import torch

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.minimizers.paths import gauge_path
from dmf_sharpness.network.balance import flat_sharpness, spectral_products
from dmf_sharpness.oracles import dense_hessians

STUDY = StudyOptions(needs=("path_length", "points"), takes=("repeats", "seed"))


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Sharpness at ``spec.points`` points of each of ``spec.repeats`` random paths per minimizer.

    A path is ``W_i(t) = exp(t A_i) W_i exp(−t A_{i−1})`` with random ``A_i``, which keeps the product.

    Returns:
        A row per point: ``path``, ``t`` (0 to ``spec.path_length``), ``sharpness`` (the closed form),
        ``oracle_sharpness`` (the dense Hessian), ``flat_sharpness``, and the bounds ``lower = 2 max_i p_i²``
        and ``upper = 2 Σ_i p_i²`` with ``p_i = ‖L_i‖₂‖R_i‖₂``. The bounds hold because the norm of a sum
        of positive operators lies between the largest of their norms and the sum of their norms.
    """
    times = np.linspace(0.0, spec.path_length, spec.points)
    tables = []
    for b in range(len(ensemble.kinds)):
        start, target = ensemble.one(b), ensemble.target[b]
        for r in range(spec.repeats):
            rng = np.random.default_rng([spec.seed, ensemble.network, b, r])
            path = gauge_path(start, target, rng)
            points = [path(float(t)) for t in times]
            batch = [torch.stack(layer) for layer in zip(*points, strict=True)]
            squares = spectral_products(batch).square()
            table = ensemble.rows(np.full(len(times), b))
            table["path"], table["t"] = r, times
            table["sharpness"] = np.asarray(sharpness(batch).value)
            table["oracle_sharpness"] = [
                float(torch.linalg.eigvalsh(hessian)[-1])
                for hessian in dense_hessians(batch, target)
            ]
            table["flat_sharpness"] = float(flat_sharpness(target, ensemble.depth))
            table["lower"] = 2 * squares.amax(-1).numpy()
            table["upper"] = 2 * squares.sum(-1).numpy()
            tables.append(table)
    return pd.concat(tables, ignore_index=True)
