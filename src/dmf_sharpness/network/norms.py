"""Norms of matrices and of the gradient, also where their squares leave the range of float64."""

import math

import torch
from torch import Tensor

from dmf_sharpness.network.factors import Factors, end_to_end, left_factors, right_factors
from dmf_sharpness.network.scaling import exponents, times_power

ORDINARY_BITS = 200
"""Norms within ``2^{±200}`` are computed without scaling."""
SAFE_SPREAD = 900
"""The largest safe spread of all matrices together, in bits.

The spread of a matrix is ``log₂`` of the ratio of its largest to its smallest nonzero entry. Up to
this sum of the spreads, no product of one entry of each matrix underflows.
"""


def scaled(values: Tensor, exponent: float) -> Tensor:
    """``values · 2^exponent``, for an exponent that is a Python number."""
    return times_power(values, values.new_tensor(exponent)) if exponent else values


def norm_bits(matrix: Tensor) -> float:
    """``log₂ ‖W‖_F``, and ``−∞`` for a zero matrix."""
    norm = float(torch.linalg.vector_norm(matrix))
    if 2.0**-ORDINARY_BITS < norm < 2.0**ORDINARY_BITS:
        return math.log2(norm)
    if not bool(matrix.any()):
        return -math.inf
    unit = int(exponents(matrix))
    return math.log2(float(torch.linalg.vector_norm(scaled(matrix, -unit)))) + unit


def gradient_norm(factors: Factors, seen: Tensor, root: Tensor | None, t: float) -> float:
    """The gradient norm ``‖∇f‖`` of ``f(W) = ‖T − W_{L:1} S‖_F²``, for factors of any size.

    Every matrix is divided by a power of two of its own size. The part of the gradient that belongs
    to ``W_i`` does not contain the scale of ``W_i``, because ``L_i`` and ``R_i`` do not depend on
    ``W_i``.

    Args:
        factors: ``W_i`` of shape ``(d_i, d_{i-1})``.
        seen: ``T``, shape ``(d_L, r)``.
        root: ``2^t S``, shape ``(d_0, r)``, or None for the identity.
        t: The exponent by which the root was scaled.

    Returns:
        The norm. It is ``inf`` or 0 where it is outside the range of float64, and NaN where
        underflow on the way may have removed digits of it.
    """
    # Factors of size 1, and the powers of two that were divided out.
    units = [float(exponents(W)) for W in factors]
    W = [scaled(factor, -unit) for factor, unit in zip(factors, units, strict=True)]
    product = end_to_end(W) if root is None else end_to_end(W) @ root
    whole = sum(units)
    # The residual in units of its larger term.
    unit = max(float(exponents(product)) + whole, float(exponents(seen)) + t)
    E = scaled(product, whole - unit) - scaled(seen, t - unit)
    if not bool(E.any()) and bool(seen.any()):
        return 0.0
    outer = 2 * (E if root is None else E @ root.mT)
    sides = zip(left_factors(W), right_factors(W), strict=True)
    parts = [norm_bits(L.mT @ outer @ R.mT) for L, R in sides]
    # A part so small that digits of it may have underflowed makes the norm unknown.
    matrices = [*W, seen] if root is None else [*W, seen, root]
    if min(parts) < -SAFE_SPREAD and sum(map(_spread_bits, matrices)) > SAFE_SPREAD:
        return math.nan
    # Back to the units of the given factors, and the norm relative to the largest part.
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
    """``log₂`` of the ratio of the largest to the smallest nonzero entry; 0 for a zero matrix."""
    entries = matrix[matrix != 0].abs()
    return float(entries.max().log2() - entries.min().log2()) if entries.numel() else 0.0
