"""The trace and the Frobenius norm of the Hessian at a minimizer, from the Gram matrices of the layers.

No eigenproblem is solved (:mod:`dmf_sharpness.network.curvature`).
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from dmf_sharpness.hessian.model_curvature import model_grams, refuse_beside_model
from dmf_sharpness.hessian.observed import at_observed_scale
from dmf_sharpness.network.curvature import checked_root, whole_grams
from dmf_sharpness.network.factors import Factors, measured_factors
from dmf_sharpness.network.linear_model import LinearModel
from dmf_sharpness.network.observation import GramPairs, Observation, checked_observation
from dmf_sharpness.network.scaling import (
    at_safe_scale,
    exponents,
    plain,
    scaled_back,
    times_power,
    told,
)

SAFE_BITS = 100
"""The limit on ``log₂`` of a product of norms up to which nothing overflows.

It is tighter than elsewhere, because the trace and the Frobenius norm form squares of Gram matrices.
"""


def hessian_trace(
    factors: Factors | LinearModel,
    input_gram: Tensor | None = None,
    *,
    input_root: Tensor | None = None,
    observed: Tensor | None = None,
    measurements: Tensor | None = None,
) -> float | Tensor:
    """The trace of the Hessian at a minimizer, ``2 Σ_i ‖L_i‖_F² ‖R_i‖_F²``.

    No eigenproblem is solved: the trace of a Kronecker product is the product of the traces. With
    input data ``R_i S`` stands for ``R_i``.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64; or the result of
            :func:`dmf_sharpness.from_module`, which has its data already.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        input_root: A root of ``G`` instead of ``G``, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.
        observed: A mask or weights of the entries, as in :func:`dmf_sharpness.sharpness`.
        measurements: ``A_1 … A_K`` of measurements, as in :func:`dmf_sharpness.sharpness`.

    Returns:
        A float; for a batch a tensor ``(…)``, with NaN where the trace is outside the range of float64.

    Raises:
        TypeError: A factor, the Gram matrix or its root is not a float64 tensor.
        ValueError: The shapes do not fit, values are not finite, ``G`` is not a Gram matrix, both
            ``G`` and a root are given, or the result for a single minimizer is neither zero nor
            between 2.2e-308 and 1.8e308, the range of float64.

    >>> import torch
    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> hessian_trace([W, W])
    40.0
    """
    if isinstance(factors, LinearModel):
        refuse_beside_model(
            input_gram=input_gram,
            input_root=input_root,
            observed=observed,
            measurements=measurements,
        )
        return plain(_trace(model_grams(factors)))
    factors, norms = measured_factors(factors)
    observation = checked_observation(factors, observed, measurements, (input_gram, input_root))
    if observation is not None:
        return _of_observed_grams(factors, norms, observation, lambda seen: seen.trace)
    return _of_grams(_trace, factors, norms, checked_root(factors, input_gram, input_root))


def hessian_frobenius_norm(
    factors: Factors | LinearModel,
    input_gram: Tensor | None = None,
    *,
    input_root: Tensor | None = None,
    observed: Tensor | None = None,
    measurements: Tensor | None = None,
) -> float | Tensor:
    """The Frobenius norm of the Hessian at a minimizer, ``‖H‖_F² = 4 Σ_ij ⟨A_i, A_j⟩ ⟨B_i, B_j⟩``.

    Here ``A_i = L_iL_iᵀ`` and ``B_i = R_iᵀR_i``. The formula holds because ``H`` and
    ``2 Σ_i B_i ⊗ A_i`` have the same nonzero eigenvalues, and because
    ``⟨B_i ⊗ A_i, B_j ⊗ A_j⟩ = ⟨B_i, B_j⟩ ⟨A_i, A_j⟩``. With input data ``R_i S`` stands for ``R_i``.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64; or the result of
            :func:`dmf_sharpness.from_module`, which has its data already.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        input_root: A root of ``G`` instead of ``G``, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.
        observed: A mask or weights of the entries, as in :func:`dmf_sharpness.sharpness`.
        measurements: ``A_1 … A_K`` of measurements, as in :func:`dmf_sharpness.sharpness`.

    Returns:
        A float; for a batch a tensor ``(…)``, with NaN where the norm is outside the range of float64.

    Raises:
        TypeError: A factor, the Gram matrix or its root is not a float64 tensor.
        ValueError: As for :func:`hessian_trace`.

    >>> import torch
    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> hessian_frobenius_norm([W, W]) ** 2 - (16**2 + 10**2 + 10**2 + 4**2)
    0.0
    """
    if isinstance(factors, LinearModel):
        refuse_beside_model(
            input_gram=input_gram,
            input_root=input_root,
            observed=observed,
            measurements=measurements,
        )
        return plain(_frobenius_norm(model_grams(factors)))
    factors, norms = measured_factors(factors)
    observation = checked_observation(factors, observed, measurements, (input_gram, input_root))
    if observation is not None:
        return _of_observed_grams(factors, norms, observation, lambda seen: seen.frobenius_norm)
    return _of_grams(_frobenius_norm, factors, norms, checked_root(factors, input_gram, input_root))


def _of_grams(
    compute: Callable[[list[tuple[Tensor, Tensor]]], Tensor],
    factors: Factors,
    norms: Sequence[float],
    root: Tensor | None,
) -> float | Tensor:
    """The result of ``compute`` for all pairs ``(A_i, B_i)``; it must scale like the Hessian."""
    values, scaled = at_safe_scale(
        factors,
        norms,
        root,
        lambda W, S: compute(whole_grams(W, S)),
        lambda found: found,
        SAFE_BITS,
    )
    if scaled is not None:
        grams = whole_grams(scaled.factors, scaled.input_root)
        values = compute([_balanced(A, B) for A, B in grams]).expand(factors[0].shape[:-2])
        values = told(scaled_back(values, scaled))
    return plain(values.expand(factors[0].shape[:-2]))


def _of_observed_grams(
    factors: Factors,
    norms: Sequence[float],
    observation: Observation,
    compute: Callable[[Observation], Callable[[GramPairs], Tensor]],
) -> float | Tensor:
    """The same for an observation of the product; ``compute`` names one of its methods."""
    batch = factors[0].shape[:-2]

    def solve(W: Factors, seen: Observation) -> Tensor:
        grams = [_balanced(A, B) for A, B in whole_grams(W)]
        return compute(seen)(grams).expand(batch)

    values, scaled = at_observed_scale(factors, norms, observation, solve, lambda found: found)
    return plain(told(scaled_back(values, scaled)))


def _trace(grams: list[tuple[Tensor, Tensor]]) -> Tensor:
    terms = [_diagonal_sum(A) * _diagonal_sum(B) for A, B in grams]
    return 2 * sum(terms[1:], start=terms[0])


def _diagonal_sum(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def _frobenius_norm(grams: list[tuple[Tensor, Tensor]]) -> Tensor:
    terms = [(A * C).sum((-2, -1)) * (B * D).sum((-2, -1)) for A, B in grams for C, D in grams]
    return 2 * sum(terms[1:], start=terms[0]).sqrt()


def _balanced(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """``2^a A`` and ``2^{−a} B`` of about the same size: no square overflows, and ``A ⊗ B`` is the same."""
    a = ((exponents(B) - exponents(A)) / 2).floor()[..., None, None]
    return times_power(A, a), times_power(B, -a)
