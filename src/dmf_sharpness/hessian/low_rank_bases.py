"""Orthonormal bases at either end of a network, with what the layers make of them.

A basis ``U`` of an end keeps ``L_iᵀU`` and its Gram matrices for every layer, so that the operator within
two bases is a small problem, and what leaves them takes one sweep over the layers
(:mod:`dmf_sharpness.hessian.low_rank`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.network.chain import Chain, push_left
from dmf_sharpness.network.factors import times
from dmf_sharpness.network.randomness import gaussian

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


@dataclass(frozen=True)
class Basis:
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
        """The number of directions, ``k``."""
        return self.U.shape[1]


def basis_of(layers: Chain, U: Tensor) -> Basis:
    """The basis ``U``, orthonormal, ``(d_L, k)``: one sweep over the layers."""
    pushed = push_left(layers, U)
    grams = [V.mT @ V for i, V in enumerate(pushed) if layers.trained(i)]
    return Basis(layers, U, pushed, torch.stack(grams))


def joined(basis: Basis, new: Tensor) -> Basis:
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
    return Basis(basis.layers, torch.cat([basis.U, new], 1), together, grams)


def rotated(basis: Basis, rotation: Tensor) -> Basis:
    """The directions ``U rotation``, shape ``(k, fewer)``."""
    return Basis(
        basis.layers,
        basis.U @ rotation,
        [V @ rotation for V in basis.pushed],
        rotation.mT @ basis.grams @ rotation,
    )


def swept(basis: Basis, blocks: Tensor) -> Tensor:
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


def leaving_directions(
    basis: Basis, Z: Tensor, others: Tensor, value: float, generator: torch.Generator
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
        mixing = gaussian((columns - SWEPT, COMBINED), generator, Z.device)
        mixed = rotation[:, :-SWEPT] @ (mixing / COMBINED**0.5)
        blocks = blocks @ torch.cat([rotation[:, -SWEPT:], mixed], 1)
    image = 2 * swept(basis, blocks)
    outside = image - basis.U @ (basis.U.mT @ image)
    Q, R = torch.linalg.qr(outside)
    U, sizes, _ = torch.linalg.svd(R)
    # What rounding leaves within a basis is no direction.
    real = sizes > 1e-14 * value
    return (Q @ U)[:, real], sizes[real]


def new_directions(basis: Basis, found: Tensor, sizes: Tensor, enough: float) -> Tensor:
    """The leading ones of ``found``, until what is left is below ``enough``."""
    wanted = int((tails(sizes) > enough).sum())
    room = basis.U.shape[0] - basis.size
    huge = max(W.numel() for W in basis.layers.layers) > HUGE_LAYER
    least = LEAST_GROWTH_HUGE if huge else LEAST_GROWTH
    count = min(max(least, wanted), MOST_GROWTH, room, found.shape[1])
    new = found[:, :count]
    if count:
        for _ in range(2):
            new = torch.linalg.qr(new - basis.U @ (basis.U.mT @ new))[0]
    return new


def tails(sizes: Tensor) -> Tensor:
    """``(Σ_{j≥i} sizes_j²)^½``."""
    return sizes.square().flip(0).cumsum(0).flip(0).sqrt()


def starting_bases(layers: Chain, generator: torch.Generator) -> tuple[Basis, Basis]:
    """Bases near the top singular spaces of either end, by subspace iteration.

    Each end iterates with ``Σ_i w_i L_iL_iᵀ``, the weights ``w_i`` the mean of ``R_iᵀR_i`` over the other
    end's basis.
    """
    W = layers.layers[0]
    sides = (layers, layers.transposed())
    frames = [gaussian((end, min(FIRST_RANK, end)), generator, W.device) for end in layers.shape]
    bases = [
        basis_of(side, torch.linalg.qr(frame)[0]) for side, frame in zip(sides, frames, strict=True)
    ]
    for _ in range(START_STEPS):
        means = [basis.grams.diagonal(dim1=1, dim2=2).mean(1).flip(0) for basis in bases]
        images = [
            swept(
                basis,
                weights[:, None, None] * torch.eye(basis.size, dtype=W.dtype, device=W.device),
            )
            for basis, weights in zip(bases, reversed(means), strict=True)
        ]
        bases = [
            basis_of(side, torch.linalg.qr(image)[0])
            for side, image in zip(sides, images, strict=True)
        ]
    return bases[0], bases[1]
