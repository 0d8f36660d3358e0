"""The extreme eigenpairs of the Hessian at a single point, from its product with vectors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.hessian.lanczos import Operator, top_eigenvector, top_eigenvectors


@dataclass(frozen=True)
class Wanted:
    """The eigenvalues that are computed, and their tolerance."""

    tolerance: float
    count: int
    lowest: bool


def all_pairs(apply: Operator, like: Tensor) -> tuple[Tensor, Tensor]:
    """All eigenvalues, descending, and eigenvectors as rows, by LAPACK.

    If the Hessian is not finite, the values are NaN and the vectors zero.

    Args:
        apply: The Hessian, a map of vectors ``(…, N)``: all columns are computed at once.
        like: A vector ``(N,)``.
    """
    basis = torch.eye(like.numel(), dtype=like.dtype, device=like.device)
    hessian = apply(basis)
    if not bool(torch.isfinite(hessian).all()):
        return torch.full_like(like, torch.nan), torch.zeros_like(hessian)
    values, vectors = torch.linalg.eigh((hessian + hessian.mT) / 2)
    return values.flip(0), vectors.mT.flip(0)


def extreme_pairs(
    apply: Operator, first: Tensor, wanted: Wanted, depth: int
) -> tuple[Tensor, Tensor]:
    """The wanted eigenvalues and eigenvectors by Lanczos, the smallest one last.

    If the operator is not finite, all values are NaN.

    Except the largest, they may be zero. Then a relative tolerance could not be reached, so they are
    computed from operators that are shifted by the largest.

    Args:
        apply: The Hessian ``H`` at a point, a map of vectors ``(N,)``.
        first: The first Krylov vector, ``(N,)``.
        wanted: The number of the pairs, and their tolerance.
        depth: The number of layers ``L``.

    Raises:
        ValueError: More than one of the largest are wanted, and they do not reach the tolerance.
    """
    value, vector = top_eigenvector(apply, first, wanted.tolerance / 4, krylov=20)
    values, vectors = first.new_tensor([value]), vector[None]
    if not math.isfinite(value):
        extra = wanted.count - 1 + wanted.lowest
        return torch.cat([values, values.repeat(extra)]), vectors.repeat(1 + extra, 1)
    fine = wanted.tolerance / (4 * depth)
    if wanted.count > 1:
        shift = abs(value)
        above, vectors = top_eigenvectors(
            lambda v: apply(v) + shift * v, first, wanted.count, fine, krylov=20
        )
        values = above - shift
    if wanted.lowest:
        distance, low = top_eigenvector(lambda v: value * v - apply(v), first, fine, krylov=20)
        values = torch.cat([values, first.new_tensor([value - distance])])
        vectors = torch.cat([vectors, low[None]])
    return values, vectors
