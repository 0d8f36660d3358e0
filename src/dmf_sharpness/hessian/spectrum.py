"""The whole nonzero Hessian spectrum at a minimizer, its top part, and its moments.

All of it comes from the operator of order ``d_0 d_L`` in :mod:`dmf_sharpness.network.curvature`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_integer, checked_number
from dmf_sharpness.hessian.lanczos import top_eigenvectors
from dmf_sharpness.hessian.operator import curvature_operator
from dmf_sharpness.network.curvature import (
    check_single,
    checked_root,
    curvature_matrix,
    identity,
    layer_grams,
    parameter_direction,
    signed,
    unstacked,
)
from dmf_sharpness.network.factors import Factors, checked_factors, flatten, measured_factors
from dmf_sharpness.network.randomness import gaussian
from dmf_sharpness.network.scaling import (
    at_safe_scale,
    exponents,
    plain,
    scaled_back,
    times_power,
    told,
)
from dmf_sharpness.network.tangent import ROUNDING_LEVEL

# Here squares of Gram matrices are taken: a tighter limit than elsewhere.
SAFE_BITS = 100
# Up to this order all eigenvalues at once are cheaper than a few by iteration.
DENSE_ORDER = 1024


def operator_spectrum(
    factors: Factors, input_gram: Tensor | None = None, *, input_root: Tensor | None = None
) -> Tensor:
    """All ``d_0 d_L`` eigenvalues of ``2 J Jᵀ``, descending, zeros included; shape ``(…, d_0 d_L)``.

    The batched companion of :func:`hessian_spectrum`, whose result has no common length. Of a member
    whose largest eigenvalue is beyond the range of float64 all are NaN.
    """
    factors, norms = measured_factors(factors)
    root = checked_root(factors, input_gram, input_root)
    values, scaled = at_safe_scale(
        factors, norms, root, _operator_spectrum, lambda found: found[..., 0]
    )
    if scaled is None:
        return values
    # Smaller ones are right to the same absolute error as the largest, which is within the range.
    beyond = scaled_back(values[..., 0], scaled).isnan()
    values = times_power(values, scaled.exponent[..., None])
    return values.masked_fill(beyond[..., None], torch.nan)


def _operator_spectrum(factors: Factors, root: Tensor | None) -> Tensor:
    return torch.linalg.eigvalsh(curvature_matrix(factors, root)).flip(-1).clamp(min=0)


def hessian_spectrum(
    factors: Factors, input_gram: Tensor | None = None, *, input_root: Tensor | None = None
) -> Tensor:
    """All nonzero Hessian eigenvalues at a minimizer, descending, multiplicities included.

    Eigenvalues below ``1e-13 λ_max`` are zeros that rounding moved, and are left out.

    Args:
        factors: ``[W_1 … W_L]`` of one minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``, float64.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        input_root: In place of ``G`` a root of it, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.

    Raises:
        TypeError: A factor, the Gram matrix or its root is not a float64 tensor.
        ValueError: As :func:`dmf_sharpness.hessian.sharpness`; a batch was given (:func:`operator_spectrum`
            takes one); or the largest eigenvalue is beyond the range that is stated there.
        MemoryError: There is none for a matrix of order ``d_0 d_L``.

    Examples:
        >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
        >>> hessian_spectrum([W, W])
        tensor([16., 10., 10.,  4.], dtype=torch.float64)
    """
    factors = checked_factors(factors)
    check_single(factors)
    eigenvalues = operator_spectrum(factors, input_gram, input_root=input_root)
    told(eigenvalues[0])
    return eigenvalues[eigenvalues > ROUNDING_LEVEL * eigenvalues[0]]


def hessian_eigenvectors(
    factors: Factors,
    input_gram: Tensor | None = None,
    count: int | None = None,
    tolerance: float = 1e-10,
    *,
    input_root: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The nonzero Hessian eigenvalues at a minimizer, descending, with their eigenvectors.

    Args:
        factors: ``[W_1 … W_L]`` of one minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``, float64.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        count: How many of the largest; None takes all.
        tolerance: ``‖H v − λ v‖ / λ`` to stop at where a few of many are iterated for.
        input_root: In place of ``G`` a root of it, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.

    Returns:
        Eigenvalues ``(K,)``, and orthonormal vectors in parameter space ``(K, N)``, in the order of
        :func:`dmf_sharpness.network.factors.flatten`. The vectors orthogonal to all of these span the kernel.

    Raises:
        TypeError: A factor, the Gram matrix or its root is not a float64 tensor, ``count`` is no
            integer or the tolerance no number.
        ValueError: As :func:`hessian_spectrum`; ``count`` or the tolerance is not positive; or the
            iteration does not reach the tolerance.
        MemoryError: There is none for all that are asked for.

    Examples:
        >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
        >>> values, vectors = hessian_eigenvectors([W, W], count=2)
        >>> values, vectors.shape
        (tensor([16., 10.], dtype=torch.float64), torch.Size([2, 8]))
    """
    factors, norms = measured_factors(factors)
    check_single(factors)
    root = checked_root(factors, input_gram, input_root)
    if count is not None:
        count = checked_integer(count, "count", least=1)
    tolerance = checked_number(tolerance, "tolerance", above=0)

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


