"""Flat minimizers: the least sharpness there is, and the balance that attains it.

The *spectral products* of a minimizer are ``p_i = ‖L_i‖₂ ‖R_i‖₂``; write ``p* = ‖M‖₂^{1−1/L}``.

- Every minimizer has ``λ_max ≥ λ_flat = 2 L ‖M‖₂^{2−2/L} = 2 L p*²``. Test ``J Jᵀ`` on ``u vᵀ``, the
  top singular pair of ``M``: ``‖L_iᵀ u‖ ‖R_{i+1} v‖ ≥ uᵀ M v = ‖M‖₂``, then the inequality of
  arithmetic and geometric means.
- ``p_i = p*`` for all i is sufficient for flatness: ``λ_max ≤ 2 Σ p_i² = λ_flat``. The constant
  matters: equal products of another value do not make a minimizer flat.
- At depth 2, and for scalars at any depth, ``λ_max = 2 Σ_i p_i²``, so the condition is also
  necessary: since ``Π_i p_i ≥ p*^L``, one product ``x p*`` alone forces the relative excess
  ``λ_max / λ_flat − 1`` to be at least :func:`least_excess` of ``x``.
- For three or more matrix factors it is not necessary.
"""

import torch
from torch import Tensor

from dmf_sharpness.factors import Factors, check_factors, end_to_end, left_factors, right_factors
from dmf_sharpness.sharpness import sharpness


def spectral_norm(matrices: Tensor) -> Tensor:
    """The largest singular value, shape ``(…)`` of the batch."""
    return torch.linalg.matrix_norm(matrices, ord=2)


def flat_sharpness(target: Tensor, depth: int) -> float | Tensor:
    """``λ_flat = 2 L ‖M‖₂^{2−2/L}``, the least sharpness of all minimizers.

    Args:
        target: ``M``, shape ``(…, d_L, d_0)``. A zero target has ``λ_flat = 0`` from depth 2 on,
            attained by zero factors.
        depth: ``L ≥ 1``.

    Returns:
        A float, or for a batch of targets a tensor ``(…)``.

    Raises:
        ValueError: ``depth`` is not positive, or the target is not finite.

    >>> round(flat_sharpness(torch.tensor([[0.5]]), depth=3), 3)
    2.381
    """
    if depth < 1:
        raise ValueError(f"depth: expected a positive integer, got {depth}")
    if not bool(torch.isfinite(target).all()):
        raise ValueError("target: expected finite values, got NaN or Inf")
    value = 2 * depth * spectral_norm(target) ** (2 - 2 / depth)
    return float(value) if value.ndim == 0 else value


def spectral_products(factors: Factors) -> Tensor:
    """``‖L_i‖₂ ‖R_i‖₂`` of each layer, shape ``(…, L)``.

    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> spectral_products([W, W, W])
    tensor([4., 4., 4.], dtype=torch.float64)
    """
    check_factors(factors)
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


def least_excess(x: Tensor, depth: int) -> Tensor:
    """The least relative excess sharpness a relative product ``x`` allows, at depth 2 or for scalars.

    ``λ_max / λ_flat = mean_i x_i²`` there, and ``Π_i x_i ≥ 1``. With one product held at ``x`` the
    mean is least when the others are equal, ``x^{−1/(L−1)}``, which leaves

        ``(x² + (L−1) x^{−2/(L−1)}) / L − 1``,

    zero at ``x = 1`` and positive everywhere else.

    >>> least_excess(torch.tensor([1.0, 2.0]), depth=2)
    tensor([0.0000, 1.1250])
    """
    return (x.square() + (depth - 1) * x ** (-2 / (depth - 1))) / depth - 1


def is_flat(factors: Factors, rtol: float = 1e-10) -> bool:
    """Whether a minimizer attains the least sharpness, ``λ_max ≤ (1 + rtol) λ_flat``.

    The factors are taken to be a minimizer of their own end-to-end product.

    >>> W_1 = torch.diag(torch.tensor([2.0, 0.5], dtype=torch.float64))
    >>> W_2 = torch.diag(torch.tensor([2.0, 2.0], dtype=torch.float64))
    >>> is_flat([W_1, W_2]), is_flat([2 * W_1, W_2 / 2])
    (True, False)
    """
    value = sharpness(factors).value
    if isinstance(value, Tensor):
        raise ValueError(f"factors: expected a single minimizer, got a batch {tuple(value.shape)}")
    return bool(value <= (1 + rtol) * flat_sharpness(end_to_end(factors), len(factors)))
