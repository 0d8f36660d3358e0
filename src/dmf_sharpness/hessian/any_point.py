"""The largest Hessian eigenvalue at any point of parameter space, minimizer or not.

The quadratic form of the Hessian is ``2 ‖J U‖² + 2 Σ_{i≠j} ⟨E, P_ij S⟩``. The first term is the
Gauss–Newton part. In the second one ``E = W_{L:1} S − T`` is the residual, and ``P_ij`` is the
product ``W_L ⋯ W_1`` with ``U_i`` and ``U_j`` in the places of ``W_i`` and ``W_j``. At the
minimizers that the exact expression covers, the second term vanishes. Elsewhere no operator of
small order has the spectrum of the Hessian. So the eigenvalue is computed in parameter space, with
the Hessian-vector product of :mod:`dmf_sharpness.network.loss`.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_flag, checked_integer, checked_number, checked_tensor
from dmf_sharpness.hessian.batched_points import ENTRIES_AT_ONCE, top_pairs
from dmf_sharpness.hessian.extreme_pairs import Wanted
from dmf_sharpness.hessian.model_curvature import refuse_beside_model
from dmf_sharpness.hessian.model_points import model_point
from dmf_sharpness.hessian.points import DENSE_PARAMETERS, PointSharpness, near, solved_point
from dmf_sharpness.network.curvature import checked_root, in_root_coordinates
from dmf_sharpness.network.factors import Factors, checked_factors, flatten, unflatten, widths
from dmf_sharpness.network.linear_model import LinearModel
from dmf_sharpness.network.loss import checked_target, gradient, hessian_vector_product
from dmf_sharpness.network.norms import gradient_norm, norm_bits, scaled
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.randomness import gaussian
from dmf_sharpness.network.scaling import SMALLEST, TINY, exponents

LOST_BITS = 1074 - 80
"""An error from underflow is taken to be ``2^{−LOST_BITS}``, times the norms that it is multiplied by.

