"""The largest Hessian eigenvalue at any point of parameter space, minimizer or not.

Away from the minimizers that the exact expression covers, the residual ``E = W_{L:1} S − T`` adds
``2 Σ_{i≠j} ⟨E, (product with U_i and U_j in their places)⟩`` to the Gauss–Newton part ``2 ‖J U‖²`` of the
quadratic form. No small operator has that spectrum, so the eigenvalue is found in parameter space,
with the closed-form Hessian-vector product of :mod:`dmf_sharpness.network.loss`.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_number, checked_tensor
from dmf_sharpness.hessian.lanczos import top_eigenvector
from dmf_sharpness.network.curvature import check_single, checked_root, in_root_coordinates
from dmf_sharpness.network.factors import Factors, checked_factors, flatten, unflatten, widths
from dmf_sharpness.network.loss import checked_target, gradient, hessian_vector_product
from dmf_sharpness.network.norms import gradient_norm, norm_bits, scaled
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.randomness import gaussian
from dmf_sharpness.network.scaling import SMALLEST, TINY, exponents

DENSE_PARAMETERS = 400
"""Up to here the Hessian is written out, column by column, and left to LAPACK."""
LOST_BITS = 1074 - 80
"""What underflows is below ``2^{−1074}``; 80 bits more are none of the digits of a result."""
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
        gradient_norm: ``‖∇f‖``: zero at minimizers and saddles; ``inf`` or zero beyond the range, NaN
            where it cannot be computed.
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
    root = None if root is None else scaled(root, t)
    bits = _bound_bits(factors, norm_bits(seen) + t, root)
    k = -_per_layer(_unless_ordinary(bits), depth)
    W = [scaled(factor, k) for factor in factors]
    found = _largest(W, scaled(seen, depth * k + t), root, tolerance)
    if depth > 1 and 0 < abs(found.value) < SMALLEST:
        # Far below its bound: again, at the scale of what was found.
        k -= _per_layer(math.log2(abs(found.value)), depth)
        W = [scaled(factor, k) for factor in factors]
        found = _largest(W, scaled(seen, depth * k + t), root, tolerance)
    unit = 2 * (depth - 1) * k + 2 * t
    value = float(scaled(seen.new_tensor(found.value), -unit))
    lost = _lost_bits(bits, W, norm_bits(seen) + depth * k + t, root)
    if found.value:
        normal = abs(found.value) >= SMALLEST and TINY <= abs(value) < math.inf
        faithful = normal and lost < math.log2(abs(found.value))
    else:
        # One that was scaled down may have been lost altogether.
        faithful = bits == -math.inf or (k == 0 and t == 0 and lost < bits)
    slope = found.gradient_norm
    if k or t or not 2.0**-ORDINARY_BITS < slope < math.inf:
        slope = gradient_norm(factors, seen, root, t)
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
    return scaled(scaled(M, -unit) @ root, unit)


def _largest(
    factors: Factors, seen: Tensor, root: Tensor | None, tolerance: float
) -> PointSharpness:
    """:func:`sharpness_at` at a scale where nothing is huge or tiny."""
    sizes, problem = widths(factors), Problem(seen, root)

    def apply(vector: Tensor) -> Tensor:
        direction = unflatten(vector, sizes)
        return flatten(hessian_vector_product(factors, direction, problem))

    slope = flatten(gradient(factors, problem))
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
        gradient_norm=float(torch.linalg.vector_norm(slope)),
        method=method,
    )


def _lost_bits(bits: float, factors: Factors, seen_bits: float, root: Tensor | None) -> float:
    """``log₂`` of what underflow, below ``2^{−1074}``, may cost an eigenvalue, with some digits to spare.

    It is multiplied by other factors at most, whose norms above 1 have the product ``2^g``.
    """
    if bits == -math.inf or len(factors) == 1:
        return -math.inf  # a Hessian of zeros, or one that does not depend on the point
    sizes = [*(norm_bits(W) for W in factors), seen_bits]
    sizes += [] if root is None else [2 * norm_bits(root)]
    return sum(size for size in sizes if size > 0) - LOST_BITS


def _bound_bits(factors: Factors, seen_bits: float, root: Tensor | None) -> float:
    """``log₂`` of a bound on the Hessian's eigenvalues, from the norms; ``−∞`` if it is zero."""
    sizes = sorted(norm_bits(W) for W in factors)
    data = 0.0 if root is None else norm_bits(root)
    bounds = [2 * sum(sizes[1:]) + 2 * data]
    if len(factors) > 1:
        bounds.append(max(sum(sizes) + data, seen_bits) + data + sum(sizes[2:]))
    return max(bounds)


def _unless_ordinary(bits: float) -> float:
    """0 for what may stay as it is, and for a Hessian of zeros."""
    return 0.0 if abs(bits) <= ORDINARY_BITS or math.isinf(bits) else bits


def _per_layer(bits: float, depth: int) -> int:
    """The power of two of a layer that makes ``2^bits`` of the eigenvalue."""
    return round(bits / (2 * (depth - 1))) if depth > 1 else 0
