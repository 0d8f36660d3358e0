"""The largest Hessian eigenvalue at any point of parameter space, minimizer or not.

Away from the minimizers that the exact expression covers, the residual ``E = W_{L:1} S − T`` adds
``2 Σ_{i≠j} ⟨E, (product with U_i and U_j in their places)⟩`` to the Gauss–Newton part ``2 ‖J U‖²`` of the
quadratic form. No small operator has that spectrum, so the eigenvalue is found in parameter space,
with the closed-form Hessian-vector product of :mod:`dmf_sharpness.loss`.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_number, checked_tensor
from dmf_sharpness.curvature import check_single, checked_root, in_root_coordinates
from dmf_sharpness.eigensolvers import top_eigenvector
from dmf_sharpness.factors import (
    Factors,
    checked_factors,
    end_to_end,
    flatten,
    left_factors,
    right_factors,
    unflatten,
    widths,
)
from dmf_sharpness.loss import checked_target, gradient, hessian_vector_product
from dmf_sharpness.randomness import gaussian
from dmf_sharpness.scaling import SMALLEST, TINY, exponents, times_power

DENSE_PARAMETERS = 400
"""Up to here the Hessian is written out, column by column, and left to LAPACK."""
LOST_BITS, ZERO_BITS = 1074 - 80, 200
"""What underflows is ``2^80`` times below this; a value of 0 is one to ``2^{−200}``."""
ORDINARY_BITS = 200
"""A bound on the eigenvalue within ``2^{±200}`` leaves the point at its scale."""


@dataclass(frozen=True)
class PointSharpness:
    """The largest Hessian eigenvalue at a point.

    Attributes:
        value: The eigenvalue. It is negative where every direction curves downwards. Infinite, zero or
            subnormal beyond the range; NaN, with an ``eigenvector`` of zeros, where the Hessian
            overflows at every scale of the factors.
        eigenvector: Its unit vector, shaped like the factors.
        residual: ``‖H v − λ v‖ / |λ|``; NaN where ``value`` is beyond the range of float64.
        converged: Whether that is at most ``tolerance``.
        tolerance: What was asked for.
        gradient_norm: ``‖∇f‖``: zero at minimizers and saddles; ``inf`` or zero beyond the range.
        method: ``dense`` or ``lanczos``.
    """

    value: float
    eigenvector: list[Tensor]
    residual: float
    converged: bool
    tolerance: float
    gradient_norm: float
    method: str


def sharpness_at(
    factors: Factors,
    target: Tensor,
    input_gram: Tensor | None = None,
    *,
    input_root: Tensor | None = None,
    tolerance: float = 1e-10,
) -> PointSharpness:
    """The largest Hessian eigenvalue of ``‖Y − W_{L:1} X‖_F²`` at any point.

    How many digits nearly collinear inputs leave depends on what is given. Let ``κ`` be the condition
    number of ``X``. A solution ``Y X⁺`` may be as large as ``κ``, and so is its rounding error: the value
    is right to about ``1e-16 κ``. The Gram matrix besides loses directions of the inputs below 1e-8 of
    the largest. With ``input_root=X`` and the outputs ``Y`` as the target neither happens, and the value
    is right to rounding whatever ``κ`` is. None of these errors shows in ``residual``, which is that of
    the eigenproblem.

    The range is that of float64 for the value, its ``|λ|`` from 2.2e-308 to 1.8e308 and exactly zero,
    and for the target at the scale of the factors that makes ``|λ|`` about 1; beyond, ``converged`` is
    false and ``residual`` NaN.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``, float64; no batch.
        target: ``M``, or with data any least-squares solution such as ``Y X⁺``, shape ``(d_L, d_0)``; or,
            beside an input root of ``n ≠ d_0`` columns, the outputs ``Y`` themselves, shape ``(d_L, n)``.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        input_root: In place of ``G`` a root of it, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.
        tolerance: Wanted ``‖H v − λ v‖ / |λ|``, positive.

    Raises:
        TypeError: A tensor is not float64, or the tolerance is no number.
        ValueError: Shapes do not fit, values are not finite, a batch was given, ``G`` is not a Gram
            matrix, ``G`` and a root are both given, or the tolerance is not positive.

    Examples:
        ``(1 − w_2 w_1)²`` at ``w = (0, 0)`` is a saddle: eigenvalues ±2.

        >>> zero = torch.zeros(1, 1, dtype=torch.float64)
        >>> sharpness_at([zero, zero], torch.ones(1, 1, dtype=torch.float64)).value
        2.0
    """
    factors = checked_factors(factors)
    check_single(factors)
    root = checked_root(factors, input_gram, input_root)
    seen = _seen(factors, target, root, input_root)
    tolerance = checked_number(tolerance, "tolerance", above=0)
    # The Hessian at 2^k W, 2^t S, 2^{Lk+t} T is 2^{2(L−1)k + 2t} times that at W, S, T.
    depth = len(factors)
    t = 0.0 if root is None else -float(exponents(root))
    t = t if abs(t) > ORDINARY_BITS / 2 else 0.0
    root, seen = None if root is None else _times(root, t), _times(seen, t)
    bits = _bound_bits(factors, seen, root)
    k = -_per_layer(_unless_ordinary(bits), depth)
    found = _largest([_times(W, k) for W in factors], _times(seen, depth * k), root, tolerance)
    if depth > 1 and 0 < abs(found.value) < SMALLEST:
        # Far below its bound: again, at the scale of what was found.
        k -= _per_layer(math.log2(abs(found.value)), depth)
        W = [_times(W, k) for W in factors]
        found = _largest(W, _times(seen, depth * k), root, tolerance)
    unit = 2 * (depth - 1) * k + 2 * t
    value = float(_times(seen.new_tensor(found.value), -unit))
    faithful = found.value == 0 or (abs(found.value) >= SMALLEST and TINY <= abs(value) < math.inf)
    faithful = faithful and _nothing_lost(found.value, bits, factors, seen, root, k)
    slope = found.gradient_norm
    if k or t or not math.isfinite(slope):
        slope = _gradient_norm(factors, seen, root, t)
    return replace(
        found,
        value=value,
        residual=found.residual if faithful else math.nan,
        converged=faithful and found.converged,
        gradient_norm=slope,
    )


def _seen(factors: Factors, target: object, root: Tensor | None, input_root: object) -> Tensor:
    """``T``, what the inputs show of the target: ``M S``, or the outputs in the root's coordinates."""
    if root is not None and isinstance(input_root, Tensor):
        (d_0, n), d_L = input_root.shape, factors[-1].shape[-2]
        if n != d_0 and isinstance(target, Tensor) and target.shape[-1:] == (n,):
            Y = checked_tensor(target, "target", (d_L, n), device=root.device)
            return in_root_coordinates(Y, input_root.detach())
    M = checked_target(factors, target)
    if root is None:
        return M
    unit = float(exponents(M))
    return _times(_times(M, -unit) @ root, unit)