def _top_eigenpairs(
    factors: Factors, root: Tensor | None, count: int | None, tolerance: float
) -> tuple[Tensor, Tensor]:
    d_0, d_L = factors[0].shape[-1], factors[-1].shape[-2]
    order = d_0 * d_L
    if count is None or order <= DENSE_ORDER or 4 * count > order:
        eigenvalues, eigenvectors = torch.linalg.eigh(curvature_matrix(factors, root))
        return eigenvalues.flip(0)[:count], unstacked(eigenvectors.mT.flip(0)[:count], factors)
    start = gaussian((d_L, d_0), 0, factors[0].device)
    return top_eigenvectors(curvature_operator(factors, root), start, count, tolerance / 4)


def hessian_trace(
    factors: Factors, input_gram: Tensor | None = None, *, input_root: Tensor | None = None
) -> float | Tensor:
    """The trace of the Hessian at a minimizer, ``2 Σ_i ‖L_i‖_F² ‖R_i‖_F²``; no eigenproblem.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        input_root: In place of ``G`` a root of it, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.

    Returns:
        A float; for a batch a tensor ``(…)``, NaN for a member beyond the range.

    Raises:
        TypeError: A factor, the Gram matrix or its root is not a float64 tensor.
        ValueError: Shapes do not fit, values are not finite, ``G`` is not a Gram matrix, or the trace
            of a single minimizer is beyond the range of float64, 2.2e-308 to 1.8e308 and zero.

    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> hessian_trace([W, W])
    40.0
    """
    return _of_grams(_trace, factors, input_gram, input_root)


def hessian_frobenius_norm(
    factors: Factors, input_gram: Tensor | None = None, *, input_root: Tensor | None = None
) -> float | Tensor:
    """``‖H‖_F`` at a minimizer, from ``‖H‖_F² = 4 Σ_ij ⟨A_i, A_j⟩ ⟨B_i, B_j⟩``.

    ``A_i = L_iL_iᵀ`` and ``B_i = R_iᵀR_i``: inner products of Kronecker products multiply.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        input_root: In place of ``G`` a root of it, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.

    Returns:
        A float; for a batch a tensor ``(…)``, NaN for a member beyond the range.

    Raises:
        TypeError: A factor, the Gram matrix or its root is not a float64 tensor.
        ValueError: As :func:`hessian_trace`.

    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> hessian_frobenius_norm([W, W]) ** 2 - (16**2 + 10**2 + 10**2 + 4**2)
    0.0
    """
    return _of_grams(_frobenius_norm, factors, input_gram, input_root)


def _of_grams(
    compute: Callable[[list[tuple[Tensor, Tensor]]], Tensor],
    factors: Factors,
    input_gram: Tensor | None,
    input_root: Tensor | None,
) -> float | Tensor:
    """What ``compute`` makes of the pairs ``(A_i, B_i)``, of the order of the Hessian."""
    factors, norms = measured_factors(factors)
    root = checked_root(factors, input_gram, input_root)

    values, scaled = at_safe_scale(
        factors,
        norms,
        root,
        lambda W, S: compute(_whole_grams(W, S)),
        lambda found: found,
        SAFE_BITS,
    )
    if scaled is not None:
        grams = _whole_grams(scaled.factors, scaled.input_root)
        values = compute([_balanced(A, B) for A, B in grams]).expand(factors[0].shape[:-2])
        values = told(scaled_back(values, scaled))
    return plain(values.expand(factors[0].shape[:-2]))


def _whole_grams(factors: Factors, root: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    d_L, d_0 = factors[-1].shape[-2], factors[0].shape[-1]
    return [
        (identity(d_L, factors) if A is None else A, identity(d_0, factors) if B is None else B)
        for A, B in zip(*layer_grams(factors, root), strict=True)
    ]


def _trace(grams: list[tuple[Tensor, Tensor]]) -> Tensor:
    terms = [_diagonal_sum(A) * _diagonal_sum(B) for A, B in grams]
    return 2 * sum(terms[1:], start=terms[0])


def _diagonal_sum(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def _frobenius_norm(grams: list[tuple[Tensor, Tensor]]) -> Tensor:
    terms = [(A * C).sum((-2, -1)) * (B * D).sum((-2, -1)) for A, B in grams for C, D in grams]
    return 2 * sum(terms[1:], start=terms[0]).sqrt()


def _balanced(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """``2^a A`` and ``2^{−a} B``: the same ``A ⊗ B``, of about the same size, and so are their squares."""
    a = ((exponents(B) - exponents(A)) / 2).floor()[..., None, None]
    return times_power(A, a), times_power(B, -a)
