"""The largest Hessian eigenvalues at many points of a small network at once.

The points are iterated together, by Lanczos. Each step is one batched Hessian-vector product. Points
that have converged leave the batch.
"""

from dataclasses import dataclass

import numpy as np
import scipy
import torch
from torch import Tensor

from dmf_sharpness.network.factors import Factors, flatten, unflatten, widths
from dmf_sharpness.network.loss import gradient, hessian_vector_product
from dmf_sharpness.network.problem import Problem

DENSE_PARAMETERS = 64
"""Up to this number of parameters, LAPACK is faster than the iteration."""
FIRST_CHECK, CHECK_EVERY = 32, 4
"""Convergence is tested after so many Krylov vectors, and then after so many more each time."""
LARGEST_KRYLOV = 240
"""The number of Krylov vectors after which a point counts as not converged."""
NUMBERS_AT_ONCE = 2**22
"""The number of entries of the dense Hessians of a chunk of points."""
ENTRIES_AT_ONCE = 2**16
"""The number of parameters of all points of a chunk, such that a step of the iteration stays in the cache."""


@dataclass(frozen=True)
class TopPairs:
    """The largest eigenpairs of a batch of ``B`` points.

    Attributes:
        largest: Descending, shape ``(B, count)``; NaN where the Hessian is not finite.
        lowest: The smallest eigenvalues, shape ``(B,)``; None if they are not wanted.
        vector: Unit eigenvectors of the largest, shape ``(B, N)``.
        defect: ``‖H v − λ v‖``, the largest of all wanted pairs, shape ``(B,)``.
        gradient_norm: ``‖∇f‖``, shape ``(B,)``.
    """

    largest: Tensor
    lowest: Tensor | None
    vector: Tensor
    defect: Tensor
    gradient_norm: Tensor


