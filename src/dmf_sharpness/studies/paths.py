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
from dmf_sharpness.oracles import dense_spectrum

STUDY = StudyOptions(needs=("path_length", "points"), takes=("repeats", "seed"))


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Along random gauges ``exp(t A_i)``, ``spec.repeats`` paths per minimizer, ``spec.points`` points each.

    Returns:
        A row per point: ``path``, ``t`` (0 to ``spec.path_length``), ``sharpness`` (the expression),
        ``oracle_sharpness`` (the dense Hessian), ``flat_sharpness``, and what the norms alone say,
        ``lower = 2 max_i p_i²`` and ``upper = 2 Σ_i p_i²`` with ``p_i = ‖L_i‖₂‖R_i‖₂``: the sum of ``L``
        positive operators of norm ``p_i²`` lies between the largest and the sum of their norms.
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
            table["oracle_sharpness"] = [float(dense_spectrum(W, target)[0]) for W in points]
            table["flat_sharpness"] = float(flat_sharpness(target, ensemble.depth))
            table["lower"] = 2 * squares.amax(-1).numpy()
            table["upper"] = 2 * squares.sum(-1).numpy()
            tables.append(table)
    return pd.concat(tables, ignore_index=True)
