"""Minimization of the sharpness over the minimizers that a change of basis of the hidden layers reaches.

The minimizers ``W_i → G_i W_i G_{i-1}⁻¹`` of one orbit (:mod:`dmf_sharpness.minimizers.gauges`) all
have the same product, so no projection onto the set of minimizers is needed. On every orbit
``log λ_max`` is geodesically convex and attains its least value ``λ_flat`` (the section on geodesics of
``docs/flatness.md``), so one descent from any start is enough. If the target has full rank and no
hidden layer is narrower than ``max(d_0, d_L)``, the orbit of a random minimizer is open in the set of
minimizers. Narrower layers leave some directions out.

With one relative spectral product ``x_i`` held at a given value, the lower bound is the larger one
that this imbalance forces. After each move, a scalar gauge next to layer ``i`` restores the product.
The held problem is not known to be convex.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.minimizers.frames import polished
from dmf_sharpness.minimizers.gauges import along_geodesic
from dmf_sharpness.network.curvature import gram_matrix, unstacked
from dmf_sharpness.network.factors import Factors, end_to_end, left_factors, right_factors

STATIONARY = 1e-9
"""A descent ends where the gradient of ``log λ_max`` is below this."""
DECREASE, FLATTENING = 1e-4, 0.9
"""A step is long enough, and not too long, by the weak conditions of Wolfe with these two numbers."""

LONGEST = 5.0
"""The first step that a line search tries is at most this long, so that its exponentials do not overflow."""


@dataclass(frozen=True)
class Search:
    """The result of a minimization of the sharpness.

    Attributes:
        factors: The minimizer at the end.
        start: The sharpness at the start.
        value: The sharpness at the end.
        least: The least sharpness of all points that were evaluated.
        evaluations: The number of points that were evaluated.
    """

    factors: list[Tensor]
    start: float
    value: float
    least: float
    evaluations: int


@dataclass(frozen=True)
class Held:
    """A relative spectral product ``x_i = ‖L_i‖₂‖R_i‖₂ / ‖M‖₂^{1−1/L}`` that is held at a given value.

    Attributes:
        layer: ``i``, from 1 to ``L``.
        value: The value of ``x_i``, positive.
        pair: Unit vectors ``(u, v)``, shapes ``(d_L,)`` and ``(d_0,)``. With them ``‖L_iᵀu‖‖R_i v‖`` is
            held in place of ``‖L_i‖₂‖R_i‖₂``, which is then at least as large. A search that holds the
            norms themselves tends to end with the singular vectors that it started with.
    """

    layer: int
    value: float
    pair: tuple[Tensor, Tensor] | None = None

    def product(self, factors: Factors) -> Tensor:
        """The relative product that is held, at any factors."""
        L, R = left_factors(factors)[self.layer - 1], right_factors(factors)[self.layer - 1]
        if self.pair is None:
            left, right = torch.linalg.matrix_norm(L, ord=2), torch.linalg.matrix_norm(R, ord=2)
        else:
            u, v = self.pair
            left, right = torch.linalg.vector_norm(L.mT @ u), torch.linalg.vector_norm(R @ v)
        norm = torch.linalg.matrix_norm(end_to_end(factors), ord=2)
        return left * right / norm ** (1 - 1 / len(factors))

    def directions(self, factors: Factors) -> tuple[Tensor, Tensor]:
        """Unit vectors along ``R_i v`` and ``L_iᵀu``, with top singular vectors if there is no pair."""
        L, R = left_factors(factors)[self.layer - 1], right_factors(factors)[self.layer - 1]
        if self.pair is None:
            return torch.linalg.svd(R)[0][:, 0], torch.linalg.svd(L)[2][0]
        u, v = self.pair
        a, b = R @ v, L.mT @ u
        return a / torch.linalg.vector_norm(a), b / torch.linalg.vector_norm(b)


def with_product(factors: Factors, held: Held) -> list[Tensor]:
    """The factors after a scalar gauge that gives ``x_i`` its value.

    The gauge ``W_i → c W_i``, ``W_{i+1} → W_{i+1}/c`` divides ``x_i`` by ``c``. For the last layer
    the gauge is applied to ``W_{L−1}`` and ``W_L`` instead, where it multiplies ``x_L`` by ``c``.
    """
    W, i = list(factors), held.layer
    x = held.product(W)
    if i < len(W):
        c = x / held.value
        W[i - 1], W[i] = c * W[i - 1], W[i] / c
    else:
        c = held.value / x
        W[-2], W[-1] = c * W[-2], W[-1] / c
    return W


@dataclass(frozen=True)
class _Point:
    """A minimizer, the logarithm of its sharpness, and the gradient of this in the generators, flattened."""

    factors: list[Tensor]
    height: float
    gradient: Tensor


def sharpness_gradient(factors: Factors) -> tuple[Tensor, list[Tensor]]:
    """``λ_max``, and the gradient of ``log λ_max`` in the generators of the gauge ``exp(A_i)``.

    The unnormalized top eigenvector ``U_i = L_iᵀYR_iᵀ`` has ``λ_max = 2 Σ_i ‖U_i‖_F²``. A gauge at
    the hidden layer ``i`` changes only ``R_j`` with ``j > i`` and ``L_j`` with ``j ≤ i``, and to
    first order in ``A_i`` only the terms ``i + 1`` and ``i`` change, by ``U_{i+1}A_i`` and
    ``−A_iU_i``. The gradient is therefore ``4 (U_{i+1}ᵀU_{i+1} − U_iU_iᵀ) / λ_max``. It vanishes if
    the top eigenvector itself is balanced. Where the top eigenvalue is multiple, it is the
    subgradient of one of its eigenvectors.

    Args:
        factors: ``[W_1 … W_L]`` of a single minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Returns:
        ``λ_max``, a tensor without dimensions, and one symmetric matrix ``(d_i, d_i)`` per hidden layer.
    """
    # One list of products serves both the matrix and its eigenvector: this is evaluated at every point.
    lefts, rights = left_factors(factors), right_factors(factors)
    left_grams, right_grams = [L @ L.mT for L in lefts[:-1]], [R.mT @ R for R in rights[1:]]
    matrix = gram_matrix([*left_grams, None], [None, *right_grams], factors)
    values, vectors = torch.linalg.eigh(matrix)
    Y = unstacked(vectors[:, -1], factors)
    U = [L.mT @ Y @ R.mT for L, R in zip(lefts, rights, strict=True)]
    gradient = [
        (4 / values[-1]) * (U[i + 1].mT @ U[i + 1] - U[i] @ U[i].mT) for i in range(len(U) - 1)
    ]
    return values[-1], gradient


def held_gradient(factors: Factors, gradient: list[Tensor], held: Held) -> list[Tensor]:
    """The gradient with ``x_i`` held, from the gradient without it, at factors where ``x_i`` has its value.

    A gauge ``exp(A)`` changes ``log x_i`` by ``aᵀA_{i−1}a − bᵀA_ib`` to first order, where ``a`` is the
    top left singular vector of ``R_i`` and ``b`` the top right one of ``L_i``, or the directions of the
    images of a pair. The scalar gauge of
    :func:`with_product` then follows. It changes ``log x_i`` back, and ``log λ_max`` in proportion to
    the trace of the gradient at its layer.

    Args:
        factors: ``[W_1 … W_L]`` of a single minimizer.
        gradient: As :func:`sharpness_gradient` gives it.
        held: The held product.
    """
    i, held_gauged = held.layer, list(gradient)
    last = i == len(factors)
    slope = -gradient[-1].trace() if last else gradient[i - 1].trace()
    a, b = held.directions(factors)
    if i > 1:
        held_gauged[i - 2] = held_gauged[i - 2] + slope * torch.outer(a, a)
    if not last:
        held_gauged[i - 1] = held_gauged[i - 1] - slope * torch.outer(b, b)
    return held_gauged


def minimize_sharpness(factors: Factors, iterations: int = 500, held: Held | None = None) -> Search:
    """Minimize ``λ_max`` over the orbit of a minimizer, by BFGS along geodesics.

    Every step is a geodesic from the present point, so that the line search minimizes a convex function
    of one variable. ``λ_max`` is not differentiable where the top eigenvalue is multiple. BFGS with
    the weak conditions of Wolfe works for such functions as well (Lewis and Overton, Mathematical
    Programming 141, 2013), also where ``σ_2 = σ_1``, for which the eigenvalue is multiple at every
    flat minimizer.

    Args:
        factors: ``[W_1 … W_L]`` of a single minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``.
            ``d_0 d_L`` must be small, because a matrix of this order is decomposed at every point.
        iterations: The largest number of BFGS iterations.
        held: A spectral product that is held at a value; None leaves all of them free.

    Raises:
        ValueError: ``held`` names a layer that does not exist, or its value is not positive.
    """
    if held is not None and not (1 <= held.layer <= len(factors) and held.value > 0):
        raise ValueError(
            f"held: expected a layer from 1 to {len(factors)} and a positive value, got {held}"
        )
    hidden = [W.shape[0] for W in factors[:-1]]
    sizes = [width * width for width in hidden]
    product, seen = end_to_end(factors), list[float]()

    def point(W: list[Tensor]) -> _Point:
        if held is not None:
            W = with_product(W, held)
        value, gradient = sharpness_gradient(W)
        if held is not None:
            gradient = held_gradient(W, gradient, held)
        seen.append(float(value))
        return _Point(W, float(value.log()), torch.cat([slope.flatten() for slope in gradient]))

    def moved(start: _Point, step: Tensor) -> _Point:
        blocks = zip(torch.split(step, sizes), hidden, strict=True)
        W = along_geodesic(start.factors, [A.reshape(d, d) for A, d in blocks])
        return point(polished(W, product))  # or rounding errors of many steps would add up

    here = point(list(factors))
    identity = torch.eye(sum(sizes), dtype=torch.float64)
    inverse = identity / max(1.0, float(here.gradient.norm()))
    for iteration in range(iterations):
        if float(here.gradient.norm()) <= STATIONARY:
            break
        direction = -inverse @ here.gradient
        found = _line_search(moved, here, direction)
        if found is None:  # rounding hides any further decrease
            break
        length, there = found
        step, change = length * direction, there.gradient - here.gradient
        if iteration == 0:  # the first estimate gets the size of the curvature along the step
            inverse = identity * (step @ change / change.square().sum())
        inverse = _updated(inverse, step, change)
        here = there
    return Search(here.factors, seen[0], float(np.exp(here.height)), min(seen), len(seen))


def _line_search(
    moved: Callable[[_Point, Tensor], _Point], here: _Point, direction: Tensor
) -> tuple[float, _Point] | None:
    """A step length with the weak conditions of Wolfe, and its point, by doubling and bisection.

    None if the predicted decrease falls below rounding first, or if rounding errors of the heights leave no
    length with both conditions.
    """
    slope = float(here.gradient @ direction)
    low, high, length = 0.0, np.inf, min(1.0, LONGEST / float(direction.norm()))
    while length * -slope > np.finfo(float).eps and low < length < high:
        there = moved(here, length * direction)
        if not there.height <= here.height + DECREASE * length * slope:
            high = length
        elif float(there.gradient @ direction) < FLATTENING * slope:
            low = length
        else:
            return length, there
        length = 2 * length if high == np.inf else (low + high) / 2
    return None


def _updated(inverse: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """The BFGS update of the estimate of the inverse Hessian."""
    overlap, image = step @ change, inverse @ change
    rank_one = (overlap + change @ image) / overlap**2 * torch.outer(step, step)
    return inverse + rank_one - (torch.outer(image, step) + torch.outer(step, image)) / overlap
