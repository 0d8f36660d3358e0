"""Flatness and balance: the least sharpness of all minimizers, and a sufficient condition for it.

The *spectral products* of a minimizer are ``p_i = ‖L_i‖₂ ‖R_i‖₂``, where ``L_i`` and ``R_i`` are
the products of the factors to the left and to the right of ``W_i``
(:mod:`dmf_sharpness.network.factors`), and ``J`` is the derivative of the whole product
(:mod:`dmf_sharpness.network.curvature`). Write ``p* = ‖M‖₂^{1−1/L}``.

- Every minimizer has ``λ_max ≥ λ_flat = 2 L ‖M‖₂^{2−2/L} = 2 L p*²``. Proof: let ``u``, ``v`` be
  the top singular pair of ``M``. The quadratic form of ``2 J Jᵀ`` at the unit matrix ``u vᵀ`` is
  ``2 Σ_i ‖L_iᵀ u‖² ‖R_i v‖²``, and ``‖L_iᵀ u‖ ‖R_{i+1} v‖ ≥ uᵀ M v = ‖M‖₂`` for each ``i < L``. The
  inequality of arithmetic and geometric means then bounds the sum from below.
- ``p_i = p*`` for all ``i`` is sufficient for flatness: ``λ_max ≤ 2 Σ_i p_i² = λ_flat``. The common
  value matters: products that all equal another value do not imply flatness.
- At depth 2, and for scalar targets at any depth, ``λ_max = 2 Σ_i p_i²``, so the condition is also
  necessary. Moreover ``Π_i p_i ≥ p*^L``. A single product with the value ``x p*`` therefore forces
  the relative excess ``λ_max / λ_flat − 1`` to be at least
  :func:`dmf_sharpness.network.least_excess.least_excess` of ``x``.
- For three or more matrix factors the condition is not necessary in general. The targets and widths for
  which it is are those of :func:`dmf_sharpness.balance_is_necessary` (``docs/flatness.md``).
"""

import math

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_integer, checked_tensor, shown
from dmf_sharpness.network.curvature import checked_root
from dmf_sharpness.network.data_flatness import data_flatness
from dmf_sharpness.network.factors import (
    Factors,
    end_to_end,
    left_factors,
    measured_factors,
    right_factors,
)
from dmf_sharpness.network.scaling import TINY, exponents, plain, times_power

ORDINARY_BITS = 200
"""Products of norms within ``2^{±200}`` are computed without scaling."""
SMALLEST_PRODUCT = 2.0**-900
"""A product of factors scaled to size 1 is trusted only above this: intermediate results may underflow."""


def spectral_norm(matrices: Tensor) -> Tensor:
    """The largest singular value of each matrix ``(…, m, n)``, shape ``(…)``."""
    return torch.linalg.matrix_norm(matrices, ord=2)


def flat_sharpness(
    target: Tensor,
    depth: int,
    *,
    input_gram: Tensor | None = None,
    input_root: Tensor | None = None,
) -> float | Tensor:
    """The least sharpness of all minimizers, ``λ_flat = 2 L ‖M‖₂^{2−2/L}``, if there is no bottleneck.

    The value is that of Mulayoff and Michaeli (arXiv:2002.04710); section 2 of ``docs/derivation.md``
    has a proof.

    Args:
        target: ``M``, shape ``(…, d_L, d_0)``, of any real floating-point type. The computation is
            in float64. For a zero target and ``L ≥ 2`` the result is 0, which zero factors attain.
        depth: ``L ≥ 1``, the number of factors.
        input_gram: ``G = X Xᵀ`` for training on data, where ``M`` is a least-squares solution. Then
            ``λ_flat = 2 L max_z (‖MSz‖^{L−1} ‖Sz‖)^{2/L}`` over unit vectors ``z`` (``docs/data.md``).
        input_root: A root of ``G`` instead of ``G``, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.

    Returns:
        A float; for a batch of targets a tensor ``(…)``, with NaN for each target whose ``λ_flat``
        is outside the range of float64.

    Raises:
        TypeError: The target is not a tensor of real floating-point numbers, or ``depth`` is not an
            integer.
        ValueError: ``depth`` is not positive; the target is not a matrix, is empty or is not
            finite; or ``λ_flat`` of a single target is neither zero nor between 2.2e-308 and
            1.8e308, the range of float64.

    >>> round(flat_sharpness(torch.tensor([[0.5]]), depth=3), 3)
    2.381
    """
    depth = checked_integer(depth, "depth", least=1)
    if not isinstance(target, Tensor) or not target.dtype.is_floating_point:
        raise TypeError(f"target: expected a tensor of real numbers, got {shown(target)}")
    matrix = checked_tensor(target, "target", dtype=target.dtype).to(torch.float64)
    if matrix.ndim < 2 or 0 in matrix.shape:
        raise ValueError(f"target: expected a matrix, got shape {tuple(matrix.shape)}")
    root = checked_root([matrix.detach()], input_gram, input_root)
    value = least_sharpness(matrix, depth, root)
    beyond = ~(((value >= TINY) & (value < torch.inf)) | (matrix == 0).all(-1).all(-1))
    if value.ndim == 0 and bool(beyond):
        raise ValueError(
            f"target: expected one whose λ_flat float64 holds, got a norm of {spectral_norm(matrix):.3g}"
        )
    return plain(value.masked_fill(beyond, torch.nan))


def least_sharpness(target: Tensor, depth: int, input_root: Tensor | None = None) -> Tensor:
    """``λ_flat`` without checks of the arguments, shape ``(…)``."""
    if input_root is None:
        return 2 * depth * spectral_norm(target) ** (2 - 2 / depth)
    single = target.reshape(-1, *target.shape[-2:])
    values = [data_flatness(M @ input_root, input_root, depth).value for M in single]
    return target.new_tensor(values).reshape(target.shape[:-2])


def spectral_products(factors: Factors) -> Tensor:
    """The spectral products ``p_i = ‖L_i‖₂ ‖R_i‖₂`` of all layers, shape ``(…, L)``.

    The result can be differentiated with respect to the factors.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64.

    Returns:
        The products, one per layer. In a batch a product outside the range of float64 is NaN.

    Raises:
        TypeError: A factor is not a float64 tensor.
        ValueError: The shapes do not fit, values are not finite, or a product of a single minimizer
            is neither zero nor between 2.2e-308 and 1.8e308, the range of float64.

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
    # The product of layer i is homogeneous in every factor but W_i. So it is computed from factors
    # scaled to size 1, and multiplied by the powers of two of all other factors afterwards.
    scaled = [times_power(W, -e[..., None, None]) for W, e in zip(factors, units, strict=True)]
    exponent = torch.stack(units, -1)
    small = _spectral_products(scaled)
    products = times_power(small, exponent.sum(-1, keepdim=True) - exponent)
    # Digits may be lost to underflow on the way, so a result is trusted only if it is large enough.
    # A zero is certain only if one of the other factors is exactly zero.
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
    """``x_i = ‖L_i‖₂ ‖R_i‖₂ / ‖M‖₂^{1−1/L}``, shape ``(…, L)``; the minimizer is flat if all are 1."""
    depth = len(factors)
    norm = spectral_norm(end_to_end(factors))
    return spectral_products(factors) / (norm ** (1 - 1 / depth))[..., None]


def frobenius_imbalance(factors: Factors) -> Tensor:
    """Ratio of the largest to the smallest Frobenius norm of the factors, shape ``(…)``, at least 1."""
    norms = torch.stack([torch.linalg.matrix_norm(W) for W in factors], dim=-1)
    return norms.amax(-1) / norms.amin(-1)
