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
(:mod:`dmf_sharpness.certificate`). What leaves on both sides at once shows only there; if it is too much
its directions are taken in and the iteration goes on.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmf_sharpness.certificate import defect_low_rank
from dmf_sharpness.chains import Chain, push_left
from dmf_sharpness.eigensolvers import top_eigenvector
from dmf_sharpness.factors import times

FIRST_RANK = 16
"""Directions to start with at either end: for so few, reading the layers is what takes the time."""
START_STEPS = 2
"""Steps of subspace iteration from random directions."""
LEAST_GROWTH, LEAST_GROWTH_HUGE, MOST_GROWTH = 4, 16, 32
"""Directions that join a basis in a step: more where the layers come from memory each time."""
HUGE_LAYER = 2**21
"""Entries of a layer that no cache holds together with the others."""
SWEPT, COMBINED = 32, 16
"""Columns of the image that are swept as they are, and random combinations of the others."""
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


@dataclass(frozen=True)
class _Basis:
    """Orthonormal directions ``U`` ``(d_L, k)`` of one end, and what the layers make of them.

    Attributes:
        layers: The chain that ends at this end.
        U: The directions.
        pushed: ``[L_1ᵀU … L_LᵀU]``, one for each layer of the chain.
        grams: ``(L_iᵀU)ᵀ(L_iᵀU)`` of the trained layers, shape ``(L, k, k)``.
    """

    layers: Chain
    U: Tensor
    pushed: list[Tensor]
    grams: Tensor

    @property
    def size(self) -> int:
        return self.U.shape[1]


def _basis(layers: Chain, U: Tensor) -> _Basis:
    pushed = push_left(layers, U)
    grams = [V.mT @ V for i, V in enumerate(pushed) if layers.trained(i)]
    return _Basis(layers, U, pushed, torch.stack(grams))


def _joined(basis: _Basis, new: Tensor) -> _Basis:
    """With more directions, orthonormal and orthogonal to those it has."""
    if not new.shape[1]:
        return basis
    k = basis.size
    pushed = push_left(basis.layers, new)
    grams = basis.grams.new_empty(len(basis.grams), k + new.shape[1], k + new.shape[1])
    grams[:, :k, :k] = basis.grams
    together = []
    row = 0
    for i, (V, v) in enumerate(zip(basis.pushed, pushed, strict=True)):
        together.append(torch.cat([V, v], 1))
        if basis.layers.trained(i):
            cross = together[-1].mT @ v
            grams[row, :, k:], grams[row, k:, :] = cross, cross.mT
            row += 1
    return _Basis(basis.layers, torch.cat([basis.U, new], 1), together, grams)


def _rotated(basis: _Basis, rotation: Tensor) -> _Basis:
    """The directions ``U rotation``, shape ``(k, fewer)``."""
    return _Basis(
        basis.layers,
        basis.U @ rotation,
        [V @ rotation for V in basis.pushed],
        rotation.mT @ basis.grams @ rotation,
    )


def _swept(basis: _Basis, blocks: Tensor) -> Tensor:
    """``Σ_i L_i (L_iᵀU) blocks_i``, shape ``(d_L, c)``, for ``blocks`` ``(L, k, c)``: one sweep."""
    total: Tensor | None = None
    row = 0
    for i, W in enumerate(basis.layers.layers):
        if total is not None:
            total = times(W, total)
        if basis.layers.trained(i):
            term = basis.pushed[i] @ blocks[row]
            total = term if total is None else total + term
            row += 1
    assert total is not None
    return total


