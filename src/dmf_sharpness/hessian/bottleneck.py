"""The Hessian spectrum behind a bottleneck, where a residual stays at the minimum.

If a hidden layer is narrower than the target's rank, the product ``M_k`` of the factors at a global
minimum is a best approximation of rank ``k`` of the target, and ``E = M − M_k`` is not zero. All
products near ``M_k`` have rank ``k``, so that the Hessian only depends on the change ``X = J U`` of
the product:

    ``⟨U, H U⟩ = ⟨J U, A J U⟩``,   ``A X = 2 (X − E Xᵀ N − N Xᵀ E)``,   ``N`` the transposed ``M_k⁺``.

``A`` is the Hessian of the loss on the manifold of matrices of rank ``k``. In singular bases of
``M`` it multiplies ``X_ab`` and ``X_ba`` with ``a ≤ k < b`` by the matrix
``2 [[1, −σ_b/σ_a], [−σ_b/σ_a, 1]]``, and all other entries by 2. The nonzero spectrum of ``H`` is
that of ``A^{1/2} J Jᵀ A^{1/2}``, of order ``d_0 d_L``. The proofs are in ``docs/bottleneck.md``.
"""

import torch
from torch import Tensor

from dmf_sharpness.network.curvature import curvature_matrix, identity
from dmf_sharpness.network.factors import Factors, end_to_end
from dmf_sharpness.network.tangent import stacked

RANK_TOLERANCE = 1e-9
"""Singular values of the product up to this fraction of the largest one are rounding."""


def bottlenecked_spectrum(factors: Factors, target: Tensor) -> Tensor:
    """The eigenvalues of the Hessian at a global minimizer with a bottleneck, but for further zeros.

    Args:
        factors: ``[W_1 … W_L]`` of a single global minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``.
        target: ``M``, shape ``(d_L, d_0)``. If no layer is narrower than its rank, the spectrum is
            that of ``2 J Jᵀ``.

    Returns:
        ``d_0 d_L`` eigenvalues, descending. All other eigenvalues of the Hessian are zero.
    """
    root = weight_root(end_to_end(factors), target)
    return torch.linalg.eigvalsh(root @ curvature_matrix(factors) @ root).flip(-1)


def residual_weight(product: Tensor, target: Tensor) -> Tensor:
    """The matrix of ``A/2`` on stacked columns, symmetric, of order ``d_0 d_L``.

    Args:
        product: ``M_k``, shape ``(d_L, d_0)``.
        target: ``M``, shape ``(d_L, d_0)``.
    """
    d_L, d_0 = target.shape
    E, N = target - product, torch.linalg.pinv(product, rtol=RANK_TOLERANCE).mT
    units = identity(d_0 * d_L, [target]).reshape(-1, d_0, d_L)  # transposed unit matrices Xᵀ
    return stacked(units.mT - E @ units @ N - N @ units @ E)


def weight_root(product: Tensor, target: Tensor) -> Tensor:
    """The symmetric square root of :func:`residual_weight`, with the same arguments."""
    eigenvalues, vectors = torch.linalg.eigh(residual_weight(product, target))
    return (vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.mT
