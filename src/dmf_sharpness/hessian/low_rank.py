"""The largest curvature of wide square networks, with the eigenmatrix kept as ``Y = U Z Vᵀ``.

The singular values of a top eigenmatrix fall fast, so a few directions at either end suffice. With
orthonormal bases ``U`` and ``V`` held, the operator ``Y ↦ 2 Σ_i (L_iL_iᵀ) Y (R_iᵀR_i)`` on ``U Z Vᵀ`` is

    ``Z ↦ 2 Σ_i G_i Z H_i``,   ``G_i = (L_iᵀU)ᵀ(L_iᵀU)``,   ``H_i = (R_iV)ᵀ(R_iV)``,

a small problem: no layer is read for it. What leaves the bases on the left is
``(I − UUᵀ) 2 Σ_i L_i (L_iᵀU) Z H_i``, summed in one sweep over the layers (``acc ← W_{i+1} acc + …``), and
on the right likewise. The leading directions of both join the bases, which is a block Krylov method
for each end, and every step can only raise the Ritz value. A step reads each layer four times, at
``O(L d² k)`` operations; neither a product of two layers nor more than ``O(L d k)`` numbers are formed.

When little leaves on either side the full defect ``2JJᵀY − λY`` is computed once, by other means
(:mod:`dmf_sharpness.hessian.certificate`). What leaves on both sides at once shows only there; if it is
too much its directions are taken in and the iteration goes on.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmf_sharpness.hessian.certificate import defect_low_rank
from dmf_sharpness.hessian.lanczos import top_eigenvector
from dmf_sharpness.hessian.low_rank_bases import (
    MOST_GROWTH,
    Basis,
    basis_of,
    joined,
    leaving_directions,
    new_directions,
    rotated,
    starting_bases,
    tails,
)
from dmf_sharpness.hessian.operator import stacked_operator
from dmf_sharpness.network.chain import Chain
from dmf_sharpness.network.randomness import gaussian

MOST_RANK = 320
"""Directions of a basis before it is compressed to half as many."""
MOST_STEPS = 80
KRYLOV = 6
"""Krylov vectors for the small problem: it starts close."""
FINE_KRYLOV, POLISH = 12, 1e-2
"""The same at the end, and the share of the tolerance to solve it to."""
WITHIN, DROPPED = 0.7, 0.3
"""Shares of the tolerance: of what may leave on one side, and of the tail of ``Y`` that is left out."""


@dataclass(frozen=True)
class LowRankPair:
    """An eigenvalue and its eigenmatrix ``P Qᵀ``, of norm 1 to the square of what was dropped.

    Attributes:
        value: The Ritz value, which is at most the largest eigenvalue.
        P: Left singular vectors times singular values, shape ``(d_L, k)``.
        Q: Right singular vectors, shape ``(d_0, k)``.
        defect: ``‖2JJᵀY − λY‖ / λ``; the residual in parameter space is at most that.
        steps: How many steps it took.
        defect_parts: The singular value decomposition of ``2JJᵀY − λY``, for the certificate.
        bases: ``U``, ``Z`` and ``V`` as they were at the end, to go on from.
    """

    value: float
    P: Tensor
    Q: Tensor
    defect: float
    steps: int
    defect_parts: tuple[Tensor, Tensor, Tensor]
    bases: tuple[Tensor, Tensor, Tensor]


def _ritz(
    left: Basis,
    right: Basis,
    start: Tensor,
    tolerance: float,
    known: tuple[float, Tensor] | None,
    krylov: int = KRYLOV,
) -> tuple[float, Tensor]:
    """The largest Ritz pair ``λ``, ``Z`` of the two bases, with a ``known`` one left out."""
    within = stacked_operator(left.grams, right.grams.flip(0))
    if known is None:
        return top_eigenvector(within, start, tolerance, krylov)
    value, first = known[0], _padded(known[1], left.size, right.size)

    def without_known(Z: Tensor) -> Tensor:
        return within(Z) - value * (first * Z).sum() * first

    return top_eigenvector(without_known, start, tolerance, krylov)


def _padded(Z: Tensor, rows: int, columns: int) -> Tensor:
    return torch.nn.functional.pad(Z, (0, columns - Z.shape[1], 0, rows - Z.shape[0]))


@dataclass(frozen=True)
class _Search:
    """Two bases, a Ritz pair in them and what leaves them.

    Attributes:
        left: ``U``.
        right: ``V``, of the transposed chain.
        value: ``λ``.
        Z: Shape ``(k, l)``, norm 1.
        leaving: ``‖(I − UUᵀ) 2JJᵀY‖`` and the like on the right, over ``λ``.
        known: The first Ritz pair, when the second is searched.
        steps: Steps taken so far.
    """

    left: Basis
    right: Basis
    value: float
    Z: Tensor
    leaving: float
    known: tuple[float, Tensor] | None
    steps: int


def _settled(search: _Search, goal: float, most_rank: int, most_steps: int) -> _Search:
    """Enlarge the bases until what leaves them is below ``goal``, or no step is left."""
    left, right, Z, known = search.left, search.right, search.Z, search.known
    leaving = min(search.leaving, 0.1)
    generator = torch.Generator().manual_seed(search.steps)
    for steps in range(search.steps + 1, most_steps + 1):
        Z = _padded(Z, left.size, right.size)
        inner = 0.1 * max(leaving, goal)
        value, Z = _ritz(left, right, Z, inner, known)
        if not value > 0:
            return _Search(left, right, 0.0, Z, 0.0, known, steps)
        G, H = left.grams, right.grams.flip(0)
        U, left_sizes = leaving_directions(left, Z, H, value, generator)
        V, right_sizes = leaving_directions(right, Z.mT, G.flip(0), value, generator)
        leaving = float(torch.linalg.vector_norm(torch.cat([left_sizes, right_sizes]))) / value
        search = _Search(left, right, value, Z, leaving, known, steps)
        if leaving <= goal and inner <= goal:
            break
        if max(left.size, right.size) + MOST_GROWTH > most_rank:
            search = _compressed(search, most_rank // 2)
            left, right, Z, known = search.left, search.right, search.Z, search.known
        enough = value * max(0.2 * leaving, 0.2 * goal)
        sizes = left.size, right.size
        left = joined(left, new_directions(left, U, left_sizes, enough))
        right = joined(right, new_directions(right, V, right_sizes, enough))
        if sizes == (left.size, right.size) and inner <= goal:
            break
    return search


def _compressed(search: _Search, rank: int) -> _Search:
    """The leading directions only, of the pair and of the known one."""
    pairs = [search.Z] if search.known is None else [search.known[1], search.Z]
    left = torch.linalg.svd(torch.cat(pairs, 1), full_matrices=False)[0][:, :rank]
    right = torch.linalg.svd(torch.cat(pairs, 0), full_matrices=False)[2][:rank].mT
    Z = [left.mT @ Z @ right for Z in pairs]
    return replace(
        search,
        left=rotated(search.left, left),
        right=rotated(search.right, right),
        Z=Z[-1],
        known=None if search.known is None else (search.known[0], Z[0]),
    )


def _pair(layers: Chain, search: _Search, tolerance: float) -> LowRankPair:
    """The eigenmatrix without what the tolerance cannot see, and its full defect."""
    A, sizes, Bt = torch.linalg.svd(search.Z, full_matrices=False)
    rank = max(1, int((tails(sizes) > DROPPED * tolerance).sum()))
    P = search.left.U @ (A[:, :rank] * sizes[:rank])
    Q = search.right.U @ Bt[:rank].mT
    value = search.value
    parts = defect_low_rank(layers, P, Q, value)
    defect = float(torch.linalg.vector_norm(parts[1])) / value if value > 0 else 0.0
    bases = search.left.U, search.Z, search.right.U
    return LowRankPair(value, P, Q, defect, search.steps, parts, bases)


def largest_curvature(
    layers: Chain, tolerance: float, most_rank: int = MOST_RANK, most_steps: int = MOST_STEPS
) -> LowRankPair:
    """The largest eigenvalue of ``2 J Jᵀ`` and its eigenmatrix in factors.

    A small defect says that there is an eigenvalue, not that none is larger. So the second Ritz value
    of the bases is found too, from a random start, and if it is larger the search goes on from there.

    Args:
        layers: The factors of one minimizer, with the input root in front.
        tolerance: Wanted ``‖2JJᵀY − λY‖ / λ``.
        most_rank: Directions of a basis at most.
        most_steps: Steps at most.

    Raises:
        torch.linalg.LinAlgError: A product of layers in the middle overflowed.
    """
    generator = torch.Generator().manual_seed(0)
    left, right = starting_bases(layers, generator)
    search = _Search(left, right, 0.0, _noise(left, right, generator), 1.0, None, 0)
    goal = WITHIN * tolerance
    best: LowRankPair | None = None
    while True:
        search = _settled(search, goal, most_rank, most_steps)
        left, right = search.left, search.right
        # Eigenvalues closer than the tolerance are told apart here, where it costs no sweep.
        start = _padded(search.Z, left.size, right.size)
        value, Z = _ritz(left, right, start, POLISH * tolerance, None, FINE_KRYLOV)
        search = replace(search, value=value, Z=Z)
        pair = _pair(layers, search, tolerance)
        if best is None or pair.defect < best.defect:
            best = pair
        if search.steps >= most_steps:
            return best
        if pair.defect <= tolerance:
            known = search.value, search.Z
            noise = _noise(left, right, generator)
            other, Z = _ritz(left, right, noise, tolerance**0.5, known)
            if other <= pair.value * (1 + tolerance):
                return pair
            search, best = replace(search, Z=Z, leaving=0.1), None
            continue
        # What leaves on both sides at once, or was neglected.
        U, sizes, V = pair.defect_parts
        larger = [
            joined(basis, new_directions(basis, found, sizes, goal * pair.value))
            for basis, found in ((left, U), (right, V))
        ]
        if (larger[0].size, larger[1].size) == (left.size, right.size):
            return best
        search = replace(search, left=larger[0], right=larger[1])
        goal = 0.5 * goal


def nothing_found(layers: Chain) -> LowRankPair:
    """NaN with an eigenmatrix of zeros, where there is nothing better."""
    P, Q = (layers.layers[0].new_zeros(end, 1) for end in layers.shape)
    one = P.new_zeros(1)
    return LowRankPair(math.nan, P, Q, math.nan, 0, (P, one, Q), (P, one[None], Q))


def second_curvature(layers: Chain, first: LowRankPair, tolerance: float) -> float:
    """The second eigenvalue of ``2 J Jᵀ``, multiplicities counted, from the bases of the first pair.

    Args:
        layers: As for the first.
        first: From :func:`largest_curvature`.
        tolerance: What may leave the bases, over ``λ``; the value is right to about its square over
            the relative gap to the third.
    """
    U, Z, V = first.bases
    left, right = basis_of(layers, U), basis_of(layers.transposed(), V)
    noise = _noise(left, right, torch.Generator().manual_seed(1))
    search = _Search(left, right, 0.0, noise, 0.1, (first.value, Z), 0)
    return _settled(search, tolerance, MOST_RANK, MOST_STEPS).value


def _noise(left: Basis, right: Basis, generator: torch.Generator) -> Tensor:
    return gaussian((left.size, right.size), generator, left.U.device)