def top_pairs(
    factors: Factors,
    problem: Problem,
    tolerance: float,
    start: Tensor,
    count: int = 1,
    lowest: bool = False,
) -> TopPairs:
    """The extreme Hessian eigenvalues at each of ``B`` points.

    Args:
        factors: ``W_i`` of shape ``(B, d_i, d_{i-1})``.
        problem: The target, shape ``(B, d_L, r)`` or ``(d_L, r)``, and the input root.
        tolerance: The wanted ``‖H v − λ v‖ / |λ_max|``.
        start: The first Krylov vectors, shape ``(B, N)``.
        count: The number of largest eigenvalues. If there are more than one, all Hessians are formed.
        lowest: Whether the smallest eigenvalue is wanted, too.
    """
    points, order = start.shape
    dense = order <= DENSE_PARAMETERS or count > 1
    chunk = max(1, NUMBERS_AT_ONCE // order**2 if dense else ENTRIES_AT_ONCE // order)
    parts = []
    for first in range(0, points, chunk):
        which = slice(first, first + chunk)
        here, there = [W[which] for W in factors], _chosen(problem, which)
        if dense:
            every, all_vectors = _dense(here, there)
            values = every.flip(1)[:, :count]
            vectors = all_vectors.mT.flip(1)[:, :count]
            if lowest:
                values = torch.cat([values, every[:, :1]], 1)
                vectors = torch.cat([vectors, all_vectors.mT[:, :1]], 1)
        else:
            value, vector = _lanczos(here, there, tolerance / 4, start[which])
            values, vectors = value[:, None], vector[:, None]
            if lowest:
                # The tolerance is relative to the distance of the two, at most the depth times λ_max.
                fine = tolerance / (4 * len(factors))
                distance, vector = _lanczos(here, there, fine, start[which], below=value)
                values = torch.stack([value, value - distance], 1)
                vectors = torch.stack([vectors[:, 0], vector], 1)
        defects = torch.stack(
            [
                torch.linalg.vector_norm(_apply(here, there, v) - value[:, None] * v, dim=1)
                for value, v in zip(values.unbind(1), vectors.unbind(1), strict=True)
            ]
        )
        slope = torch.linalg.vector_norm(flatten(gradient(here, there)), dim=1)
        # A NaN among the defects stays one.
        parts.append((values, vectors[:, 0], defects.amax(0), slope))
    values, vector, defect, slope = (torch.cat(column) for column in zip(*parts, strict=True))
    least = values[:, -1] if lowest else None
    largest = values[:, :-1] if lowest else values
    return TopPairs(largest, least, vector, defect, slope)


def _chosen(problem: Problem, which: slice | Tensor) -> Problem:
    return problem.chosen(which) if problem.target.ndim == 3 else problem


def _apply(factors: Factors, problem: Problem, vectors: Tensor) -> Tensor:
    return flatten(hessian_vector_product(factors, unflatten(vectors, widths(factors)), problem))


def _dense(factors: Factors, problem: Problem) -> tuple[Tensor, Tensor]:
    """All pairs by LAPACK, ascending."""
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
    return torch.where(finite[:, None], values, torch.nan), vectors


def _lanczos(
    factors: Factors,
    problem: Problem,
    tolerance: float,
    start: Tensor,
    below: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The largest pairs of the Hessian ``H``, or of ``below − H``, by Lanczos without reorthogonalization.

    The Krylov vectors lose their orthogonality only when a Ritz pair has converged (Paige, 1980). It
    may then occur twice, which does not harm the largest one, and the caller computes its defect.
    """
    vector = start / torch.linalg.vector_norm(start, dim=1, keepdim=True)
    found_value = vector.new_full((len(vector),), torch.nan)
    found_vector = torch.zeros_like(vector)
    active = torch.arange(len(vector), device=vector.device)
    krylov = [vector]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    while len(krylov) <= LARGEST_KRYLOV:
        # One step: the image of the last vector, orthogonal to the last two.
        image = _apply(factors, problem, krylov[-1])
        if below is not None:
            image = below[:, None] * krylov[-1] - image
        if beside:
            image = image - beside[-1][:, None] * krylov[-2]
        diagonal.append((image * krylov[-1]).sum(1))
        image = image - diagonal[-1][:, None] * krylov[-1]
        length = torch.linalg.vector_norm(image, dim=1)
        # In an invariant subspace only rounding errors are left, which are no new direction.
        size = diagonal[-1].abs() + (beside[-1] if beside else 0.0)
        length = torch.where(length > 1e-15 * size, length, 0.0)
        beside.append(length)
        krylov.append(image / torch.where(length > 0, length, 1.0)[:, None])
        if len(diagonal) < FIRST_CHECK or len(diagonal) % CHECK_EVERY:
            continue

        # Ritz pairs of all points, and only those points go on that have not converged.
        value, weights = _top_of_tridiagonals(torch.stack(diagonal, 1), torch.stack(beside[:-1], 1))
        done = ~((length * weights[:, -1]).abs() > tolerance * value.abs())
        here = torch.nonzero(done)[:, 0]
        if len(here):
            vectors = torch.stack([v[here] for v in krylov[:-1]], 1)
            ritz = (weights[here, None] @ vectors)[:, 0]
            found_value[active[here]] = value[here]
            found_vector[active[here]] = ritz / torch.linalg.vector_norm(ritz, dim=1, keepdim=True)
            rest = torch.nonzero(~done)[:, 0]
            if not len(rest):
                break
            active, factors = active[rest], [W[rest] for W in factors]
            problem, below = _chosen(problem, rest), None if below is None else below[rest]
            krylov, diagonal, beside = (
                [v[rest] for v in column] for column in (krylov, diagonal, beside)
            )
    return found_value, found_vector


def _top_of_tridiagonals(diagonal: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues ``(B,)`` and unit eigenvectors ``(B, m)``; NaN if they are not finite.

    LAPACK computes one pair of a tridiagonal matrix much faster than all pairs of a full one.
    """
    rows, order = diagonal.shape
    value, vector = np.full(rows, np.nan), np.full((rows, order), np.nan)
    finite = (torch.isfinite(diagonal).all(1) & torch.isfinite(beside).all(1)).tolist()
    last = (order - 1, order - 1)
    pairs = zip(diagonal.cpu().numpy(), beside.cpu().numpy(), strict=True)
    for b, (alpha, beta) in enumerate(pairs):
        if finite[b]:
            found, weights = scipy.linalg.eigh_tridiagonal(
                alpha, beta, select="i", select_range=last, check_finite=False
            )
            value[b], vector[b] = found[0], weights[:, 0]
    to = diagonal.device
    return torch.from_numpy(value).to(to), torch.from_numpy(vector).to(to)
