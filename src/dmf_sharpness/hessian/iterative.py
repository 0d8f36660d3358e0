"""The results of the methods that solve one minimizer at a time: ``lanczos`` and ``low-rank``."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from dmf_sharpness.hessian.certificate import eigenmatrix_residual, low_rank_residual
from dmf_sharpness.hessian.eigenmatrix import ThinEigenmatrix, WholeEigenmatrix
from dmf_sharpness.hessian.lanczos import top_eigenvector
from dmf_sharpness.hessian.low_rank import (
    LowRankPair,
    largest_curvature,
    nothing_found,
    second_curvature,
)
from dmf_sharpness.hessian.operator import curvature_operator
from dmf_sharpness.hessian.result import Sharpness
from dmf_sharpness.network.chain import Chain, chain
from dmf_sharpness.network.curvature import signed
from dmf_sharpness.network.factors import Factors
from dmf_sharpness.network.randomness import gaussian

KRYLOV = 20
"""The number of Krylov vectors of ``lanczos``.

With fewer, it restarts more often. With more, it often does more steps than the tolerance needs.
"""
SECOND_TOLERANCE = 1e-6
"""The relative residual up to which ``lanczos`` computes the second eigenvector."""
SECOND_LOW_RANK_TOLERANCE = 1e-3
"""The relative residual up to which ``low-rank`` computes the second eigenvector."""


def lanczos(
    factors: Factors, root: Tensor | None, tolerance: float, start: Tensor | None = None
) -> Sharpness:
    """The result of a Lanczos iteration on ``(d_L, d_0)`` matrices, from a random or a given start."""
    if start is None:
        shape = chain(factors, root).shape
        start = gaussian(shape, 0, factors[0].device)
    operator = curvature_operator(factors, root)
    value, Y = top_eigenvector(operator, start, tolerance / 4, KRYLOV)
    residual = eigenmatrix_residual(factors, Y, value, root)
    Y = signed(Y)
    first = Y.new_tensor(value)
    return Sharpness(
        value=value,
        residual=residual,
        converged=residual <= tolerance,
        tolerance=tolerance,
        method="lanczos",
        _factors=factors,
        _root=root,
        _eigenmatrix=WholeEigenmatrix(Y),
        _first=first,
        _second=partial(_second_by_deflation, factors, root, value, Y),
    )


def _second_by_deflation(
    factors: Factors, root: Tensor | None, value: float, first: Tensor
) -> Tensor:
    """The largest eigenvalue of the operator minus its first eigenpair, but at least zero."""
    operator = curvature_operator(factors, root)

    def remainder(Y: Tensor) -> Tensor:
        return operator(Y) - value * (first * Y).sum() * first

    start = gaussian(first.shape, 1, first.device)
    return first.new_tensor(max(0.0, top_eigenvector(remainder, start, SECOND_TOLERANCE)[0]))


def low_rank(factors: Factors, root: Tensor | None, tolerance: float) -> Sharpness:
    """The result of the low-rank iteration."""
    layers = chain(factors, root)
    try:
        pair = largest_curvature(layers, tolerance)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        # If the factors differ much in size, a product of layers in the middle of the network may
        # overflow although no product that starts at the input or the output does.
        pair = nothing_found(layers)
    residual = math.nan
    if not math.isnan(pair.value):
        residual = low_rank_residual(factors, pair.P, pair.Q, pair.value, root, pair.defect)
    return Sharpness(
        value=pair.value,
        residual=residual,
        converged=residual <= tolerance,
        tolerance=tolerance,
        method="low-rank",
        _factors=factors,
        _root=root,
        _eigenmatrix=ThinEigenmatrix(pair.P, pair.Q),
        _first=pair.P.new_tensor(pair.value),
        _second=partial(_second_of_low_rank, layers, pair),
    )


def _second_of_low_rank(layers: Chain, pair: LowRankPair) -> Tensor:
    """The second eigenvalue, from the bases of the first pair; NaN if the first was not found."""
    second = math.nan
    if not math.isnan(pair.value):
        second = second_curvature(layers, pair, SECOND_LOW_RANK_TOLERANCE)
    return pair.P.new_tensor(second)


def one_by_one(
    factors: Factors,
    root: Tensor | None,
    method: str,
    tolerance: float,
    solve: Callable[[Factors, Tensor | None, float], Sharpness],
) -> Sharpness:
    """The result for a batch of minimizers, each solved by the function for a single one."""
    batch = factors[0].shape[:-2]
    flat = [W.flatten(0, -3) for W in factors]
    results = [solve([W[b] for W in flat], root, tolerance) for b in range(len(flat[0]))]

    def stacked(name: str, dtype: torch.dtype = torch.float64) -> Tensor:
        values = [getattr(result, name) for result in results]
        return torch.tensor(values, dtype=dtype, device=factors[0].device).reshape(batch)

    Y = torch.stack([result.eigenmatrix for result in results])
    value = stacked("value")
    return Sharpness(
        value=value,
        residual=stacked("residual"),
        converged=stacked("converged", torch.bool),
        tolerance=tolerance,
        method=method,
        _factors=factors,
        _root=root,
        _eigenmatrix=WholeEigenmatrix(Y.reshape(*batch, *Y.shape[1:])),
        _first=value,
        _second=partial(_second_of_each, results, batch),
    )


def _second_of_each(results: Sequence[Sharpness], batch: torch.Size) -> Tensor:
    """The second eigenvalues of single minimizers, collected in the shape of the batch."""
    return torch.stack([result._second() for result in results]).reshape(batch)
