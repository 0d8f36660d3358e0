"""The nonzero Hessian spectrum at a minimizer: eigenvalues and eigenvectors.

Everything is computed from the operator ``2 J Jᵀ`` of order ``d_0 d_L``, which has the same nonzero
spectrum (:mod:`dmf_sharpness.network.curvature`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_integer, checked_number
from dmf_sharpness.hessian.lanczos import top_eigenvectors
from dmf_sharpness.hessian.model_curvature import (
    model_eigenvalues,
    model_eigenvectors,
    refuse_beside_model,
)
from dmf_sharpness.hessian.observed import at_observed_scale, observed_matrix, observed_operator
from dmf_sharpness.hessian.operator import curvature_operator
from dmf_sharpness.network.curvature import (
    check_single,
    checked_root,
    curvature_matrix,
    parameter_direction,
    signed,
    unstacked,
)
from dmf_sharpness.network.factors import Factors, checked_factors, flatten, measured_factors
from dmf_sharpness.network.linear_model import LinearModel
from dmf_sharpness.network.observation import Observation, checked_observation
from dmf_sharpness.network.randomness import gaussian
from dmf_sharpness.network.scaling import (
    Scaled,
    at_safe_scale,
    scaled_back,
    times_power,
    told,
)
from dmf_sharpness.network.tangent import ROUNDING_LEVEL

DENSE_ORDER = 1024
"""Up to this order, computing all eigenvalues by LAPACK is cheaper than a few by iteration."""


def operator_spectrum(
    factors: Factors,
    input_gram: Tensor | None = None,
    *,
    input_root: Tensor | None = None,
    observed: Tensor | None = None,
    measurements: Tensor | None = None,
) -> Tensor:
    """All ``d_0 d_L`` eigenvalues of ``2 J Jᵀ``, zeros included, for one minimizer or for a batch.

    :func:`hessian_spectrum` leaves out the zeros. So its results for the members of a batch would
    have different lengths, and it accepts a single minimizer only.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        input_root: A root of ``G`` instead of ``G``, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.
        observed: A mask or weights of the entries, as in :func:`dmf_sharpness.sharpness`.
        measurements: ``A_1 … A_K`` of measurements, as in :func:`dmf_sharpness.sharpness`.

    Returns:
        The eigenvalues, descending, shape ``(…, d_0 d_L)``, or ``(…, K)`` for ``K`` measurements. If
        the largest eigenvalue of a minimizer is outside the range of float64, all its eigenvalues are NaN.

    Raises:
        TypeError: A factor, the Gram matrix or its root is not a float64 tensor.
        ValueError: The shapes do not fit, values are not finite, ``G`` is not a Gram matrix, both
            ``G`` and a root are given, or ``observed`` and ``measurements`` are not as in
            :func:`dmf_sharpness.sharpness`.
        MemoryError: There is not enough memory for a matrix of order ``d_0 d_L``.
    """
    factors, norms = measured_factors(factors)
    observation = checked_observation(factors, observed, measurements, (input_gram, input_root))
    scaled: Scaled | None
    if observation is None:
        root = checked_root(factors, input_gram, input_root)
        values, scaled = at_safe_scale(factors, norms, root, _operator_spectrum, _first)
    else:
        values, scaled = at_observed_scale(factors, norms, observation, _observed_spectrum, _first)
    if scaled is None:
        return values
    # Only the largest eigenvalue has to be in the range. The smaller ones have the same absolute error.
    beyond = scaled_back(values[..., 0], scaled).isnan()
    values = times_power(values, scaled.exponent[..., None])
    return values.masked_fill(beyond[..., None], torch.nan)


def _operator_spectrum(factors: Factors, root: Tensor | None) -> Tensor:
    return torch.linalg.eigvalsh(curvature_matrix(factors, root)).flip(-1).clamp(min=0)


def _observed_spectrum(factors: Factors, observation: Observation) -> Tensor:
    matrix = observed_matrix(factors, observation)
    return torch.linalg.eigvalsh(matrix).flip(-1).clamp(min=0)


def _first(eigenvalues: Tensor) -> Tensor:
    return eigenvalues[..., 0]


def hessian_spectrum(
    factors: Factors | LinearModel,
    input_gram: Tensor | None = None,
    *,
    input_root: Tensor | None = None,
    observed: Tensor | None = None,
    measurements: Tensor | None = None,
) -> Tensor:
    """All nonzero Hessian eigenvalues at a minimizer, descending, multiplicities included.

    Eigenvalues up to ``1e-13 λ_max`` are taken to be zeros with a rounding error, and are left out.
    The derivation is in section 1 of ``docs/derivation.md``.

    Args:
        factors: ``[W_1 … W_L]`` of a single minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``, float64; or
            the result of :func:`dmf_sharpness.from_module`, which has its data already.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        input_root: A root of ``G`` instead of ``G``, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.
        observed: A mask or weights of the entries, as in :func:`dmf_sharpness.sharpness`.
        measurements: ``A_1 … A_K`` of measurements, as in :func:`dmf_sharpness.sharpness`.

    Returns:
        The eigenvalues, shape ``(K,)``, with ``K`` at most ``d_0 d_L``.

    Raises:
        TypeError: A factor, the Gram matrix or its root is not a float64 tensor.
        ValueError: The shapes do not fit, values are not finite, ``G`` is not a Gram matrix, both
            ``G`` and a root are given, or the factors are a batch, which :func:`operator_spectrum`
            accepts; or the largest eigenvalue is outside the range that
            :func:`dmf_sharpness.sharpness` states.
        MemoryError: There is not enough memory for a matrix of order ``d_0 d_L``.

    Examples:
        >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
        >>> hessian_spectrum([W, W])
        tensor([16., 10., 10.,  4.], dtype=torch.float64)
    """
    if isinstance(factors, LinearModel):
        refuse_beside_model(
            input_gram=input_gram,
            input_root=input_root,
            observed=observed,
            measurements=measurements,
        )
        eigenvalues = model_eigenvalues(factors)
    else:
        factors = checked_factors(factors)
        check_single(factors)
        eigenvalues = operator_spectrum(
            factors,
            input_gram,
            input_root=input_root,
            observed=observed,
            measurements=measurements,
        )
        told(eigenvalues[0])
    return eigenvalues[eigenvalues > ROUNDING_LEVEL * eigenvalues[0]]


def hessian_eigenvectors(
    factors: Factors | LinearModel,
    input_gram: Tensor | None = None,
    count: int | None = None,
    tolerance: float = 1e-10,
    *,
    input_root: Tensor | None = None,
    observed: Tensor | None = None,
    measurements: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The nonzero Hessian eigenvalues at a minimizer, descending, with their eigenvectors.

    Args:
        factors: ``[W_1 … W_L]`` of a single minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``, float64; or
            the result of :func:`dmf_sharpness.from_module`, which has its data already.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        count: The number of eigenpairs, from the largest one on; None asks for all.
        tolerance: The relative residual ``‖H v − λ v‖ / λ`` at which an iteration stops. It matters
            only if ``d_0 d_L`` is large and ``count`` is small; all other cases are solved by LAPACK.
        input_root: A root of ``G`` instead of ``G``, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.
        observed: A mask or weights of the entries, as in :func:`dmf_sharpness.sharpness`.
        measurements: ``A_1 … A_K`` of measurements, as in :func:`dmf_sharpness.sharpness`.

    Returns:
        Eigenvalues ``(K,)``, and orthonormal eigenvectors in parameter space ``(K, N)``, whose
        entries are in the order of :func:`dmf_sharpness.network.factors.flatten`. If all ``K``
        nonzero eigenvalues are asked for, the vectors orthogonal to these eigenvectors form the
        null space of the Hessian.

    Raises:
        TypeError: A factor, the Gram matrix or its root is not a float64 tensor, ``count`` is not
            an integer, or the tolerance is not a number.
        ValueError: As for :func:`hessian_spectrum`; or ``count`` or the tolerance is not positive;
            or the iteration does not reach the tolerance.
        MemoryError: There is not enough memory for the eigenvectors.

    Examples:
        >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
        >>> values, vectors = hessian_eigenvectors([W, W], count=2)
        >>> values, vectors.shape
        (tensor([16., 10.], dtype=torch.float64), torch.Size([2, 8]))
    """
    if count is not None:
        count = checked_integer(count, "count", least=1)
    tolerance = checked_number(tolerance, "tolerance", above=0)
    if isinstance(factors, LinearModel):
        refuse_beside_model(
            input_gram=input_gram,
            input_root=input_root,
            observed=observed,
            measurements=measurements,
        )
        return model_eigenvectors(factors, count, tolerance)
    factors, norms = measured_factors(factors)
    check_single(factors)
    observation = checked_observation(factors, observed, measurements, (input_gram, input_root))
    root = checked_root(factors, input_gram, input_root)
    if observation is not None:
        return _observed_eigenvectors(factors, norms, observation, count, tolerance)

    def solve(W: Factors, S: Tensor | None) -> tuple[Tensor, Tensor]:
        return _top_eigenpairs(W, S, count, tolerance)

    (values, Y), scaled = at_safe_scale(factors, norms, root, solve, lambda pairs: pairs[0][0])
    if scaled is not None:
        factors, root = scaled.factors, scaled.input_root
        told(scaled_back(values[0], scaled))
    kept = values > ROUNDING_LEVEL * values[0]
    batch = [W.expand(int(kept.sum()), *W.shape) for W in factors]
    vectors = flatten(parameter_direction(batch, signed(Y[kept]), root))
    return values[kept] if scaled is None else times_power(values[kept], scaled.exponent), vectors


