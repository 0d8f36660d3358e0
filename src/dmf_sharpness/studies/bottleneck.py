"""The closed form behind a bottleneck, where it need not be exact, against the true sharpness.

The exact spectrum, the bounds and their proofs are in ``docs/bottleneck.md``.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.hessian.any_point import sharpness_at
from dmf_sharpness.hessian.bottleneck import bottlenecked_spectrum
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.network.balance import flat_sharpness, relative_products
from dmf_sharpness.network.curvature import curvature_matrix
from dmf_sharpness.network.loss import loss
from dmf_sharpness.oracles import dense_hessians

RANK_TOLERANCE = 1e-9
"""Singular values of a factor up to this fraction of the largest one count as zero."""


def measure(ensemble: Ensemble) -> pd.DataFrame:
    """One row per bottlenecked minimizer of matrix factorization.

    ``bottleneck`` is the least hidden width ``k``, and ``residual_ratio`` is ``σ_{k+1}/σ_k``.
    ``tight_ends`` is the number of the two outer factors ``W_1`` and ``W_L`` that have rank ``k``.
    ``expression`` is the closed form, which is exact at minimizers without a residual. ``sharpness`` is the
    largest eigenvalue with the residual in the Hessian-vector product, ``oracle_sharpness`` that of the
    dense autograd Hessian, and ``flat_sharpness`` is ``λ_flat`` of the target. ``spectrum_difference`` is
    the largest difference of :func:`bottlenecked_spectrum` from the dense spectrum, in units of the largest
    eigenvalue, and ``control_spectrum_difference`` that of the spectrum of ``2 J Jᵀ``.
    ``spectral_imbalance`` is the largest ``|x_i − 1|`` of the relative spectral products.
    """
    expression = sharpness(ensemble.factors)
    losses = loss(ensemble.factors, ensemble.problem)
    closed_form = torch.as_tensor(expression.value)
    k = min(ensemble.widths[1:-1])
    true = sharpness_at(ensemble.factors, ensemble.target)
    value, residual, gradient_norm = map(
        torch.as_tensor, (true.value, true.residual, true.gradient_norm)
    )
    rows = []
    for b, hessian in enumerate(dense_hessians(ensemble.factors, ensemble.target)):
        factors, target = ensemble.one(b), ensemble.target[b]
        dense = torch.linalg.eigvalsh(hessian).flip(-1)
        values = torch.linalg.svdvals(target)
        ranks = [int(torch.linalg.matrix_rank(W, rtol=RANK_TOLERANCE)) for W in factors]
        without_residual = torch.linalg.eigvalsh(curvature_matrix(factors)).flip(-1)
        rows.append(
            {
                "bottleneck": k,
                "residual_ratio": float(values[k] / values[k - 1]),
                "tight_ends": int(ranks[0] == k) + int(ranks[-1] == k),
                "loss": float(losses[b]),
                "expression": float(closed_form[b]),
                "sharpness": float(value[b]),
                "residual": float(residual[b]),
                "gradient_norm": float(gradient_norm[b]),
                "oracle_sharpness": float(dense[0]),
                "flat_sharpness": float(flat_sharpness(target, ensemble.depth)),
                "spectrum_difference": _difference(bottlenecked_spectrum(factors, target), dense),
                "control_spectrum_difference": _difference(without_residual, dense),
                "spectral_imbalance": float((relative_products(factors) - 1).abs().max()),
            }
        )
    return pd.concat([ensemble.rows(np.arange(len(rows))), pd.DataFrame(rows)], axis=1)


def _difference(spectrum: Tensor, dense: Tensor) -> float:
    """The largest difference of two descending spectra, of which the shorter is filled up with zeros."""
    length = max(len(spectrum), len(dense))
    filled = [
        torch.nn.functional.pad(values, (0, length - len(values))).sort(descending=True).values
        for values in (spectrum, dense)
    ]
    return float((filled[0] - filled[1]).abs().max() / dense[0])
