"""The largest Hessian eigenvalues at many points of a small network at once.

The points are iterated together, by Lanczos with thick restarts. Each step is one batched
Hessian-vector product and one orthogonalization against all Krylov vectors. Points that have
converged leave the batch at the next restart.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.network.factors import Factors, flatten, unflatten, widths
from dmf_sharpness.network.loss import gradient, hessian_vector_product
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.randomness import gaussian

DENSE_PARAMETERS = 64
"""Up to this number of parameters, LAPACK is faster than the iteration."""
KRYLOV, KEPT = 32, 8
"""The number of Krylov vectors, and of Ritz vectors that are kept at a restart."""
RESTARTS = 60
"""The number of restarts after which a point counts as not converged."""
NUMBERS_AT_ONCE = 2**20
"""The number of entries of all Krylov vectors of a chunk of points, which then fit into the cache."""


@dataclass(frozen=True)
class TopPairs:
    """The largest eigenpairs of a batch of ``B`` points.

    Attributes:
        value: Shape ``(B,)``; NaN where the Hessian is not finite.
        vector: Unit vectors, shape ``(B, N)``.
        defect: ``‖H v − λ v‖``, shape ``(B,)``.
        gradient_norm: ``‖∇f‖``, shape ``(B,)``.
    """

    value: Tensor
    vector: Tensor
    defect: Tensor
    gradient_norm: Tensor


def top_pairs(factors: Factors, problem: Problem, tolerance: float) -> TopPairs:
    """The largest Hessian eigenvalue at each of ``B`` points.

    Args:
        factors: ``W_i`` of shape ``(B, d_i, d_{i-1})``.
        problem: The target, shape ``(B, d_L, r)`` or ``(d_L, r)``, and the input root.
        tolerance: The wanted ``‖H v − λ v‖ / |λ|``.
    """
    points, order = factors[0].shape[0], sum(W[0].numel() for W in factors)
    dense = order <= DENSE_PARAMETERS
    chunk = max(1, NUMBERS_AT_ONCE // (order * (order if dense else KRYLOV)))
    parts = []
    for first in range(0, points, chunk):
        which = slice(first, first + chunk)
        there = _chosen(problem, which)
        here = [W[which] for W in factors]
        value, vector = _dense(here, there) if dense else _lanczos(here, there, tolerance / 4)
        image = _apply(here, there, vector)
        slope = flatten(gradient(here, there))
        parts.append(
            (
                value,
                vector,
                torch.linalg.vector_norm(image - value[:, None] * vector, dim=1),
                torch.linalg.vector_norm(slope, dim=1),
            )
        )
    return TopPairs(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _chosen(problem: Problem, which: slice | Tensor) -> Problem:
    return problem.chosen(which) if problem.target.ndim == 3 else problem


def _apply(factors: Factors, problem: Problem, vectors: Tensor) -> Tensor:
    return flatten(hessian_vector_product(factors, unflatten(vectors, widths(factors)), problem))


def _dense(factors: Factors, problem: Problem) -> tuple[Tensor, Tensor]:
    """The pairs by LAPACK."""
    order = sum(W[0].numel() for W in factors)
    units = unflatten(torch.eye(order, dtype=factors[0].dtype), widths(factors))
    target = problem.target if problem.target.ndim == 2 else problem.target[:, None]
    columns = flatten(
        hessian_vector_product(
            [W[:, None] for W in factors], units, Problem(target, problem.input_root)
        )
    )
    finite = torch.isfinite(columns).all(-1).all(-1)
    columns = torch.where(finite[:, None, None], columns, 0.0)
    values, vectors = torch.linalg.eigh((columns + columns.mT) / 2)
    return torch.where(finite, values[:, -1], torch.nan), vectors[..., -1]


def _lanczos(factors: Factors, problem: Problem, tolerance: float) -> tuple[Tensor, Tensor]:
    """The pairs by Lanczos with thick restarts."""
    points, order = factors[0].shape[0], sum(W[0].numel() for W in factors)
    found_value = factors[0].new_full((points,), torch.nan)
    found_vector = factors[0].new_zeros(points, order)
    active = torch.arange(points)
    basis = factors[0].new_zeros(points, KRYLOV + 1, order)
    start = gaussian((order,), 0, factors[0].device)
    basis[:, 0] = start / torch.linalg.vector_norm(start)
    projected = factors[0].new_zeros(points, KRYLOV, KRYLOV)
    filled = 0
    for _ in range(RESTARTS):
        for j in range(filled, KRYLOV):
            w = _apply(factors, problem, basis[:, j])[..., None]
            known = basis[:, : j + 1]
            overlaps = known @ w
            w = w - known.mT @ overlaps
            again = known @ w
            w = (w - known.mT @ again)[..., 0]
            column = (overlaps + again)[..., 0]
            projected[:, : j + 1, j] = projected[:, j, : j + 1] = column
            length = torch.linalg.vector_norm(w, dim=1)
            # In an invariant subspace only rounding errors are left, which are no new direction.
            size = torch.linalg.vector_norm(column, dim=1)
            usable = length > 1e-14 * size
            scale = torch.where(usable, 1 / torch.where(usable, length, 1.0), 0.0)
            basis[:, j + 1] = w * scale[:, None]
        finite = torch.isfinite(projected).all(-1).all(-1)
        small = torch.where(finite[:, None, None], projected, 0.0)
        values, rotation = torch.linalg.eigh(small)
        kept = rotation[..., -KEPT:]
        ritz = kept.mT @ basis[:, :KRYLOV]
        vector = ritz[:, -1]
        error = (length * rotation[:, -1, -1]).abs()
        found_value[active] = torch.where(finite, values[:, -1], torch.nan)
        found_vector[active] = vector
        open_ = finite & ~(error <= tolerance * values[:, -1].abs())
        if not bool(open_.any()):
            break
        last = basis[open_, KRYLOV]
        active, factors = active[open_], [W[open_] for W in factors]
        problem = _chosen(problem, open_)
        basis = factors[0].new_zeros(len(active), KRYLOV + 1, order)
        basis[:, :KEPT], basis[:, KEPT] = ritz[open_], last
        projected = factors[0].new_zeros(len(active), KRYLOV, KRYLOV)
        projected[:, range(KEPT), range(KEPT)] = values[open_, -KEPT:]
        filled = KEPT
    return found_value, found_vector
