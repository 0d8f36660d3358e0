"""The whole nonzero Hessian spectrum at a minimizer, its top part, and its moments.

All of it comes from the operator of order ``d_0 d_L`` in :mod:`dmf_sharpness.curvature`.
"""

import torch
from torch import Tensor

from dmf_sharpness.curvature import (
    check_single,
    checked_root,
    curvature_matrix,
    identity,
    layer_grams,
    parameter_direction,
    signed,
    unstacked,
)
from dmf_sharpness.eigensolvers import top_eigenvectors
from dmf_sharpness.factors import Factors, flatten
from dmf_sharpness.operators import curvature_operator

# Eigenvalues below this share of the largest are zeros that rounding moved.
ROUNDING_LEVEL = 1e-13
# Up to this order all eigenvalues at once are cheaper than a few by iteration.
DENSE_ORDER = 1024


def operator_spectrum(factors: Factors, input_gram: Tensor | None = None) -> Tensor:
    """All ``d_0 d_L`` eigenvalues of ``2 J Jᵀ``, descending, zeros included; shape ``(…, d_0 d_L)``.

    The batched companion of :func:`hessian_spectrum`, whose result has no common length.
    """
    input_root = checked_root(factors, input_gram)
    return torch.linalg.eigvalsh(curvature_matrix(factors, input_root)).flip(-1).clamp(min=0)


def hessian_spectrum(factors: Factors, input_gram: Tensor | None = None) -> Tensor:
    """All nonzero Hessian eigenvalues at a minimizer, descending, multiplicities included.

    Eigenvalues below ``1e-13 λ_max`` are zeros that rounding moved, and are left out.

    Args:
        factors: ``[W_1 … W_L]`` of one minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``, float64.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.

    Raises:
        TypeError: A factor or the Gram matrix is not a float64 tensor.
        ValueError: As :func:`dmf_sharpness.sharpness`; or a batch was given
            (:func:`operator_spectrum` takes one).

    Examples:
        >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
        >>> hessian_spectrum([W, W])
        tensor([16., 10., 10.,  4.], dtype=torch.float64)
    """
    eigenvalues = operator_spectrum(factors, input_gram)
    check_single(factors)
    return eigenvalues[eigenvalues > ROUNDING_LEVEL * eigenvalues[0]]


def hessian_eigenvectors(
    factors: Factors,
    input_gram: Tensor | None = None,
    count: int | None = None,
    tolerance: float = 1e-10,
) -> tuple[Tensor, Tensor]:
    """The nonzero Hessian eigenvalues at a minimizer, descending, with their eigenvectors.

    Args:
        factors: ``[W_1 … W_L]`` of one minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``, float64.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        count: How many of the largest; None takes all.
        tolerance: ``‖H v − λ v‖ / λ`` to stop at where a few of many are iterated for.

    Returns:
        Eigenvalues ``(K,)``, and orthonormal vectors in parameter space ``(K, N)``, in the order of
        :func:`dmf_sharpness.factors.flatten`. The vectors orthogonal to all of these span the kernel.

    Raises:
        TypeError: A factor or the Gram matrix is not a float64 tensor.
        ValueError: As :func:`dmf_sharpness.sharpness`; a batch was given; ``count`` is not positive.

    Examples:
        >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
        >>> values, vectors = hessian_eigenvectors([W, W], count=2)
        >>> values, vectors.shape
        (tensor([16., 10.], dtype=torch.float64), torch.Size([2, 8]))
    """
    input_root = checked_root(factors, input_gram)
    check_single(factors)
    if count is not None and count < 1:
        raise ValueError(f"count: expected a positive integer, got {count}")
    d_0, d_L = factors[0].shape[-1], factors[-1].shape[-2]
    order = d_0 * d_L
    if count is None or order <= DENSE_ORDER or 4 * count > order:
        eigenvalues, eigenvectors = torch.linalg.eigh(curvature_matrix(factors, input_root))
        values, Y = eigenvalues.flip(0)[:count], unstacked(eigenvectors.mT.flip(0)[:count], factors)
    else:
        operator = curvature_operator(factors, input_root)
        generator = torch.Generator().manual_seed(0)
        start = torch.randn((d_L, d_0), dtype=torch.float64, generator=generator)
        values, Y = top_eigenvectors(operator, start.to(factors[0].device), count, tolerance / 4)
    kept = values > ROUNDING_LEVEL * values[0]
    batch = [W.expand(int(kept.sum()), *W.shape) for W in factors]
    return values[kept], flatten(parameter_direction(batch, signed(Y[kept]), input_root))


def hessian_trace(factors: Factors, input_gram: Tensor | None = None) -> float | Tensor:
    """The trace of the Hessian at a minimizer, ``2 Σ_i ‖L_i‖_F² ‖R_i‖_F²``; no eigenproblem.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.

    Returns:
        A float; for a batch a tensor ``(…)``.

    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> hessian_trace([W, W])
    40.0
    """
    terms = [_trace(A) * _trace(B) for A, B in _whole_grams(factors, input_gram)]
    total = 2 * sum(terms[1:], start=terms[0])
    return float(total) if total.ndim == 0 else total


def hessian_frobenius_norm(factors: Factors, input_gram: Tensor | None = None) -> float | Tensor:
    """``‖H‖_F`` at a minimizer, from ``‖H‖_F² = 4 Σ_ij ⟨A_i, A_j⟩ ⟨B_i, B_j⟩``.

    ``A_i = L_iL_iᵀ`` and ``B_i = R_iᵀR_i``: inner products of Kronecker products multiply.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.

    Returns:
        A float; for a batch a tensor ``(…)``.

    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> hessian_frobenius_norm([W, W]) ** 2 - (16**2 + 10**2 + 10**2 + 4**2)
    0.0
    """
    pairs = _whole_grams(factors, input_gram)
    terms = [(A * C).sum((-2, -1)) * (B * D).sum((-2, -1)) for A, B in pairs for C, D in pairs]
    total = 2 * sum(terms[1:], start=terms[0]).sqrt()
    return float(total) if total.ndim == 0 else total


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def _whole_grams(factors: Factors, input_gram: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    input_root = checked_root(factors, input_gram)
    d_L, d_0 = factors[-1].shape[-2], factors[0].shape[-1]
    return [
        (identity(d_L, factors) if A is None else A, identity(d_0, factors) if B is None else B)
        for A, B in zip(*layer_grams(factors, input_root), strict=True)
    ]