def _leaving(
    basis: _Basis, Z: Tensor, others: Tensor, value: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What ``2JJᵀY`` has outside of the span of ``U``, for ``Y = U Z Vᵀ``: ``(I − UUᵀ) 2JJᵀY V``.

    The columns of ``2JJᵀY V`` that have most within ``U`` are swept as they are. Of the others random
    combinations stand for all, which keeps the norm on average (Halko, Martinsson & Tropp, SIAM
    Review 53, 2011).

    Args:
        basis: ``U``.
        Z: Shape ``(k, l)``.
        others: ``H_i`` of the other end, shape ``(L, l, l)``.
        value: ``λ``.
        generator: Of the combinations.

    Returns:
        Left singular vectors ``(d_L, c)``, and singular values ``(c,)``, descending.
    """
    blocks = Z @ others
    columns = blocks.shape[2]
    if columns > SWEPT + COMBINED:
        within = basis.grams @ blocks
        rotation = torch.linalg.eigh((within.mT @ within).sum(0))[1]
        mixing = torch.randn(columns - SWEPT, COMBINED, dtype=Z.dtype, generator=generator)
        mixed = rotation[:, :-SWEPT] @ (mixing.to(Z.device) / COMBINED**0.5)
        blocks = blocks @ torch.cat([rotation[:, -SWEPT:], mixed], 1)
    image = 2 * _swept(basis, blocks)
    outside = image - basis.U @ (basis.U.mT @ image)
    Q, R = torch.linalg.qr(outside)
    U, sizes, _ = torch.linalg.svd(R)
    # What rounding leaves within a basis is no direction.
    real = sizes > 1e-14 * value
    return (Q @ U)[:, real], sizes[real]


def _new_directions(basis: _Basis, found: Tensor, sizes: Tensor, enough: float) -> Tensor:
    """The leading ones of ``found``, until what is left is below ``enough``."""
    wanted = int((_tails(sizes) > enough).sum())
    room = basis.U.shape[0] - basis.size
    huge = max(W.numel() for W in basis.layers.layers) > HUGE_LAYER
    least = LEAST_GROWTH_HUGE if huge else LEAST_GROWTH
    count = min(max(least, wanted), MOST_GROWTH, room, found.shape[1])
    new = found[:, :count]
    if count:
        for _ in range(2):
            new = torch.linalg.qr(new - basis.U @ (basis.U.mT @ new))[0]
    return new


def _tails(sizes: Tensor) -> Tensor:
    """``(Σ_{j≥i} sizes_j²)^½``."""
    return sizes.square().flip(0).cumsum(0).flip(0).sqrt()


def _start(layers: Chain, generator: torch.Generator) -> tuple[_Basis, _Basis]:
    """Bases near the top singular spaces of either end, by subspace iteration.

    Each end iterates with ``Σ_i w_i L_iL_iᵀ``, the weights ``w_i`` the mean of ``R_iᵀR_i`` over the other
    end's basis.
    """
    W = layers.layers[0]
    sides = (layers, layers.transposed())
    frames = [
        torch.randn(end, min(FIRST_RANK, end), dtype=W.dtype, generator=generator).to(W.device)
        for end in layers.shape
    ]
    bases = [
        _basis(side, torch.linalg.qr(frame)[0]) for side, frame in zip(sides, frames, strict=True)
    ]
    for _ in range(START_STEPS):
        means = [basis.grams.diagonal(dim1=1, dim2=2).mean(1).flip(0) for basis in bases]
        images = [
            _swept(
                basis,
                weights[:, None, None] * torch.eye(basis.size, dtype=W.dtype, device=W.device),
            )
            for basis, weights in zip(bases, reversed(means), strict=True)
        ]
        bases = [
            _basis(side, torch.linalg.qr(image)[0])
            for side, image in zip(sides, images, strict=True)
        ]
    return bases[0], bases[1]


def _ritz(
    left: _Basis,
    right: _Basis,
    start: Tensor,
    tolerance: float,
    known: tuple[float, Tensor] | None,
    krylov: int = KRYLOV,
) -> tuple[float, Tensor]:
    """The largest Ritz pair ``λ``, ``Z`` of the two bases, with a ``known`` one left out."""
    rows, columns = left.size, right.size
    # Two large products instead of two small ones for each layer.
    G = left.grams.reshape(-1, rows)
    H = 2 * right.grams.flip(0).reshape(-1, columns)

    if known is not None:
        known = known[0], _padded(known[1], rows, columns)

    def apply(Z: Tensor) -> Tensor:
        GZ = (G @ Z).reshape(-1, rows, columns).transpose(0, 1).reshape(rows, -1)
        image = GZ @ H
        if known is not None:
            value, first = known
            image = image - value * (first * Z).sum() * first
        return image

    return top_eigenvector(apply, start, tolerance, krylov)


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

    left: _Basis
    right: _Basis
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
        U, left_sizes = _leaving(left, Z, H, value, generator)
        V, right_sizes = _leaving(right, Z.mT, G.flip(0), value, generator)
        leaving = float(torch.linalg.vector_norm(torch.cat([left_sizes, right_sizes]))) / value
        search = _Search(left, right, value, Z, leaving, known, steps)
        if leaving <= goal and inner <= goal:
            break
        if max(left.size, right.size) + MOST_GROWTH > most_rank:
            search = _compressed(search, most_rank // 2)
            left, right, Z, known = search.left, search.right, search.Z, search.known
        enough = value * max(0.2 * leaving, 0.2 * goal)
        sizes = left.size, right.size
        left = _joined(left, _new_directions(left, U, left_sizes, enough))
        right = _joined(right, _new_directions(right, V, right_sizes, enough))
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
        left=_rotated(search.left, left),
        right=_rotated(search.right, right),
        Z=Z[-1],
        known=None if search.known is None else (search.known[0], Z[0]),
    )


def _pair(layers: Chain, search: _Search, tolerance: float) -> LowRankPair:
    """The eigenmatrix without what the tolerance cannot see, and its full defect."""
    A, sizes, Bt = torch.linalg.svd(search.Z, full_matrices=False)
    rank = max(1, int((_tails(sizes) > DROPPED * tolerance).sum()))
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
    """
    generator = torch.Generator().manual_seed(0)
    left, right = _start(layers, generator)
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
        joined = [
            _joined(basis, _new_directions(basis, found, sizes, goal * pair.value))
            for basis, found in ((left, U), (right, V))
        ]
        if (joined[0].size, joined[1].size) == (left.size, right.size):
            return best
        search = replace(search, left=joined[0], right=joined[1])
        goal = 0.5 * goal


def second_curvature(layers: Chain, first: LowRankPair, tolerance: float) -> float:
    """The second eigenvalue of ``2 J Jᵀ``, multiplicities counted, from the bases of the first pair.

    Args:
        layers: As for the first.
        first: From :func:`largest_curvature`.
        tolerance: What may leave the bases, over ``λ``; the value is right to about its square over
            the relative gap to the third.
    """
    U, Z, V = first.bases
    left, right = _basis(layers, U), _basis(layers.transposed(), V)
    noise = _noise(left, right, torch.Generator().manual_seed(1))
    search = _Search(left, right, 0.0, noise, 0.1, (first.value, Z), 0)
    return _settled(search, tolerance, MOST_RANK, MOST_STEPS).value


def _noise(left: _Basis, right: _Basis, generator: torch.Generator) -> Tensor:
    shape = left.size, right.size
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(left.U.device)