A number that underflows is below ``2^{−1074}``. The margin of 80 bits keeps it far below the last
digit of a result, which has 53 bits.
"""
ORDINARY_BITS = 200
"""A point stays unscaled if the bound on its largest eigenvalue is within ``2^{±200}``."""


def sharpness_at(
    factors: Factors | LinearModel,
    target: Tensor | None = None,
    input_gram: Tensor | None = None,
    *,
    input_root: Tensor | None = None,
    tolerance: float = 1e-10,
    start: PointSharpness | None = None,
    count: int = 1,
    lowest: bool = False,
) -> PointSharpness:
    """The largest Hessian eigenvalue of ``‖Y − W_{L:1} X‖_F²`` at any point.

    If the inputs are nearly collinear, the accuracy depends on the form in which they are given.
    Let ``κ`` be the condition number of ``X``. The solution ``Y X⁺`` may have entries as large as
    ``κ``, with rounding errors in proportion, so that the relative error of the value is about
    ``1e-16 κ``. The Gram matrix, in addition, hides directions in which the inputs are smaller than
    ``1e-8`` times the largest singular value of ``X``. With ``input_root=X`` and the outputs ``Y``
    as the target neither happens, and the value is accurate to rounding for every ``κ``.
    ``residual`` does not contain any of these errors, because it is the residual of the
    eigenproblem alone.

    The value must be in the range of float64: zero, or ``|λ|`` between 2.2e-308 and 1.8e308. So
    must the target, after the factors are scaled such that ``|λ|`` is about 1. Otherwise
    ``converged`` is False and ``residual`` is NaN.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64, for example all points
            of a trajectory. Many points of a small network are computed faster at once than one by one. Or
            the result of :func:`dmf_sharpness.from_module`, which has its data and targets already.
        target: ``M``, shape ``(d_L, d_0)`` or ``(…, d_L, d_0)``, or with input data any
            least-squares solution such as ``Y X⁺``. If an input root with ``n ≠ d_0`` columns is given,
            the target may also be the outputs ``Y``, shape ``(d_L, n)``, the same at all points.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        input_root: A root of ``G`` instead of ``G``, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.
        tolerance: The wanted relative residual ``‖H v − λ v‖ / |λ|``, positive.
        start: The result at a point or a batch nearby, whose eigenvectors the iteration starts from.
            A batch of large networks is computed in its order, each point from the one before.
        count: The number of largest eigenvalues, at most that of parameters. More than one are slower.
        lowest: Whether the smallest eigenvalue, the most negative one at a saddle, is wanted, too.

    Returns:
        The eigenvalue with its eigenvector and residual, and the norm of the gradient.

    Raises:
        TypeError: A tensor is not float64, the tolerance or the count is not a number, ``lowest`` is not
            a truth value, or the start is not a result.
        ValueError: The shapes do not fit, the start is of other widths, values are not finite, ``G`` is
            not a Gram matrix, both ``G`` and a root are given, the tolerance is not positive, the count
            is below 1 or above the number of parameters, or it is above 1 and Lanczos does not
            reach the tolerance.

    Examples:
        The loss ``(1 − w_2 w_1)²`` has a saddle at ``w = (0, 0)``, where the eigenvalues are 2 and −2.

        >>> zero = torch.zeros(1, 1, dtype=torch.float64)
        >>> sharpness_at([zero, zero], torch.ones(1, 1, dtype=torch.float64)).value
        2.0
    """
    # Arguments.
    if isinstance(factors, LinearModel):
        refuse_beside_model(target=target, input_gram=input_gram, input_root=input_root)
        return model_point(factors, tolerance, start, count, lowest)
    factors = checked_factors(factors)
    root = checked_root(factors, input_gram, input_root)
    seen = _seen(factors, target, root, input_root)
    tolerance = checked_number(tolerance, "tolerance", above=0)
    first = _start(factors, start)
    count = checked_integer(count, "count", 1, first.shape[-1])
    wanted = Wanted(tolerance, count, checked_flag(lowest, "lowest"))
    if factors[0].ndim > 2:
        return _at_each(factors, seen, root, wanted, first, start is not None)
    return _at_one(factors, seen, root, wanted, first)


def _start(factors: Factors, start: object) -> Tensor:
    """The first Krylov vectors, ``(…, N)``."""
    order = sum(W.shape[-2] * W.shape[-1] for W in factors)
    batch = factors[0].shape[:-2]
    if start is None:
        return gaussian((order,), 0, factors[0].device).expand(*batch, order)
    if not isinstance(start, PointSharpness):
        raise TypeError(f"start: expected a PointSharpness, got {type(start).__name__}")
    vectors = start.eigenvector
    before = vectors[0].shape[:-2]
    if widths(vectors) != widths(factors) or before not in ((), batch):
        raise ValueError(
            f"start: expected a result for widths {widths(factors)} at one point or {tuple(batch)}, "
            f"got widths {widths(vectors)} and {tuple(before)}"
        )
    return near(flatten(vectors).to(factors[0].device)).expand(*batch, order)


def _at_each(
    factors: Factors,
    seen: Tensor,
    root: Tensor | None,
    wanted: Wanted,
    first: Tensor,
    started: bool,
) -> PointSharpness:
    """:func:`sharpness_at` for a batch: together at ordinary scale, and the other points one by one."""
    batch, sizes, tolerance = factors[0].shape[:-2], widths(factors), wanted.tolerance
    points = [W.reshape(-1, *W.shape[-2:]) for W in factors]
    targets = seen.expand(*batch, *seen.shape[-2:]).reshape(-1, *seen.shape[-2:])
    first = first.reshape(len(targets), -1)
    # Norms far from 1 could lose digits by underflow or overflow, which only the computation with
    # scaled factors notices. Points that did not converge are tried once more by themselves as well.
    bits = torch.stack([torch.linalg.matrix_norm(W) for W in points]).log2().abs().sum(0)
    for data in (seen, root):
        size = 1.0 if data is None else float(torch.linalg.vector_norm(data))
        bits += abs(math.log2(size)) if 0 < size < math.inf else size
    together = bits < ORDINARY_BITS
    large = first.shape[1] > (ENTRIES_AT_ONCE if wanted.count == 1 else DENSE_PARAMETERS)
    if large:
        residual, slope, least = first.new_full((3, len(first)), torch.nan)
        largest, vectors = first.new_full((len(first), wanted.count), torch.nan), first.clone()
    else:
        problem = Problem(targets if seen.ndim > 2 else seen, root)
        found = top_pairs(points, problem, tolerance, first, wanted.count, wanted.lowest)
        largest, vectors, slope = found.largest, found.vector, found.gradient_norm
        residual = found.defect / largest[:, 0].abs()
        least = torch.full_like(slope, torch.nan) if found.lowest is None else found.lowest
    together &= (residual <= tolerance) & (largest[:, 0].abs() > 2.0**-ORDINARY_BITS)
    for b in torch.nonzero(~together)[:, 0].tolist():
        warm = large and not started and b > 0
        at = near(vectors[b - 1]) if warm else first[b]
        one = _at_one([W[b] for W in points], targets[b], root, wanted, at)
        largest[b], residual[b], slope[b] = one.largest, one.residual, one.gradient_norm
        vectors[b] = flatten(one.eigenvector)
        if one.lowest is not None:
            least[b] = one.lowest
    return PointSharpness(
        value=largest[:, 0].reshape(batch),
        eigenvector=unflatten(vectors.reshape(*batch, -1), sizes),
        residual=residual.reshape(batch),
        converged=(residual <= tolerance).reshape(batch),
        tolerance=tolerance,
        gradient_norm=slope.reshape(batch),
        method="batched",
        largest=largest.reshape(*batch, -1),
        lowest=least.reshape(batch) if wanted.lowest else None,
    )


def _at_one(
    factors: Factors, seen: Tensor, root: Tensor | None, wanted: Wanted, first: Tensor
) -> PointSharpness:
    """:func:`sharpness_at` for a single point, at any scale."""
    # Scale: the Hessian at 2^k W, 2^t S, 2^{Lk+t} T is 2^{2(L−1)k + 2t} times that at W, S, T. With
    # these powers of two the largest eigenvalue is brought near 1, unless it is of ordinary size anyway.
    depth = len(factors)
    t = 0.0 if root is None else -float(exponents(root))
    t = t if abs(t) > ORDINARY_BITS / 2 else 0.0
    root = None if root is None else scaled(root, t)
    bits = _bound_bits(factors, norm_bits(seen) + t, root)
    k = -_per_layer(_unless_ordinary(bits), depth)

    # Eigenpair at that scale.
    W = [scaled(factor, k) for factor in factors]
    found = _largest(W, scaled(seen, depth * k + t), root, wanted, first)
    size = abs(float(found.value))
    if depth > 1 and 0 < size < SMALLEST:
        # The eigenvalue is far below its bound, so the scale was too small. The eigenvalue that was
        # found gives a better one.
        k -= _per_layer(math.log2(size), depth)
        W = [scaled(factor, k) for factor in factors]
        found = _largest(W, scaled(seen, depth * k + t), root, wanted, first)

    # Value for the original point, and whether overflow or underflow took digits of it.
    unit = 2 * (depth - 1) * k + 2 * t
    value = float(scaled(seen.new_tensor(found.value), -unit))
    lost = _lost_bits(bits, W, norm_bits(seen) + depth * k + t, root)
    size = abs(float(found.value))
    if size:
        normal = size >= SMALLEST and TINY <= abs(value) < math.inf
        faithful = normal and lost < math.log2(size)
    else:
        # A zero is trusted if the bound is zero. It is also trusted if nothing was scaled and no
        # error from underflow could matter, because otherwise a small eigenvalue may have been lost.
        faithful = bits == -math.inf or (k == 0 and t == 0 and lost < bits)

    # Gradient norm, computed anew where its squares may have left the range.
    slope = float(found.gradient_norm)
    if k or t or not 2.0**-ORDINARY_BITS < slope < math.inf:
        slope = gradient_norm(factors, seen, root, t)
    return replace(
        found,
        value=value,
        residual=found.residual if faithful else math.nan,
        converged=faithful and found.converged,
        gradient_norm=slope,
        largest=scaled(found.largest, -unit),
        lowest=None
        if found.lowest is None
        else float(scaled(seen.new_tensor(found.lowest), -unit)),
    )


def _seen(factors: Factors, target: object, root: Tensor | None, input_root: object) -> Tensor:
    """The target ``T`` of the reduced problem: ``M S``, or the outputs in the coordinates of the root."""
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
    factors: Factors, seen: Tensor, root: Tensor | None, wanted: Wanted, first: Tensor
) -> PointSharpness:
    """:func:`sharpness_at` for a point at ordinary scale, where no computation leaves the range."""
    sizes, problem = widths(factors), Problem(seen, root)

    def apply(vector: Tensor) -> Tensor:
        direction = unflatten(vector, sizes)
        return flatten(hessian_vector_product(factors, direction, problem))

    slope = flatten(gradient(factors, problem))
    found = solved_point(apply, slope, wanted, first, len(factors))
    return replace(found, eigenvector=unflatten(found.eigenvector[0], sizes))


def _lost_bits(bits: float, factors: Factors, seen_bits: float, root: Tensor | None) -> float:
    """``log₂`` of a bound on the error of an eigenvalue from underflow, with the margin of ``LOST_BITS``.

    A number that underflows is multiplied by other matrices afterwards. The product of all norms
    above 1 bounds the result.
    """
    if bits == -math.inf or len(factors) == 1:
        return -math.inf  # the Hessian is zero, or does not depend on the point
    sizes = [*(norm_bits(W) for W in factors), seen_bits]
    sizes += [] if root is None else [2 * norm_bits(root)]
    return sum(size for size in sizes if size > 0) - LOST_BITS


def _bound_bits(factors: Factors, seen_bits: float, root: Tensor | None) -> float:
    """``log₂`` of a bound on the Hessian's eigenvalues, from norms; ``−∞`` if the Hessian is zero."""
    sizes = sorted(norm_bits(W) for W in factors)
    data = 0.0 if root is None else norm_bits(root)
    bounds = [2 * sum(sizes[1:]) + 2 * data]
    if len(factors) > 1:
        bounds.append(max(sum(sizes) + data, seen_bits) + data + sum(sizes[2:]))
    return max(bounds)


def _unless_ordinary(bits: float) -> float:
    """``bits``, but 0 where no scaling is needed or where the Hessian is zero."""
    return 0.0 if abs(bits) <= ORDINARY_BITS or math.isinf(bits) else bits


def _per_layer(bits: float, depth: int) -> int:
    """The exponent by which each factor is scaled to multiply the eigenvalues by ``2^bits``."""
    return round(bits / (2 * (depth - 1))) if depth > 1 else 0
