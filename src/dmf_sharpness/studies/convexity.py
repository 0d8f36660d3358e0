"""Convexity of the logarithm of the sharpness along geodesics of gauges."""

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.minimizers.gauges import (
    gauged,
    gauges_between,
    geodesic_generators,
    geodesic_midpoint,
    random_gauges,
)
from dmf_sharpness.minimizers.search import minimize_sharpness
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.network.factors import Factors

STUDY = StudyOptions(needs=("steps",), takes=("repeats", "seed"))


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Means of pairs of minimizers of one orbit, ``spec.repeats`` pairs for every minimizer.

    A random pair is the minimizer and a random gauge of it. A flat pair are the flat minimizers that two
    descents of the sharpness find from these two, with at most ``spec.steps`` iterations.

    Returns:
        Three rows per pair: ``pair`` (``random`` or ``flat``), ``mean`` (``geodesic`` for the midpoint of
        the geodesic; ``gauges`` for the mean of the gauges themselves, of random pairs only),
        ``start_ratio`` (the larger ``λ_max/λ_flat`` of the random pair, at which the descents start),
        ``distance`` (that of the pair, along the geodesic) and ``defect``, the logarithm of the sharpness
        at the mean minus the mean of the two logarithms.
    """
    rows = []
    for b in range(len(ensemble.kinds)):
        start, least = ensemble.one(b), float(flat_sharpness(ensemble.target[b], ensemble.depth))
        for r in range(spec.repeats):
            rng = np.random.default_rng([spec.seed, ensemble.network, b, r])
            gauges = random_gauges(ensemble.widths[1:-1], rng)
            other = gauged(start, gauges)
            halfway = [(torch.eye(len(G), dtype=G.dtype) + G) / 2 for G in gauges]
            found, found_other = (minimize_sharpness(W, spec.steps).factors for W in (start, other))
            between = gauges_between(found, found_other)
            start_ratio = math.exp(max(_height(start), _height(other)) - math.log(least))
            for pair, mean, point, ends, gauge in (
                ("random", "geodesic", geodesic_midpoint(start, gauges), (start, other), gauges),
                ("random", "gauges", gauged(start, halfway), (start, other), gauges),
                (
                    "flat",
                    "geodesic",
                    geodesic_midpoint(found, between),
                    (found, found_other),
                    between,
                ),
            ):
                rows.append(
                    {
                        "minimizer": b,
                        "pair": pair,
                        "mean": mean,
                        "start_ratio": start_ratio,
                        "distance": _length(gauge),
                        "defect": _height(point) - sum(map(_height, ends)) / 2,
                    }
                )
    table = pd.DataFrame(rows)
    minimizers = ensemble.rows(table.pop("minimizer").to_numpy())
    return pd.concat([minimizers, table], axis=1)


def _height(factors: Factors) -> float:
    """``log λ_max``."""
    return math.log(float(sharpness(factors).value))


def _length(gauges: list[Tensor]) -> float:
    """The length of the geodesic from the identity to the ``G_iᵀG_i``."""
    return 2 * math.sqrt(sum(float(A.square().sum()) for A in geodesic_generators(gauges)))