def _largest(
    factors: Factors, seen: Tensor, root: Tensor | None, tolerance: float
) -> PointSharpness:
    """:func:`sharpness_at` at a scale where nothing is huge or tiny."""
    sizes = widths(factors)

    def apply(vector: Tensor) -> Tensor:
        direction = unflatten(vector, sizes)
        return flatten(hessian_vector_product(factors, direction, seen, root))

    slope = flatten(gradient(factors, seen, root))
    norm, unit = _norm(slope[None])
    order = slope.numel()
    if order <= DENSE_PARAMETERS:
        basis = torch.eye(order, dtype=slope.dtype, device=slope.device)
        hessian = torch.stack([apply(column) for column in basis])
        value, vector, method = math.nan, torch.zeros_like(slope), "dense"
        if bool(torch.isfinite(hessian).all()):
            values, vectors = torch.linalg.eigh((hessian + hessian.mT) / 2)
            value, vector = float(values[-1]), vectors[:, -1]
    else:
        start = gaussian((order,), 0, slope.device)
        value, vector = top_eigenvector(apply, start, tolerance / 4, krylov=20)
        method = "lanczos"
    defect = float(torch.linalg.vector_norm(apply(vector) - value * vector))
    residual = defect / abs(value) if value else defect
    return PointSharpness(
        value=value,
        eigenvector=unflatten(vector if math.isfinite(value) else torch.zeros_like(vector), sizes),
        residual=residual,
        converged=residual <= tolerance,
        tolerance=tolerance,
        gradient_norm=norm if not unit else float(_times(slope.new_tensor(norm), unit)),
        method=method,
    )


