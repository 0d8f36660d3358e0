"""The largest eigenpair of ``2 J Jᵀ`` for networks with a wide input and a wide output.

The eigenmatrix is kept as ``Y = U Z Vᵀ``, with ``k`` orthonormal columns in ``U`` and in ``V``. The
singular values of a top eigenmatrix decay fast, so a small ``k`` is enough. Three steps are repeated:

1. *Solve within the bases.* On matrices ``U Z Vᵀ``, projected back to the same form, the operator
   ``Y ↦ 2 Σ_i (L_iL_iᵀ) Y (R_iᵀR_i)`` becomes

    ``Z ↦ 2 Σ_i G_i Z H_i``,   ``G_i = (L_iᵀU)ᵀ(L_iᵀU)``,   ``H_i = (R_iV)ᵀ(R_iV)``.

   This is a small eigenproblem, which needs no product with a layer. Its top pair is the Ritz pair.
2. *Find the defect outside the bases.* On the left it is ``(I − UUᵀ) 2 Σ_i L_i (L_iᵀU) Z H_i``. The
   sum is computed in one pass over the layers, in which each partial sum is multiplied by the next
   layer. The defect on the right is found in the same way.
3. *Extend the bases* by the leading singular directions of both defects. Because the bases only
   grow, the Ritz value does not decrease.

This is a block Krylov method for each side. A step multiplies each layer four times, with
``O(L d² k)`` operations in all. It never forms a product of two layers, and stores ``O(L d k)`` numbers.

When both defects are small, the full defect ``2JJᵀY − λY`` is computed once, by independent code
(:mod:`dmf_sharpness.hessian.certificate`). Only there the part shows that lies outside of both
bases at once. If it is too large, its directions are added to the bases, and the iteration continues.
In a huge network the size of the full defect is bounded by its products with random directions.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmf_sharpness.hessian.certificate import PROBED_MARGIN, ThinDefect, sufficient_defect
from dmf_sharpness.hessian.lanczos import top_eigenvector
from dmf_sharpness.hessian.low_rank_bases import (
    MOST_GROWTH,
    Basis,
    basis_of,
    is_huge,
    joined,
    leaving_directions,
    new_directions,
    rotated,
    starting_bases,
    tails,
)
from dmf_sharpness.hessian.operator import stacked_operator
from dmf_sharpness.hessian.single_compiled import stacked_pair
from dmf_sharpness.network.chain import Chain
from dmf_sharpness.network.randomness import gaussian

MOST_RANK = 320
"""The largest number of directions of a basis; a larger one would be compressed to half as many first."""
MOST_STEPS = 80
"""The largest number of steps."""
KRYLOV = 6
"""The number of Krylov vectors for the small eigenproblem; few suffice, because its start is good."""
FINE_KRYLOV, POLISH = 12, 1e-4
"""The number of Krylov vectors in the last solution of the small problem, and its tolerance.

The tolerance is this fraction of the tolerance of the whole.
"""
WITHIN, DROPPED = 0.7, 0.3
"""Fractions of the tolerance that the two parts of the defect may use.

