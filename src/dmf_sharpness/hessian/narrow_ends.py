"""Minimizers with an input or an output that is wider than the hidden layer beside it.

If ``d_0 > d_1``, then ``W_1 = T Qᵀ`` with orthonormal columns in ``Q`` of shape ``(d_0, d_1)``. All
``R_i`` but ``R_1 = I`` are products with ``W_1``, so the operator ``Y ↦ 2 Σ_i (L_iL_iᵀ) Y (R_iᵀR_i)`` maps
``Y = Z Qᵀ`` to ``(𝒯 Z) Qᵀ``, where ``𝒯`` is the operator of the factors ``T, W_2 … W_L``. On the orthogonal
complement of these ``Y`` it is ``2 L_1L_1ᵀ Y``, whose largest eigenvalue ``2 ‖L_1‖₂²`` is not above that of
``𝒯``, because ``𝒯`` is ``2 L_1L_1ᵀ`` plus a positive semidefinite operator. So the sharpness is that of the
narrower network. The same holds at the output. With input data ``R_1ᵀR_1`` is not the identity, and ``Z Qᵀ``
is not mapped to a matrix of this form in general.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from dmf_sharpness.hessian.certificate import (
    eigenmatrix_residual,
    low_rank_residual,
    sufficient_defect,
)
from dmf_sharpness.hessian.crossovers import LARGEST_SPLIT, WIDE_END, suits_compiled
from dmf_sharpness.hessian.eigenmatrix import Eigenmatrix, ThinEigenmatrix, WholeEigenmatrix
from dmf_sharpness.hessian.operator import APPLICATIONS, by_grams, by_layers
from dmf_sharpness.hessian.result import Sharpness
from dmf_sharpness.network.chain import chain
from dmf_sharpness.network.curvature import signed
from dmf_sharpness.network.factors import Factors, end_to_end

LEAST_SAVING = 25_000_000
"""The least number of multiplications to save; fewer of them take less time than the additional calls."""
CALL = 100_000
"""Starting a product by PyTorch takes as long as about this number of multiplications."""
EIGENPROBLEM = 10
"""All eigenpairs of a matrix of order ``n`` take about this number of multiplications for each ``n³``."""
LOW_RANK_COLUMNS = 2500
"""The typical number of columns that the low-rank iteration multiplies each layer by."""


@dataclass(frozen=True)
class Frame:
    """A matrix ``Q`` with orthonormal columns, as the reflections of Householder's QR decomposition.

    Attributes:
        reflections: Shape ``(d, r)`` with ``d ≥ r``, as :func:`torch.geqrf` returns it.
        scales: Shape ``(r,)``.
    """

    reflections: Tensor
    scales: Tensor

    def times(self, Z: Tensor) -> Tensor:
        """``Q Z``, shape ``(d, k)``, for ``Z`` of shape ``(r, k)``."""
        padded = Z.new_zeros(self.reflections.shape[0], Z.shape[1])
        padded[: Z.shape[0]] = Z
        return torch.ormqr(self.reflections, self.scales, padded)


def is_worthwhile(sizes: Sequence[int]) -> bool:
    """Whether the sharpness of the narrower network, with its decompositions, takes less time by estimate.

    Args:
        sizes: The widths ``d_0 … d_L``.
    """
    d_0, d_L = sizes[0], sizes[-1]
    if len(sizes) < 3 or (d_0 <= sizes[1] and d_L <= sizes[-2]):
        return False
    if APPLICATIONS * (len(sizes) - 2) * d_0 * d_L * (d_0 + d_L) < LEAST_SAVING:
        return False
    inner = [min(d_0, sizes[1]), *sizes[1:-1], min(d_L, sizes[-2])]
    decompositions = sum(
        wide * narrow**2 for wide, narrow in ((d_0, inner[0]), (d_L, inner[-1])) if wide > narrow
    )
    return _multiplications(sizes) - _multiplications(inner) - decompositions >= LEAST_SAVING


def _multiplications(sizes: Sequence[int]) -> int:
    """The number of multiplications for a whole iteration, by the method that ``auto`` takes on a CPU."""
    if len(sizes) == 3 and max(sizes[0], sizes[-1]) <= LARGEST_SPLIT:
        return EIGENPROBLEM * (sizes[0] ** 3 + sizes[-1] ** 3)
    grams = by_grams(sizes)
    if suits_compiled(sizes):
        return grams
    methods = [grams, by_layers(sizes)]
    if min(sizes[0], sizes[-1]) >= WIDE_END:
        methods.append(LOW_RANK_COLUMNS * sum(m * n for n, m in pairwise(sizes)))
    calls = APPLICATIONS * 2 * (len(sizes) - 1)
    return min(methods) + calls * CALL


def sharpness_of_narrowed(factors: Factors, solve: Callable[[Factors], Sharpness]) -> Sharpness:
    """The sharpness from that of the narrower network, with the certificate of the wide one.

    Args:
        factors: A single minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``, without input data.
        solve: A function that computes the result for the factors of the narrower network.
    """
    inner = list(factors)
    at_input = at_output = None
    if factors[0].shape[1] > factors[0].shape[0]:
        at_input, triangle = _decomposed(factors[0].mT)
        inner[0] = triangle.mT.contiguous()
    if factors[-1].shape[0] > factors[-1].shape[1]:
        at_output, inner[-1] = _decomposed(factors[-1])
    found = solve(inner)
    eigenmatrix, residual = _widened(found, factors, at_input, at_output)
    return replace(
        found,
        residual=residual,
        converged=residual <= found.tolerance,
        _factors=factors,
        _eigenmatrix=eigenmatrix,
        _second=partial(_second, found, at_input is not None, at_output is not None),
    )


def _decomposed(W: Tensor) -> tuple[Frame, Tensor]:
    """``Q`` and ``T`` of ``W = Q T``, for ``W`` with more rows than columns."""
    reflections, scales = torch.geqrf(W)
    return Frame(reflections, scales), reflections[: W.shape[1]].triu()


def _widened(
    found: Sharpness, factors: Factors, at_input: Frame | None, at_output: Frame | None
) -> tuple[Eigenmatrix, float]:
    """The eigenmatrix of the wide network, and the residual."""

    def left(P: Tensor) -> Tensor:
        return P if at_output is None else at_output.times(P)

    def right(Q: Tensor) -> Tensor:
        return Q if at_input is None else at_input.times(Q)

    inner, value = found._eigenmatrix, cast(float, found.value)
    if isinstance(inner, ThinEigenmatrix):
        thin = ThinEigenmatrix(left(inner.P), right(inner.Q))
        return thin, _thin_residual(factors, thin, value, found.tolerance)
    Z = inner.whole()
    if at_input is None or at_output is None:
        Y = signed(right(left(Z).mT).mT)
        return WholeEigenmatrix(Y), eigenmatrix_residual(factors, Y, value)
    # Both ends are wide. A product of thin matrices takes fewer columns through the layers.
    P, Q = left(Z), right(torch.eye(len(Z.mT), dtype=Z.dtype, device=Z.device))
    thin = ThinEigenmatrix(P, Q)
    return WholeEigenmatrix(thin.whole()), _thin_residual(factors, thin, value, found.tolerance)


def _thin_residual(
    factors: Factors, found: ThinEigenmatrix, value: float, tolerance: float
) -> float:
    """The residual of a thin eigenmatrix; NaN if the iteration has found nothing."""
    if math.isnan(value):
        return math.nan
    defect = sufficient_defect(chain(factors), found.P, found.Q, value, tolerance)
    return low_rank_residual(factors, found.P, found.Q, value, defect=defect)


def _second(found: Sharpness, wide_input: bool, wide_output: bool) -> Tensor:
    """The second eigenvalue: that of the narrower network, or the largest one on a complement."""
    inner = found._factors
    candidates = [found._second()]
    if wide_input:
        candidates.append(2 * torch.linalg.matrix_norm(end_to_end(inner[1:]), 2) ** 2)
    if wide_output:
        candidates.append(2 * torch.linalg.matrix_norm(end_to_end(inner[:-1]), 2) ** 2)
    return torch.stack([c.reshape(()) for c in candidates]).max()