def _nothing_lost(
    value: float, bits: float, factors: Factors, seen: Tensor, root: Tensor | None, k: float
) -> bool:
    """Whether what underflowed, below ``2^{−1074}``, cannot amount to a digit of the eigenvalue.

    It is multiplied by other factors at most, whose norms above 1 have the product ``2^g``.
    """
    if bits == -math.inf or len(factors) == 1:
        return True  # a Hessian of zeros, or one that does not depend on the point
    sizes = [_norm_bits(W) + k for W in factors] + [_norm_bits(seen) + len(factors) * k]
    sizes += [] if root is None else [2 * _norm_bits(root)]
    g = sum(size for size in sizes if size > 0)
    return g - LOST_BITS < (math.log2(abs(value)) if value else -ZERO_BITS)


def _bound_bits(factors: Factors, seen: Tensor, root: Tensor | None) -> float:
    """``log₂`` of a bound on the Hessian's eigenvalues, from the norms; ``−∞`` if it is zero."""
    sizes = sorted(_norm_bits(W) for W in factors)
    data = 0.0 if root is None else _norm_bits(root)
    bounds = [2 * sum(sizes[1:]) + 2 * data]
    if len(factors) > 1:
        bounds.append(max(sum(sizes) + data, _norm_bits(seen)) + data + sum(sizes[2:]))
    return max(bounds)


def _norm(matrix: Tensor) -> tuple[float, int]:
    """``x`` and ``e`` with ``‖W‖_F = 2^e x``, ``x`` well within the range; 0 is ``e`` of an ordinary one."""
    norm = float(torch.linalg.vector_norm(matrix))
    if 2.0**-ORDINARY_BITS < norm < 2.0**ORDINARY_BITS or not bool(matrix.any()):
        return norm, 0
    unit = int(exponents(matrix))
    return float(torch.linalg.vector_norm(_times(matrix, -unit))), unit


def _norm_bits(matrix: Tensor) -> float:
    norm, unit = _norm(matrix)
    return -math.inf if norm == 0 else math.log2(norm) + unit


def _gradient_norm(factors: Factors, seen: Tensor, root: Tensor | None, t: float) -> float:
    """``‖∇f‖`` at ``W``, ``2^{−t} S``, ``2^{−t} T``, with each factor and the residual in units of their own.

    ``L_i`` and ``R_i`` do not depend on ``W_i``: each part of the gradient has a power of two for itself.
    """
    units = [float(exponents(W)) for W in factors]
    W = [_times(factor, -unit) for factor, unit in zip(factors, units, strict=True)]
    product = end_to_end(W) if root is None else end_to_end(W) @ root
    unit = max(sum(units), float(exponents(seen)))
    E = _times(product, sum(units) - unit) - _times(seen, -unit)
    outer = 2 * (E if root is None else E @ root.mT)
    bits = [
        _norm_bits(L.mT @ outer @ R.mT) + sum(units) - own + unit - 2 * t
        for L, R, own in zip(left_factors(W), right_factors(W), units, strict=True)
    ]
    if any(math.isnan(part) for part in bits):
        return math.nan
    if max(bits) == -math.inf:
        return 0.0
    squares = sum(4.0 ** (part - max(bits)) for part in bits)
    whole = math.floor(max(bits))
    return float(_times(seen.new_tensor(2.0 ** (max(bits) - whole) * squares**0.5), whole))


def _unless_ordinary(bits: float) -> float:
    """0 for what may stay as it is, and for a Hessian of zeros."""
    return 0.0 if abs(bits) <= ORDINARY_BITS or math.isinf(bits) else bits


def _per_layer(bits: float, depth: int) -> int:
    """The power of two of a layer that makes ``2^bits`` of the eigenvalue."""
    return round(bits / (2 * (depth - 1))) if depth > 1 else 0


def _times(values: Tensor, exponent: float) -> Tensor:
    return times_power(values, values.new_tensor(exponent)) if exponent else values
