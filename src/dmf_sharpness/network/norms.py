"""Norms of matrices and of the gradient whose squares may leave the range of float64."""

import math

import torch
from torch import Tensor

from dmf_sharpness.network.factors import Factors, end_to_end, left_factors, right_factors
from dmf_sharpness.network.scaling import exponents, times_power

ORDINARY_BITS = 200
"""Norms within ``2^{±200}`` are computed as they are."""
SAFE_SPREAD = 900
"""Of the entries of all matrices together, in bits: products of so many do not underflow."""


def scaled(values: Tensor, exponent: float) -> Tensor:
    """``values · 2^exponent``, for a number."""
    return times_power(values, values.new_tensor(exponent)) if exponent else values


def norm_bits(matrix: Tensor) -> float:
    """``log₂ ‖W‖_F``; ``−∞`` for zeros."""
    norm = float(torch.linalg.vector_norm(matrix))
    if 2.0**-ORDINARY_BITS < norm < 2.0**ORDINARY_BITS:
        return math.log2(norm)
    if not bool(matrix.any()):
        return -math.inf
    unit = int(exponents(matrix))
    return math.log2(float(torch.linalg.vector_norm(scaled(matrix, -unit)))) + unit


def gradient_norm(factors: Factors, seen: Tensor, root: Tensor | None, t: float) -> float:
    """``‖∇f‖`` of ``f(W) = ‖T − W_{L:1} S‖_F²``, with each matrix in a power of two of its own.

    ``L_i`` and ``R_i`` do not depend on ``W_i``, so each part of the gradient has its own, too.

    Args:
        factors: ``W_i`` of shape ``(d_i, d_{i-1})``.
        seen: ``T``, shape ``(d_L, r)``.
        root: ``2^t S``, shape ``(d_0, r)``, or None for the identity.
        t: What the root was scaled by.

    Returns:
        The norm; ``inf`` or 0 beyond the range, NaN where so much underflows on the way that it is lost.
    """
    units = [float(exponents(W)) for W in factors]
    W = [scaled(factor, -unit) for factor, unit in zip(factors, units, strict=True)]
    product = end_to_end(W) if root is None else end_to_end(W) @ root
    whole = sum(units)
    unit = max(float(exponents(product)) + whole, float(exponents(seen)) + t)
    E = scaled(product, whole - unit) - scaled(seen, t - unit)
    if not bool(E.any()) and bool(seen.any()):
        return 0.0
    outer = 2 * (E if root is None else E @ root.mT)
    sides = zip(left_factors(W), right_factors(W), strict=True)
    parts = [norm_bits(L.mT @ outer @ R.mT) for L, R in sides]
    matrices = [*W, seen] if root is None else [*W, seen, root]
    if min(parts) < -SAFE_SPREAD and sum(map(_spread_bits, matrices)) > SAFE_SPREAD:
        return math.nan
    bits = [part + whole - own + unit - 2 * t for part, own in zip(parts, units, strict=True)]
    if not all(part < math.inf for part in bits):
        return math.nan
    largest = max(bits)
    if largest == -math.inf:
        return 0.0
    norm = sum(4.0 ** (part - largest) for part in bits) ** 0.5
    whole = math.floor(largest)
    return float(scaled(seen.new_tensor(2.0 ** (largest - whole) * norm), whole))


def _spread_bits(matrix: Tensor) -> float:
    """``log₂`` of the largest over the smallest entry that is not zero; 0 for zeros."""
    entries = matrix[matrix != 0].abs()
    return float(entries.max().log2() - entries.min().log2()) if entries.numel() else 0.0