def _observed_eigenvectors(
    factors: Factors,
    norms: Sequence[float],
    observation: Observation,
    count: int | None,
    tolerance: float,
) -> tuple[Tensor, Tensor]:
    """:func:`hessian_eigenvectors` for an observation of the product."""

    def solve(W: Factors, seen: Observation) -> tuple[Tensor, Tensor]:
        if count is None or seen.order <= DENSE_ORDER or 4 * count > seen.order:
            values, vectors = torch.linalg.eigh(observed_matrix(W, seen))
            pairs = values.flip(0)[:count], vectors.mT.flip(0)[:count]
        else:
            start = gaussian((seen.order,), 0, W[0].device)
            pairs = top_eigenvectors(observed_operator(W, seen), start, count, tolerance / 4)
        return pairs[0], seen.adjoint(pairs[1])

    (values, Y), scaled = at_observed_scale(
        factors, norms, observation, solve, lambda pairs: pairs[0][0]
    )
    told(scaled_back(values[0], scaled))
    kept = values > ROUNDING_LEVEL * values[0]
    values, Y = values[kept], Y[kept]
    batch = [W.expand(len(values), *W.shape) for W in scaled.factors]
    return times_power(values, scaled.exponent), flatten(parameter_direction(batch, signed(Y)))


def _top_eigenpairs(
    factors: Factors, root: Tensor | None, count: int | None, tolerance: float
) -> tuple[Tensor, Tensor]:
    """The top eigenvalues ``(K,)`` of ``2 J Jᵀ``, with eigenmatrices ``(K, d_L, d_0)``; None asks for all."""
    d_0, d_L = factors[0].shape[-1], factors[-1].shape[-2]
    order = d_0 * d_L
    if count is None or order <= DENSE_ORDER or 4 * count > order:
        eigenvalues, eigenvectors = torch.linalg.eigh(curvature_matrix(factors, root))
        return eigenvalues.flip(0)[:count], unstacked(eigenvectors.mT.flip(0)[:count], factors)
    start = gaussian((d_L, d_0), 0, factors[0].device)
    return top_eigenvectors(curvature_operator(factors, root), start, count, tolerance / 4)
