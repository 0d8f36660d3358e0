"""The tangent space of the set of minimizers, and the projection onto this set.

The tangent space is the null space of the Hessian ``2 JᵀJ``, where ``J U = Σ_i L_i U_i R_i S`` is
the first-order change of the product. All computations use the ``d_L r`` eigenpairs ``(λ_k, Y_k)``
of ``2 J Jᵀ``, for a whole batch at once. The unit eigenvectors of the Hessian are
``v_k = (2/λ_k)^{1/2} Jᵀ Y_k``, so a direction ``g`` has the components
``⟨v_k, g⟩ = (2/λ_k)^{1/2} ⟨Y_k, J g⟩``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.network.curvature import jvp, kronecker_sum, vjp
from dmf_sharpness.network.factors import Factors, left_factors, right_factors
from dmf_sharpness.network.loss import residual
from dmf_sharpness.network.problem import Problem

ROUNDING_LEVEL = 1e-13
"""Eigenvalues up to this fraction of the largest one are taken to be zeros with a rounding error."""
RANK_LEVEL = 1e-9
"""Singular values up to this fraction of the largest one do not count for the rank of a product."""


@dataclass(frozen=True)
class Curvature:
    """The eigenpairs of ``2 J Jᵀ`` at minimizers, ascending.

    Attributes:
        eigenvalues: Shape ``(…, K)`` with ``K = d_L r``. Those at the level of rounding are set to zero.
        eigenvectors: Shape ``(…, K, K)``. Column ``k`` holds the stacked columns of the eigenmatrix
            ``Y_k``.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor

    @property
    def inverse(self) -> Tensor:
        """``1/λ_k``, and 0 where ``λ_k`` is zero; shape ``(…, K)``."""
        zero = self.eigenvalues == 0
        return torch.where(zero, 0.0, 1 / self.eigenvalues.masked_fill(zero, 1.0))


def curvature_of(factors: Factors, input_root: Tensor | None = None) -> Curvature:
    """All eigenpairs of ``2 J Jᵀ``, at one minimizer or at each of a batch."""
    rights = right_factors(factors)
    if input_root is not None:  # S need not be square here, so R_i S has r columns
        rights = [R @ input_root for R in rights]
    left_grams = [L @ L.mT for L in left_factors(factors)]
    right_grams = [R.mT @ R for R in rights]
    eigenvalues, eigenvectors = torch.linalg.eigh(kronecker_sum(left_grams, right_grams))
    cut = ROUNDING_LEVEL * eigenvalues[..., -1:]
    return Curvature(eigenvalues.masked_fill(eigenvalues <= cut, 0.0), eigenvectors)


def stacked(Y: Tensor) -> Tensor:
    """The stacked columns of matrices ``(…, d_L, r)``, shape ``(…, d_L r)``."""
    return Y.mT.flatten(start_dim=-2)


def _least_squares(curvature: Curvature, Y: Tensor) -> Tensor:
    """``(J Jᵀ)⁺ Y``, in the shape of ``Y``, with the pseudoinverse of ``J Jᵀ``."""
    Q = curvature.eigenvectors
    dual = (Q.mT @ stacked(Y)[..., None])[..., 0] * 2 * curvature.inverse
    return (Q @ dual[..., None])[..., 0].reshape(*Y.mT.shape).mT


def tangential(
    factors: Factors,
    direction: Factors,
    input_root: Tensor | None = None,
    curvature: Curvature | None = None,
) -> list[Tensor]:
    """The orthogonal projection of ``direction`` onto the tangent space, ``(I − Jᵀ(JJᵀ)⁺J) U``."""
    curvature = curvature or curvature_of(factors, input_root)
    change = jvp(factors, direction, input_root)
    normal = vjp(factors, _least_squares(curvature, change), input_root)
    return [U - N for U, N in zip(direction, normal, strict=True)]


def retracted(factors: Factors, problem: Problem, iterations: int = 4) -> list[Tensor]:
    """A minimizer near ``factors``, by Gauss–Newton steps ``W ← W − Jᵀ(JJᵀ)⁺(W_{L:1}S − T)``.

    Four steps reach rounding level from a distance of one percent of the factors' size.
    """
    W: Sequence[Tensor] = factors
    for _ in range(iterations):
        missing = residual(W, problem)
        root = problem.input_root
        step = vjp(W, _least_squares(curvature_of(W, root), missing), root)
        W = [w - s for w, s in zip(W, step, strict=True)]
    return list(W)


def ranks_of_terms(factors: Factors) -> tuple[list[int], list[int]]:
    """The ranks of ``L_1 … L_L`` and of ``R_1 … R_L`` at one minimizer."""
    lefts, rights = left_factors(factors), right_factors(factors)
    return (
        [int(torch.linalg.matrix_rank(L, rtol=RANK_LEVEL)) for L in lefts],
        [int(torch.linalg.matrix_rank(R, rtol=RANK_LEVEL)) for R in rights],
    )


def nonzero_eigenvalues(factors: Factors) -> int:
    """The number of nonzero Hessian eigenvalues at one minimizer, from ranks alone.

    It is ``Σ_i (rank L_i − rank L_{i−1}) rank R_i`` with ``rank L_0 = 0``, the dimension of the image of
    ``J``. The derivation is in section 1 of ``docs/derivation.md``.
    """
    lefts, rights = ranks_of_terms(factors)
    steps = [b - a for a, b in zip([0, *lefts], lefts, strict=False)]
    return sum(step * rank for step, rank in zip(steps, rights, strict=True))


def inner(A: Factors, B: Factors) -> Tensor:
    """The inner product of two directions in parameter space, shape ``(…)``."""
    return torch.stack([(a * b).sum((-2, -1)) for a, b in zip(A, B, strict=True)]).sum(0)
