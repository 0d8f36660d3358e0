"""Flat minimizers: the least sharpness there is, and the balance that attains it.

The *spectral products* of a minimizer are ``p_i = ‖L_i‖₂ ‖R_i‖₂``; write ``p* = ‖M‖₂^{1−1/L}``.

- Every minimizer has ``λ_max ≥ λ_flat = 2 L ‖M‖₂^{2−2/L} = 2 L p*²``. Test ``J Jᵀ`` on ``u vᵀ``, the
  top singular pair of ``M``: ``‖L_iᵀ u‖ ‖R_{i+1} v‖ ≥ uᵀ M v = ‖M‖₂``, then the inequality of
  arithmetic and geometric means.
- ``p_i = p*`` for all i is sufficient for flatness: ``λ_max ≤ 2 Σ p_i² = λ_flat``. The constant
  matters: equal products of another value do not make a minimizer flat.
- At depth 2, and for scalars at any depth, ``λ_max = 2 Σ_i p_i²``, so the condition is also
  necessary: since ``Π_i p_i ≥ p*^L``, one product ``x p*`` alone forces the relative excess
  ``λ_max / λ_flat − 1`` to be at least :func:`dmf_sharpness.network.least_excess.least_excess`
  of ``x``.
- For three or more matrix factors it is not necessary.
"""

import math

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_integer, checked_tensor, shown
from dmf_sharpness.network.factors import (
    Factors,
    end_to_end,
    left_factors,
    measured_factors,
    right_factors,
)
from dmf_sharpness.network.scaling import TINY, exponents, plain, times_power

ORDINARY_BITS = 200
"""Products of norms within ``2^{±200}`` are computed as they are."""
SMALLEST_PRODUCT = 2.0**-900
"""Of factors of size 1; below it digits may have underflowed on the way."""


def spectral_norm(matrices: Tensor) -> Tensor:
    """The largest singular value, shape ``(…)`` of the batch."""
    return torch.linalg.matrix_norm(matrices, ord=2)


def flat_sharpness(target: Tensor, depth: int) -> float | Tensor:
    """``λ_flat = 2 L ‖M‖₂^{2−2/L}``, the least sharpness of all minimizers.

    Args:
        target: ``M``, shape ``(…, d_L, d_0)``, of any real floating-point type; it is computed in
            float64. A zero target has ``λ_flat = 0`` from depth 2 on, attained by zero factors.
        depth: ``L ≥ 1``.

    Returns:
        A float, or for a batch of targets a tensor ``(…)``; there NaN beyond the range.

    Raises:
        TypeError: The target is no tensor of real floating-point numbers, or ``depth`` no integer.
        ValueError: ``depth`` is not positive, the target is no matrix, empty or not finite, or
            ``λ_flat`` of a single target is beyond the range of float64, 2.2e-308 to 1.8e308 and zero.

    >>> round(flat_sharpness(torch.tensor([[0.5]]), depth=3), 3)
    2.381
    """
    depth = checked_integer(depth, "depth", least=1)
    if not isinstance(target, Tensor) or not target.dtype.is_floating_point:
        raise TypeError(f"target: expected a tensor of real numbers, got {shown(target)}")
    matrix = checked_tensor(target, "target", dtype=target.dtype).to(torch.float64)
    if matrix.ndim < 2 or 0 in matrix.shape:
        raise ValueError(f"target: expected a matrix, got shape {tuple(matrix.shape)}")
    value = least_sharpness(matrix, depth)
    beyond = ~(((value >= TINY) & (value < torch.inf)) | (matrix == 0).all(-1).all(-1))
    if value.ndim == 0 and bool(beyond):
        raise ValueError(
            f"target: expected one whose λ_flat float64 holds, got a norm of {spectral_norm(matrix):.3g}"
        )
    return plain(value.masked_fill(beyond, torch.nan))


def least_sharpness(target: Tensor, depth: int) -> Tensor:
    """``λ_flat`` without any checks, shape ``(…)``."""
    return 2 * depth * spectral_norm(target) ** (2 - 2 / depth)


def spectral_products(factors: Factors) -> Tensor:
    """``‖L_i‖₂ ‖R_i‖₂`` of each layer, shape ``(…, L)``; it can be differentiated.

    Raises:
        TypeError: A factor is not a float64 tensor.
        ValueError: Shapes do not fit, values are not finite, or a product of a single minimizer is
            beyond the range of float64, 2.2e-308 to 1.8e308 and zero. In a batch it is NaN.

    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> spectral_products([W, W, W])
    tensor([4., 4., 4.], dtype=torch.float64)
    """
    checked, norms = measured_factors(factors)
    single = checked[0].ndim == 2
    if single and sum(abs(math.log2(n)) if n > 0 else math.inf for n in norms) <= ORDINARY_BITS:
        return _spectral_products(factors)
    units = [exponents(W) for W in checked]
    if not single and float(torch.stack(units).abs().sum(0).max()) <= ORDINARY_BITS:
        return _spectral_products(factors)
    # Each product is homogeneous in every factor but its own: L_i and R_i of factors of size 1.
    scaled = [times_power(W, -e[..., None, None]) for W, e in zip(factors, units, strict=True)]
    exponent = torch.stack(units, -1)
    small = _spectral_products(scaled)
    products = times_power(small, exponent.sum(-1, keepdim=True) - exponent)
    # What underflows on the way is lost, and only the zeros of a factor are sure to be zeros.
    some_zero = torch.stack([~W.any(-1).any(-1) for W in checked], -1)
    others = some_zero.sum(-1, keepdim=True) > some_zero.to(torch.int64)
    right = (products >= TINY) & (products < torch.inf) & (small > SMALLEST_PRODUCT)
    beyond = ~(right | others)
    if products.ndim == 1 and bool(beyond.any()):
        raise ValueError(
            "factors: expected spectral products between 2.2e-308 and 1.8e308, got "
            f"{shown(products.tolist())}"
        )
    return products.masked_fill(beyond, torch.nan)


def _spectral_products(factors: Factors) -> Tensor:
    pairs = zip(left_factors(factors), right_factors(factors), strict=True)
    return torch.stack([spectral_norm(L) * spectral_norm(R) for L, R in pairs], dim=-1)


def relative_products(factors: Factors) -> Tensor:
    """``x_i = ‖L_i‖₂ ‖R_i‖₂ / ‖M‖₂^{1−1/L}``, shape ``(…, L)``; all 1 is sufficient for flatness."""
    depth = len(factors)
    norm = spectral_norm(end_to_end(factors))
    return spectral_products(factors) / (norm ** (1 - 1 / depth))[..., None]


def frobenius_imbalance(factors: Factors) -> Tensor:
    """Largest over smallest Frobenius norm of the factors, shape ``(…)``; 1 is balanced."""
    norms = torch.stack([torch.linalg.matrix_norm(W) for W in factors], dim=-1)
    return norms.amax(-1) / norms.amin(-1)
