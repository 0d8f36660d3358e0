"""The exact sharpness of a minimizer: the largest Hessian eigenvalue of ``‖M − W_{L:1}‖_F²``.

The derivation is in :mod:`dmf_sharpness.network.curvature`: the sharpness is the largest eigenvalue of
``Y ↦ 2 Σ_i (L_iL_iᵀ) Y (R_iᵀR_i)`` on ``(d_L, d_0)`` matrices. How that is found depends on the size:

| method       | where                             | work                                        |
| ------------ | --------------------------------- | ------------------------------------------- |
| ``scalar``   | ``d_0 = d_L = 1``                 | ``2 Σ_i ‖L_i‖² ‖R_i‖²``                     |
| ``depth-1``  | one factor                        | ``2 ‖G‖₂``                                  |
| ``depth-2``  | two factors                       | eigenproblems of order ``d_L`` and ``d_0``  |
| ``dense``    | ``d_0 d_L`` of some hundreds      | an eigenproblem of that order               |
| ``batched``  | stacks of small minimizers        | all at once, on ``(d_L, d_0)`` matrices     |
| ``lanczos``  | a narrow end                      | Gram matrices once, then ``(d_L, d_0)``     |
| ``low-rank`` | two wide ends                     | layer by layer, ``O(L d² k)`` a step        |

``auto`` hands a wide network whose low-rank result missed the tolerance on to ``lanczos`` only as long as
the whole matrices that this forms take less than a gigabyte; beyond that the result says that it missed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_choice, checked_number
from dmf_sharpness.hessian import closed_forms
from dmf_sharpness.hessian.batched import batched_top_pair
from dmf_sharpness.hessian.certificate import (
    direction_residual,
    eigenmatrix_residual,
    low_rank_residual,
)
from dmf_sharpness.hessian.closed_forms import TopPair
from dmf_sharpness.hessian.eigenmatrix import ThinEigenmatrix, WholeEigenmatrix
from dmf_sharpness.hessian.lanczos import top_eigenvector
from dmf_sharpness.hessian.low_rank import (
    LowRankPair,
    largest_curvature,
    nothing_found,
    second_curvature,
)
from dmf_sharpness.hessian.operator import curvature_operator
from dmf_sharpness.hessian.result import Sharpness
from dmf_sharpness.network.chain import Chain, chain
from dmf_sharpness.network.curvature import checked_root, parameter_direction, signed
from dmf_sharpness.network.factors import Factors, measured_factors, widths
from dmf_sharpness.network.loss import check_orthogonal_residual
from dmf_sharpness.network.randomness import gaussian
from dmf_sharpness.network.scaling import Scaled, at_safe_scale, plain, times_power

Method = Literal["auto", "scalar", "depth-1", "depth-2", "dense", "batched", "lanczos", "low-rank"]

DENSE_ORDER = 256
"""Up to this ``d_0 d_L`` LAPACK is faster than an iteration."""
WIDE_END = 96
"""From this narrower end on the low-rank iteration is faster than Lanczos on whole matrices."""
LARGEST_SPLIT = 1024
"""Up to this end a dense eigenproblem of its order is worth it at depth 2."""
KRYLOV = 20
"""Krylov vectors of ``lanczos``: with fewer it restarts more often, with more it overshoots."""
BATCH_SIZE = 16
"""From this many minimizers on it pays to iterate on all at once."""
DIRECT_PARAMETERS = 20_000
"""Up to here the certificate takes the Hessian-vector product of the loss as it stands."""
LARGEST_WHOLE = 2**30
"""Bytes of whole-matrix products and Gram matrices that ``auto`` may form for two wide ends."""
TOLERANCE = 1e-10
SECOND_TOLERANCE = 1e-6
"""Tolerance of the second eigenvector of ``lanczos``."""
SECOND_LOW_RANK_TOLERANCE = 1e-3
"""Tolerance of the second eigenvector of ``low-rank``."""
LOW_RANK_TOLERANCE = 1e-5
"""Of the eigenvector. The value is right to about the square of it over the relative gap."""
LOW_RANK_LIMIT = 1e-7
"""A tighter tolerance than this asks for more columns than the low-rank iteration is good for."""


def sharpness(
    factors: Factors,
    input_gram: Tensor | None = None,
    *,
    input_root: Tensor | None = None,
    target: Tensor | None = None,
    method: Method = "auto",
    tolerance: float | None = None,
) -> Sharpness:
    """The exact largest Hessian eigenvalue at a minimizer of ``‖Y − W_{L:1} X‖_F²``.

    The range is that of float64: ``λ_max`` from 2.2e-308 to 1.8e308, and exactly zero. The factors may
    differ in size as long as, at the common scale that makes ``λ_max`` about 1, the product of all
    ``‖W_i‖₂`` above 1 is below 1e114. Beyond, ``converged`` is false and ``residual`` NaN; ``value`` is
    ``inf`` where it is too large, zero or subnormal where it is too small, and NaN where the factors are
    too uneven. Nothing is raised then, and no member of a batch changes another's result.

    Args:
        factors: ``[W_1 … W_L]`` of a minimizer, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64
            (single precision is refused). A stack of minimizers of one shape is evaluated at once.
            They may require gradients; the result carries none.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization. It may be singular.
        input_root: In place of ``G`` a root of it, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``
            itself. It keeps the digits of nearly collinear inputs that their Gram matrix loses.
        target: ``M``, or with data any least-squares solution such as ``Y X⁺``, shape ``(d_L, d_0)``
            or ``(…, d_L, d_0)``. If given, the factors are checked to be what the expression is exact
            for; without it they are taken to be a minimizer of their own product.
        method: One of the table above; ``auto`` chooses by size.
        tolerance: Wanted :attr:`Sharpness.residual`, positive. None is ``1e-10``, and ``1e-5`` for
            ``low-rank``, which settles the value to about the square of that.

    Raises:
        TypeError: A factor, the Gram matrix, its root or the target is not a float64 tensor, or the
            tolerance is no number.
        ValueError: Shapes do not fit, values are not finite, ``G`` is not a Gram matrix, ``G`` and a
            root are both given, the method is unknown or does not fit the shapes, the tolerance is not
            positive, or the residual is not orthogonal to the inputs
            (:func:`dmf_sharpness.sharpness_at` takes such points).
        MemoryError: The method that was asked for needs more memory than there is.

    Examples:
        Depth 2 is ``2 (‖W_1‖₂² + ‖W_2‖₂²)``:

        >>> W_1 = torch.diag(torch.tensor([2.0, 0.5], dtype=torch.float64))
        >>> W_2 = torch.diag(torch.tensor([2.0, 2.0], dtype=torch.float64))
        >>> round(sharpness([W_1, W_2]).value, 12)
        16.0

        Three factors of norm 1 whose product is a scalar ½ (a rotation by 60° between two unit
        vectors): ``2 Σ_i ‖L_i‖² ‖R_i‖² = 6``.

        >>> e_1 = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
        >>> c, s = 0.5, 0.75**0.5
        >>> rotation = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        >>> round(sharpness([e_1, rotation, e_1.mT]).value, 12)
        6.0
    """
    factors, norms = measured_factors(factors)
    root = checked_root(factors, input_gram, input_root)
    if target is not None:
        check_orthogonal_residual(factors, target, root)
    method = cast(Method, checked_choice(method, "method", get_args(Method)))
    if tolerance is not None:
        tolerance = checked_number(tolerance, "tolerance", above=0)
    solve = partial(_solved, method=method, tolerance=tolerance)
    result, scaled = at_safe_scale(factors, norms, root, solve, lambda solved: solved.value)
    return result if scaled is None else _scaled_back(result, scaled)


def _solved(
    factors: Factors, root: Tensor | None, method: Method, tolerance: float | None
) -> Sharpness:
    chosen = _choose(factors, tolerance) if method == "auto" else method
    batch = factors[0].shape[:-2]
    if chosen in _ITERATIVE and batch:
        return _one_by_one(factors, root, chosen, tolerance)
    if chosen in _DIRECT:
        top = _solver(chosen, factors)(factors, root)
        return _direct_result(factors, root, top, chosen, tolerance or TOLERANCE)
    if chosen == "lanczos":
        return _lanczos(factors, root, tolerance or TOLERANCE)
    result = _low_rank(factors, root, tolerance or LOW_RANK_TOLERANCE)
    if method == "auto" and not result.converged and _whole_bytes(factors) <= LARGEST_WHOLE:
        # More columns than it is good for: go on from there with whole matrices.
        start = None if math.isnan(cast(float, result.value)) else result.eigenmatrix
        return _lanczos(factors, root, result.tolerance, start)
    return result


def _scaled_back(solved: Sharpness, scaled: Scaled) -> Sharpness:
    """The result for the factors themselves from that for scaled ones."""
    there = torch.as_tensor(solved.value, dtype=torch.float64, device=scaled.exponent.device)
    value = times_power(there, scaled.exponent)
    value = torch.where(scaled.possible, value.masked_fill(scaled.zero, 0.0), torch.nan)
    faithful = scaled.faithful(value, there)
    residual = torch.as_tensor(solved.residual, dtype=torch.float64, device=value.device)
    converged = faithful & torch.as_tensor(solved.converged, device=value.device)
    return replace(
        solved,
        value=plain(value),
        residual=plain(torch.where(faithful, residual, torch.nan)),
        converged=converged if value.ndim else bool(converged),
        _exponent=torch.where(faithful, scaled.exponent, torch.nan),
    )


_DIRECT: dict[str, Callable[[Factors, Tensor | None], TopPair]] = {
    "scalar": closed_forms.scalar,
    "depth-1": closed_forms.one_layer,
    "depth-2": closed_forms.two_layers,
    "dense": closed_forms.dense,
    "batched": batched_top_pair,
}
_ITERATIVE = ("lanczos", "low-rank")


def _choose(factors: Factors, tolerance: float | None) -> Method:
    sizes = widths(factors)
    d_0, d_L = sizes[0], sizes[-1]
    if len(factors) == 1:
        return "depth-1"
    if d_0 * d_L == 1:
        return "scalar"
    if len(factors) == 2 and max(d_0, d_L) <= LARGEST_SPLIT:
        return "depth-2"
    if d_0 * d_L <= DENSE_ORDER:
        count = factors[0].shape[:-2].numel()
        return "batched" if count >= BATCH_SIZE and d_0 * d_L >= 16 else "dense"
    tight = tolerance is not None and tolerance < LOW_RANK_LIMIT
    if min(d_0, d_L) < WIDE_END or (tight and _whole_bytes(factors) <= LARGEST_WHOLE):
        return "lanczos"
    return "low-rank"


def _whole_bytes(factors: Factors) -> int:
    """What the products ``L_i``, ``R_i`` of one minimizer and their Gram matrices take."""
    sizes = widths(factors)
    ends = sizes[0], sizes[-1]
    return 8 * sum((width + end) * end for width in sizes[1:-1] for end in ends)


def _solver(method: str, factors: Factors) -> Callable[[Factors, Tensor | None], TopPair]:
    depth, ends = len(factors), (widths(factors)[0], widths(factors)[-1])
    fits = {"scalar": ends == (1, 1), "depth-1": depth == 1, "depth-2": depth == 2}
    if not fits.get(method, True):
        raise ValueError(
            f"method: expected one that fits depth {depth} and the ends (d_0, d_L) = {ends}, "
            f"got {method!r}"
        )
    return _DIRECT[method]


def _direct_result(
    factors: Factors, root: Tensor | None, top: TopPair, method: str, tolerance: float
) -> Sharpness:
    size = sum(W.shape[-1] * W.shape[-2] for W in factors)
    if top.value.ndim == 0 and size > DIRECT_PARAMETERS:
        found = eigenmatrix_residual(factors, top.eigenmatrix, float(top.value), root)
        residual = top.value.new_tensor(found)
    else:
        direction = parameter_direction(factors, top.eigenmatrix, root)
        residual = direction_residual(factors, direction, top.value, root)
    converged = residual <= tolerance
    return Sharpness(
        value=plain(top.value),
        residual=plain(residual),
        converged=bool(converged) if converged.ndim == 0 else converged,
        tolerance=tolerance,
        method=method,
        _factors=factors,
        _root=root,
        _eigenmatrix=WholeEigenmatrix(top.eigenmatrix),
        _first=top.value,
        _second=partial(_second_of_direct, top.second, factors, root),
    )


def _second_of_direct(found: Tensor | None, factors: Factors, root: Tensor | None) -> Tensor:
    """The second eigenvalue that a solver found, or that of the matrix where it found none."""
    return closed_forms.second_eigenvalue(factors, root) if found is None else found


def _lanczos(
    factors: Factors, root: Tensor | None, tolerance: float, start: Tensor | None = None
) -> Sharpness:
    if start is None:
        shape = chain(factors, root).shape
        start = gaussian(shape, 0, factors[0].device)
    operator = curvature_operator(factors, root)
    value, Y = top_eigenvector(operator, start, tolerance / 4, KRYLOV)
    residual = eigenmatrix_residual(factors, Y, value, root)
    Y = signed(Y)
    first = Y.new_tensor(value)
    return Sharpness(
        value=value,
        residual=residual,
        converged=residual <= tolerance,
        tolerance=tolerance,
        method="lanczos",
        _factors=factors,
        _root=root,
        _eigenmatrix=WholeEigenmatrix(Y),
        _first=first,
        _second=partial(_second_by_deflation, factors, root, value, Y),
    )


def _second_by_deflation(
    factors: Factors, root: Tensor | None, value: float, first: Tensor
) -> Tensor:
    """The largest eigenvalue with the first eigenpair taken out."""
    operator = curvature_operator(factors, root)

    def remainder(Y: Tensor) -> Tensor:
        return operator(Y) - value * (first * Y).sum() * first

    start = gaussian(first.shape, 1, first.device)
    return first.new_tensor(max(0.0, top_eigenvector(remainder, start, SECOND_TOLERANCE)[0]))


def _low_rank(factors: Factors, root: Tensor | None, tolerance: float) -> Sharpness:
    layers = chain(factors, root)
    try:
        pair = largest_curvature(layers, tolerance)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        # Of uneven factors a product in the middle may overflow although none from an end does.
        pair = nothing_found(layers)
    residual = math.nan
    if not math.isnan(pair.value):
        residual = low_rank_residual(factors, pair.P, pair.Q, pair.value, root, pair.defect_parts)
    return Sharpness(
        value=pair.value,
        residual=residual,
        converged=residual <= tolerance,
        tolerance=tolerance,
        method="low-rank",
        _factors=factors,
        _root=root,
        _eigenmatrix=ThinEigenmatrix(pair.P, pair.Q),
        _first=pair.P.new_tensor(pair.value),
        _second=partial(_second_of_low_rank, layers, pair),
    )


def _second_of_low_rank(layers: Chain, pair: LowRankPair) -> Tensor:
    """The second eigenvalue, from the bases of the first pair; NaN where that was not found."""
    second = math.nan
    if not math.isnan(pair.value):
        second = second_curvature(layers, pair, SECOND_LOW_RANK_TOLERANCE)
    return pair.P.new_tensor(second)


def _one_by_one(
    factors: Factors, root: Tensor | None, method: str, tolerance: float | None
) -> Sharpness:
    """A batch of large minimizers, each by the iteration for a single one."""
    batch = factors[0].shape[:-2]
    solve = _lanczos if method == "lanczos" else _low_rank
    limit = tolerance or (TOLERANCE if method == "lanczos" else LOW_RANK_TOLERANCE)
    flat = [W.flatten(0, -3) for W in factors]
    results = [solve([W[b] for W in flat], root, limit) for b in range(len(flat[0]))]

    def stacked(name: str, dtype: torch.dtype = torch.float64) -> Tensor:
        values = [getattr(result, name) for result in results]
        return torch.tensor(values, dtype=dtype, device=factors[0].device).reshape(batch)

    Y = torch.stack([result.eigenmatrix for result in results])
    value = stacked("value")
    return Sharpness(
        value=value,
        residual=stacked("residual"),
        converged=stacked("converged", torch.bool),
        tolerance=limit,
        method=method,
        _factors=factors,
        _root=root,
        _eigenmatrix=WholeEigenmatrix(Y.reshape(*batch, *Y.shape[1:])),
        _first=value,
        _second=partial(_second_of_each, results, batch),
    )


def _second_of_each(results: Sequence[Sharpness], batch: torch.Size) -> Tensor:
    """The second eigenvalues of single minimizers, as one batch."""
    return torch.stack([result._second() for result in results]).reshape(batch)
