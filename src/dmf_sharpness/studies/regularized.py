"""The regularized problem: its minimizers, by the closed form and by descent, and their Hessian spectra."""

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
"""The last random start is of this size, so that it lies in the valley of the zero solution."""


def _spectrum(factors: Factors, target: Tensor, regularization: float) -> Tensor:
    """The Hessian spectrum, descending: that of the plain loss by autograd, plus the regularizer's ``2μ``."""
    return torch.linalg.eigvalsh(dense_hessian(factors, target)).flip(-1) + 2 * regularization


def _points(
    ensemble: Ensemble, b: int, regularization: float, spec: StudySpec
) -> Iterator[tuple[str, list[Tensor]]]:
    """Points of the regularized problem, each with the name of its source; :func:`study` describes them."""
    target, hidden, depth = ensemble.target[b], ensemble.widths[1:-1], ensemble.depth
    seeds = [[spec.seed, ensemble.network, b, r] for r in range(spec.repeats)]
    for seed in seeds:
        yield "closed form", regularized_minimizer(target, hidden, regularization, seed)
    ends = []
    for r, seed in enumerate(seeds):
        # From depth 3 on zero is always a local minimum, and the last start lies in its valley.
        size = 1.0 if r < len(seeds) - 1 else SMALL
        shapes = [tuple(W.shape[1:]) for W in ensemble.factors]
        draws = [gaussian_matrix(m, n, [*seed, i]) for i, (m, n) in enumerate(shapes)]
        start = [size * draw for draw in draws]
        ends.append(descended(start, target, regularization))
    # From depth 3 on random starts mostly miss the other valley, in which the plain minimizer lies.
    ends.append(descended(ensemble.one(b), target, regularization))
    values = [float(regularized_loss(W, target, regularization)) for W in ends]
    least = min(values)
    for W, value in zip(ends, values, strict=True):
        yield ("descent" if value <= least * (1 + 1e-9) else "local minimum"), W
    yield "not regularized", random_minimizer(target, hidden, [spec.seed, depth, b])


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Points for each target and each of ``spec.regularizations``, in units of the ``μ*`` of ``σ_1``.

    The sources of the points:

    - ``closed form``: ``spec.repeats`` minimizers by the closed form.
    - ``descent``: ends of descents whose loss is the least of all ends. As many descents start at random,
      the last of them near zero, and one starts at a minimizer of the plain problem.
    - ``local minimum``: the other ends of these descents.
    - ``not regularized``: a minimizer of the plain problem, for negative controls.

    Returns:
        A row per point: ``source``; ``loss`` and ``least_loss`` (by the closed form); ``least_norm`` and
        ``most_norm`` (of the layers) and ``predicted_norm``; ``share`` (``μ/μ*``) and ``vanishing_share``
        (the share at which the local minimum vanishes); ``collapsed``; and ``spectrum_difference`` from the
        closed form, relative to its largest eigenvalue, for scalars (else NaN).
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
