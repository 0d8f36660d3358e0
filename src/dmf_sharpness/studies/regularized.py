"""The regularized problem: its minimizers by the closed form and by descent, and their Hessians."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.basic import random_minimizer
from dmf_sharpness.minimizers.regularized import (
    collapse_threshold,
    descended,
    layer_singular_value,
    least_regularized_loss,
    regularized_loss,
    regularized_minimizer,
    scalar_spectrum,
    vanishing_threshold,
)
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import Factors, flatten
from dmf_sharpness.oracles import dense_hessian

STUDY = StudyOptions(needs=("regularizations",), takes=("repeats", "seed"))

SMALL = 1e-3
"""Size of the last start of each descent, in the valley of zero."""


def _spectrum(factors: Factors, target: Tensor, regularization: float) -> Tensor:
    """Descending, from the dense autograd Hessian of the plain loss: the regularizer adds ``2μ``."""
    return torch.linalg.eigvalsh(dense_hessian(factors, target)).flip(-1) + 2 * regularization


def _points(
    ensemble: Ensemble, b: int, regularization: float, spec: StudySpec
) -> Iterator[tuple[str, list[Tensor]]]:
    """Minimizers by the closed form, by descent, and the control: minimizers without regularization."""
    target, hidden, depth = ensemble.target[b], ensemble.widths[1:-1], ensemble.depth
    seeds = [[spec.seed, ensemble.network, b, r] for r in range(spec.repeats)]
    for seed in seeds:
        yield "closed form", regularized_minimizer(target, hidden, regularization, seed)
    ends = []
    for r, seed in enumerate(seeds):
        # The last one starts in the valley of zero, which from depth 3 on is always a local minimum.
        size = 1.0 if r < len(seeds) - 1 else SMALL
        shapes = [tuple(W.shape[1:]) for W in ensemble.factors]
        draws = [gaussian_matrix(m, n, [*seed, i]) for i, (m, n) in enumerate(shapes)]
        start = [size * draw for draw in draws]
        ends.append(descended(start, target, regularization))
    # From depth 3 on random starts mostly miss the other valley: a minimizer of the plain problem is in it.
    ends.append(descended(ensemble.one(b), target, regularization))
    values = [float(regularized_loss(W, target, regularization)) for W in ends]
    least = min(values)
    for W, value in zip(ends, values, strict=True):
        yield ("descent" if value <= least * (1 + 1e-9) else "local minimum"), W
    yield "not regularized", random_minimizer(target, hidden, [spec.seed, depth, b])


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """For each minimizer's target and each of ``spec.regularizations``, in units of ``μ*`` of ``σ_1``.

    ``spec.repeats`` minimizers by the closed form; as many descents from random points, one of them near
    zero, and one from the minimizer of the plain problem; and a minimizer of the plain problem.

    Returns:
        A row per point: ``source``; ``loss`` and ``least_loss`` (closed form); ``least_norm`` and
        ``most_norm`` of the layers, ``predicted_norm``; ``share`` (``μ/μ*``) and ``vanishing_share``;
        ``collapsed``; for scalars ``spectrum_difference`` from the closed form over its largest
        eigenvalue, NaN otherwise.
    """
    rows: list[dict[str, Any]] = []
    depth = ensemble.depth
    for b in range(len(ensemble.kinds)):
        target = ensemble.target[b]
        values = torch.linalg.svdvals(target).tolist()
        limit = collapse_threshold(values[0], depth)
        for share in spec.regularizations:
            mu = share * limit
            squares = sum(layer_singular_value(value, depth, mu) ** 2 for value in values)
            predicted = None
            if target.numel() == 1:
                predicted = scalar_spectrum(values[0], ensemble.widths[1:-1], mu)
            for source, W in _points(ensemble, b, mu, spec):
                norms = [float(torch.linalg.matrix_norm(w)) for w in W]
                difference = math.nan
                if predicted is not None:
                    gap = (_spectrum(W, target, mu) - predicted).abs().max()
                    difference = float(gap / predicted[0])
                rows.append(
                    {
                        "minimizer": b,
                        "source": source,
                        "share": share,
                        "vanishing_share": vanishing_threshold(values[0], depth) / limit,
                        "loss": float(regularized_loss(W, target, mu)),
                        "least_loss": least_regularized_loss(target, depth, mu),
                        "least_norm": min(norms),
                        "most_norm": max(norms),
                        "predicted_norm": squares**0.5,
                        "collapsed": float(flatten(W).norm()) < SMALL * values[0] ** (1 / depth),
                        "spectrum_difference": difference,
                    }
                )
    table = pd.DataFrame(rows)
    minimizers = ensemble.rows(table.pop("minimizer").to_numpy())
    return pd.concat([minimizers, table], axis=1)