The first is for the defect outside the bases on one side. The second is for the small singular
values of ``Y`` that are left out of the result.
"""


@dataclass(frozen=True)
class LowRankPair:
    """An eigenvalue with its eigenmatrix ``P Qᵀ``.

    The norm of the eigenmatrix is 1, up to the square of the part that was left out.

    Attributes:
        value: The Ritz value, which is at most the largest eigenvalue.
        P: Left singular vectors times singular values, shape ``(d_L, k)``.
        Q: Right singular vectors, shape ``(d_0, k)``.
        defect: ``2JJᵀY − λY``, for the certificate.
        steps: The number of steps of the iteration.
        bases: ``U``, ``Z`` and ``V`` at the end, from which the search for the second eigenvalue starts.
    """

    value: float
    P: Tensor
    Q: Tensor
    defect: ThinDefect
    steps: int
    bases: tuple[Tensor, Tensor, Tensor]

    @property
    def relative_defect(self) -> float:
        """``‖2JJᵀY − λY‖ / λ``, or a bound on it: an upper bound on the residual in parameter space."""
        return self.defect.size / self.value if self.value > 0 else 0.0


def _ritz(
    left: Basis,
    right: Basis,
    start: Tensor,
    tolerance: float,
    known: tuple[float, Tensor] | None,
    krylov: int = KRYLOV,
) -> tuple[float, Tensor]:
    """The largest Ritz pair ``λ``, ``Z`` within two bases; a ``known`` pair is subtracted first."""
    lefts, rights = left.grams, right.grams.flip(0)
    if known is not None:
        known = known[0], _padded(known[1], left.size, right.size)
    found = stacked_pair(lefts, rights, start, tolerance, known)
    if found is not None:
        return found
    within = stacked_operator(lefts, rights)
    if known is None:
        return top_eigenvector(within, start, tolerance, krylov)
    value, first = known

    def without_known(Z: Tensor) -> Tensor:
        return within(Z) - value * (first * Z).sum() * first

    return top_eigenvector(without_known, start, tolerance, krylov)


def _padded(Z: Tensor, rows: int, columns: int) -> Tensor:
    return torch.nn.functional.pad(Z, (0, columns - Z.shape[1], 0, rows - Z.shape[0]))


@dataclass(frozen=True)
class _Search:
    """The state of the iteration: two bases, a Ritz pair in them, and its defect outside of them.

    Attributes:
        left: The basis ``U`` of ``k`` columns.
        right: The basis ``V`` of ``l`` columns, which belongs to the transposed chain.
        value: The Ritz value ``λ``.
        Z: The Ritz vector, shape ``(k, l)``, norm 1.
        leaving: The norm of the defects outside ``U`` on the left and outside ``V`` on the right,
            both together, relative to ``λ``.
        known: The first Ritz pair, if the search is for the second one; otherwise None.
        steps: The number of steps so far.
    """

    left: Basis
    right: Basis
    value: float
    Z: Tensor
    leaving: float
    known: tuple[float, Tensor] | None
    steps: int


def _settled(search: _Search, goal: float, most_rank: int, most_steps: int) -> _Search:
    """The search continued until the defect outside the bases is at most ``goal``, or no step is left."""
    left, right, Z, known = search.left, search.right, search.Z, search.known
    leaving = min(search.leaving, 0.1)
    generator = torch.Generator().manual_seed(search.steps)
    for steps in range(search.steps + 1, most_steps + 1):
        # 1. Ritz pair within the bases, solved more accurately than its current defect.
        Z = _padded(Z, left.size, right.size)
        inner = 0.1 * max(leaving, goal)
        value, Z = _ritz(left, right, Z, inner, known)
        if not value > 0:
            return _Search(left, right, 0.0, Z, 0.0, known, steps)
        # 2. Defects outside the bases.
        G, H = left.grams, right.grams.flip(0)
        U, left_sizes = leaving_directions(left, Z, H, value, generator)
        V, right_sizes = leaving_directions(right, Z.mT, G.flip(0), value, generator)
        leaving = float(torch.linalg.vector_norm(torch.cat([left_sizes, right_sizes]))) / value
        search = _Search(left, right, value, Z, leaving, known, steps)
        if leaving <= goal and inner <= goal:
            break
        # 3. Larger bases, after compression if they have no room.
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
    """The search with bases of ``rank`` directions, the leading ones of its pair and of the known pair."""
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


def _pair(layers: Chain, search: _Search, goal: float, tolerance: float) -> LowRankPair:
    """The eigenpair of a search, without singular values that are negligible for the goal, and its defect."""
    A, sizes, Bt = torch.linalg.svd(search.Z, full_matrices=False)
    rank = max(1, int((tails(sizes) > DROPPED * goal).sum()))
    P = search.left.U @ (A[:, :rank] * sizes[:rank])
    Q = search.right.U @ Bt[:rank].mT
    value = search.value
    defect = sufficient_defect(layers, P, Q, value, tolerance)
    bases = search.left.U, search.Z, search.right.U
    return LowRankPair(value, P, Q, defect, search.steps, bases)


def largest_curvature(
    layers: Chain, tolerance: float, most_rank: int = MOST_RANK, most_steps: int = MOST_STEPS
) -> LowRankPair:
    """The largest eigenvalue of ``2 J Jᵀ``, with its eigenmatrix in factors ``P Qᵀ``.

    A small defect proves that an eigenvalue is near, but not that it is the largest one. So the
    second Ritz value within the bases is computed as well, from a random start. If it is larger
    than the first, the search continues with its Ritz vector.

    Args:
        layers: The factors of a single minimizer, with the input root, if any, in front.
        tolerance: The wanted relative defect ``‖2JJᵀY − λY‖ / λ``.
        most_rank: The largest number of directions of a basis.
        most_steps: The largest number of steps.

    Returns:
        The pair with the least defect; the caller has to compare it with the tolerance.

    Raises:
        torch.linalg.LinAlgError: A product of layers in the middle of the network overflowed.
    """
    # Start: bases of random directions, improved by subspace iteration, and a random Z.
    generator = torch.Generator().manual_seed(0)
    left, right = starting_bases(layers, generator)
    search = _Search(left, right, 0.0, _noise(left, right, generator), 1.0, None, 0)
    wanted = tolerance / PROBED_MARGIN if is_huge(layers) else tolerance
    goal = WITHIN * wanted
    best: LowRankPair | None = None
    while True:
        # Bases outside of which little of the defect lies.
        search = _settled(search, goal, most_rank, most_steps)
        left, right = search.left, search.right

        # Accurate Ritz pair. Eigenvalues that are closer together than the tolerance are separated
        # here, because a small problem needs no pass over the layers.
        start = _padded(search.Z, left.size, right.size)
        value, Z = _ritz(left, right, start, POLISH * tolerance, None, FINE_KRYLOV)
        search = replace(search, value=value, Z=Z)

        # Full defect, by independent code.
        pair = _pair(layers, search, wanted, tolerance)
        if best is None or pair.relative_defect < best.relative_defect:
            best = pair
        if search.steps >= most_steps:
            return best

        # Second Ritz value, in case that a larger eigenvalue was missed.
        if pair.relative_defect <= tolerance:
            known = search.value, search.Z
            noise = _noise(left, right, generator)
            other, Z = _ritz(left, right, noise, tolerance**0.5, known)
            if other <= pair.value * (1 + tolerance):
                return pair
            search, best = replace(search, Z=Z, leaving=0.1), None
            continue

        # More directions, from the part of the defect that lies outside of both bases at once or
        # that was neglected before.
        assert pair.defect.leading is not None
        U, sizes, V = pair.defect.leading
        larger = [
            joined(basis, new_directions(basis, found, sizes, goal * pair.value))
            for basis, found in ((left, U), (right, V))
        ]
        if (larger[0].size, larger[1].size) == (left.size, right.size):
            return best
        search = replace(search, left=larger[0], right=larger[1])
        goal = 0.5 * goal


def nothing_found(layers: Chain) -> LowRankPair:
    """The result where the iteration failed: NaN, with a zero eigenmatrix."""
    P, Q = (layers.layers[0].new_zeros(end, 1) for end in layers.shape)
    one = P.new_zeros(1)
    return LowRankPair(math.nan, P, Q, ThinDefect(math.nan, None), 0, (P, one[None], Q))


def second_curvature(layers: Chain, first: LowRankPair, tolerance: float) -> float:
    """The second eigenvalue of ``2 J Jᵀ``, multiplicities counted, from the bases of the first pair.

    Args:
        layers: The chain of layers, as for the first pair.
        first: The result of :func:`largest_curvature`.
        tolerance: The relative defect outside the bases at which the iteration stops. The relative
            error of the value is about its square, divided by the relative gap to the third eigenvalue.
    """
    U, Z, V = first.bases
    left, right = basis_of(layers, U), basis_of(layers.transposed(), V)
    noise = _noise(left, right, torch.Generator().manual_seed(1))
    search = _Search(left, right, 0.0, noise, 0.1, (first.value, Z), 0)
    return _settled(search, tolerance, MOST_RANK, MOST_STEPS).value


def _noise(left: Basis, right: Basis, generator: torch.Generator) -> Tensor:
    return gaussian((left.size, right.size), generator, left.U.device)
