"""Sharpness, spectrum and balance of every minimizer, compared with the dense autograd Hessian."""

import math
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.hessian.spectrum import operator_spectrum
from dmf_sharpness.minimizers.targets import Regression
from dmf_sharpness.network.balance import (
    flat_sharpness,
    frobenius_imbalance,
    relative_products,
)
from dmf_sharpness.network.factors import flatten
from dmf_sharpness.network.least_excess import least_excess
from dmf_sharpness.network.loss import loss
from dmf_sharpness.oracles import dense_hessians


def evaluate(ensemble: Ensemble, regression: Regression | None) -> pd.DataFrame:
    """One row per minimizer: the closed form, the dense Hessian, and the negative controls.

    The dense Hessian is that of the loss on the raw inputs and outputs. The controls are wrong on purpose:
    ``control_sharpness`` is the formula of Mulayoff and Michaeli (arXiv:2002.04710), which is right only
    at flat minimizers (with data, it is the closed form without the data). The columns ``control_…`` of
    spectrum and eigenvector compare the Hessian of a minimizer with the prediction for the next minimizer
    of the network; they are NaN if it has only one.
    """
    gram = None if regression is None else regression.input_gram
    exact = sharpness(ensemble.factors, gram)
    spectra = operator_spectrum(ensemble.factors, gram)
    vectors = flatten(exact.eigenvector)
    value, residual = map(torch.as_tensor, (exact.value, exact.residual))

    size = len(ensemble.kinds)
    if regression is None:
        hessians = dense_hessians(ensemble.factors, ensemble.target)
    else:
        outputs, inputs = regression.outputs, regression.inputs
        hessians = dense_hessians(ensemble.factors, outputs, inputs, chunk_size=128)
    rows = []
    for b, hessian in enumerate(hessians):
        oracle = torch.linalg.eigvalsh(hessian).flip(-1)
        spectrum_control = vector_control = math.nan
        if size > 1:
            other = (b + 1) % size
            spectrum_control = _spectrum_difference(spectra[other], oracle)
            vector_control = _residual(hessian, vectors[other], oracle[0])
        rows.append(
            {
                "oracle_sharpness": float(oracle[0]),
                "spectrum_difference": _spectrum_difference(spectra[b], oracle),
                "eigenvector_residual": _residual(hessian, vectors[b], oracle[0]),
                "control_spectrum_difference": spectrum_control,
                "control_eigenvector_residual": vector_control,
            }
        )
    table = pd.concat([ensemble.rows(range(size)), pd.DataFrame(rows)], axis=1)
    for name, values in _columns(ensemble, regression, value).items():
        table[name] = values
    table["sharpness"] = value.numpy()
    table["residual"] = residual.numpy()
    table["method"] = exact.method
    table["relative_difference"] = (table.sharpness / table.oracle_sharpness - 1).abs()
    table["excess"] = table.oracle_sharpness / table.flat_sharpness - 1
    return table


def _columns(ensemble: Ensemble, regression: Regression | None, value: Tensor) -> dict[str, Any]:
    """The columns of loss and balance; ``λ_flat`` is compared in matrix factorization only."""
    losses = loss(ensemble.factors, ensemble.problem)
    columns: dict[str, Any] = {
        "loss": losses + (0.0 if regression is None else regression.least_loss),
        "frobenius_imbalance": frobenius_imbalance(ensemble.factors),
    }
    if regression is None:
        products = relative_products(ensemble.factors)
        flat = flat_sharpness(ensemble.target, ensemble.depth)
        columns |= {
            "flat_sharpness": flat,
            "spectral_imbalance": (products - 1).abs().amax(-1),
            "product_spread": products.amax(-1) / products.amin(-1) - 1,
            "largest_product": products.amax(-1),
            "balance_excess": products.square().mean(-1) - 1,
            "least_excess": least_excess(products, ensemble.depth).amax(-1),
            "control_sharpness": flat,
        }
    else:
        unknown = torch.full_like(value, torch.nan)
        columns |= {
            "flat_sharpness": unknown,
            "spectral_imbalance": unknown,
            "product_spread": unknown,
            "largest_product": unknown,
            "balance_excess": unknown,
            "least_excess": unknown,
            "control_sharpness": sharpness(ensemble.factors).value,
        }
    return {
        name: column.numpy() if isinstance(column, Tensor) else column
        for name, column in columns.items()
    }


def _spectrum_difference(predicted: Tensor, oracle: Tensor) -> float:
    """Largest difference of two descending spectra over ``λ_max``; the shorter one is extended by zeros."""
    length = max(len(predicted), len(oracle))
    a, b = (torch.nn.functional.pad(s, (0, length - len(s))) for s in (predicted, oracle))
    return float((a - b).abs().max() / oracle[0])


def _residual(hessian: Tensor, vector: Tensor, eigenvalue: Tensor) -> float:
    """``‖H v − λ v‖ / λ``."""
    return float(torch.linalg.vector_norm(hessian @ vector - eigenvalue * vector) / eigenvalue)
