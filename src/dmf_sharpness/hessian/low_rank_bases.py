"""Orthonormal bases for the low-rank iteration, together with their images under the layers.

A basis ``U`` at the output of a network stores ``L_iᵀU`` and its Gram matrix for every layer. A
basis at the input is one at the output of the transposed network. So the operator within two bases
is a small problem, and the defect outside of them takes one pass over the layers
(:mod:`dmf_sharpness.hessian.low_rank`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.hessian.thin_products import times
from dmf_sharpness.network.chain import Chain, push_left
from dmf_sharpness.network.randomness import gaussian

FIRST_RANK = 16
"""The number of directions of a basis at the start.

For so few columns a product takes about twice the time in which the layer is read from memory.
"""
START_STEPS = 2
"""The number of steps of subspace iteration that improve the random start."""
LEAST_GROWTH, LEAST_GROWTH_HUGE, MOST_GROWTH = 4, 24, 32
"""The least number of new directions per step, the same for huge layers, and the largest number.

A huge layer is read from memory in every step, so fewer steps with more directions take less time, until
more directions are computed than are needed.
"""
HUGE_LAYER = 2**21
"""A layer with more entries than this does not stay in the processor's cache."""
GRAM_ROUNDING = 1e-7
"""Singular values below this fraction of the largest are not known from a Gram matrix."""
COMBINED = 24
"""The number of random combinations of the columns of an image."""


def is_huge(layers: Chain) -> bool:
    """Whether a layer of the chain is huge."""
    return max(W.numel() for W in layers.layers) > HUGE_LAYER


@dataclass(frozen=True)
class Basis:
    """Orthonormal directions at the output of a chain, and their images under its layers.

    Attributes:
        layers: The chain; for directions at the input it is the transposed one.
        U: The directions, shape ``(d_L, k)``.
        pushed: ``[L_1ᵀU … L_LᵀU]``, one matrix for each layer of the chain.
        grams: The Gram matrices ``(L_iᵀU)ᵀ(L_iᵀU)`` of the trained layers, shape ``(L, k, k)``.
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
    """The basis with the orthonormal directions ``U``, shape ``(d_L, k)``; one pass over the layers."""
    pushed = push_left(layers, U, times)
    grams = [V.mT @ V for i, V in enumerate(pushed) if layers.trained(i)]
    return Basis(layers, U, pushed, torch.stack(grams))


def joined(basis: Basis, new: Tensor) -> Basis:
    """The basis with the additional directions ``new``, orthonormal and orthogonal to its own."""
    if not new.shape[1]:
        return basis
    k = basis.size
    pushed = push_left(basis.layers, new, times)
    grams = basis.grams.new_empty(len(basis.grams), k + new.shape[1], k + new.shape[1])
    grams[:, :k, :k] = basis.grams
    together = []
    row = 0
    for i, (V, v) in enumerate(zip(basis.pushed, pushed, strict=True)):
        together.append(_side_by_side(V, v))
        if basis.layers.trained(i):
            cross = together[-1].mT @ v
            grams[row, :, k:], grams[row, k:, :] = cross, cross.mT
            row += 1
    return Basis(basis.layers, _side_by_side(basis.U, new), together, grams)


def _side_by_side(V: Tensor, v: Tensor) -> Tensor:
    """``[V v]``, stored column by column as the products of :func:`times` are."""
    return torch.cat([V.mT, v.mT]).mT


def rotated(basis: Basis, rotation: Tensor) -> Basis:
    """The basis with the directions ``U Q``, for ``Q = rotation`` with orthonormal columns, ``(k, l)``."""
    return Basis(
        basis.layers,
        basis.U @ rotation,
        [V @ rotation for V in basis.pushed],
        rotation.mT @ basis.grams @ rotation,
    )


def swept(basis: Basis, blocks: Tensor) -> Tensor:
    """``Σ_i L_i (L_iᵀU) B_i``, shape ``(d_L, c)``, in one pass; ``B = blocks`` has shape ``(L, k, c)``."""
    total: Tensor | None = None
    row = 0
    for i, W in enumerate(basis.layers.layers):
        if total is not None:
            total = times(W, total)
        if basis.layers.trained(i):
            term = times(basis.pushed[i], blocks[row])
            total = term if total is None else total + term
            row += 1
    assert total is not None
    return total


def leaving_directions(
    basis: Basis, Z: Tensor, others: Tensor, value: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The defect outside the span of ``U``, ``(I − UUᵀ) 2JJᵀY V`` for ``Y = U Z Vᵀ``.

    Its many columns are represented by a few random combinations of them, which have the same norm on
    average, and span its leading directions nearly as well (Halko, Martinsson & Tropp, SIAM Review
    53, 2011).

    Args:
        basis: The basis ``U`` of ``k`` directions.
        Z: Shape ``(k, l)``.
        others: The Gram matrices ``H_i`` of the other basis, ``V``, shape ``(L, l, l)``.
        value: ``λ``.
        generator: The random generator for the combinations.

    Returns:
        Left singular vectors of the defect ``(d_L, c)``, and its singular values ``(c,)``, descending.
    """
    columns = others.shape[2]
    if columns > COMBINED:
        others = others @ (gaussian((columns, COMBINED), generator, Z.device) / COMBINED**0.5)
    image = 2 * swept(basis, Z @ others)
    outside = image - basis.U @ (basis.U.mT @ image)
    # The Gram matrix gives singular values above √ε of the largest, and smaller ones do not matter: the
    # directions that join the basis are orthonormalized anyway.
    squares, mixed_columns = torch.linalg.eigh(outside.mT @ outside)
    sizes = squares.clamp(min=0).sqrt().flip(0)
    # Singular values at the level of rounding do not stand for new directions.
    real = sizes > max(1e-14 * value, GRAM_ROUNDING * float(sizes[0]))
    return outside @ mixed_columns.flip(1)[:, real] / sizes[real], sizes[real]


def new_directions(basis: Basis, found: Tensor, sizes: Tensor, enough: float) -> Tensor:
    """The leading directions of ``found`` that are to join the basis, orthonormal and orthogonal to it.

    Args:
        basis: The basis ``U``.
        found: Candidates, shape ``(d_L, c)``, in the order of their singular values.
        sizes: The singular values ``(c,)``, descending.
        enough: The norm of the defect that may remain.
    """
    wanted = int((tails(sizes) > enough).sum())
    room = basis.U.shape[0] - basis.size
    least = LEAST_GROWTH_HUGE if is_huge(basis.layers) else LEAST_GROWTH
    count = min(max(least, wanted), MOST_GROWTH, room, found.shape[1])
    new = found[:, :count]
    if count:
        # A single orthogonalization is not accurate enough if most of a direction lies within U.
        for _ in range(2):
            new = torch.linalg.qr(new - basis.U @ (basis.U.mT @ new))[0]
    return new


def tails(sizes: Tensor) -> Tensor:
    """``(Σ_{j≥i} s_j²)^½`` for each ``i``, with ``s = sizes``, shape ``(c,)``."""
    return sizes.square().flip(0).cumsum(0).flip(0).sqrt()


def starting_bases(layers: Chain, generator: torch.Generator) -> tuple[Basis, Basis]:
    """Bases that are close to the top singular spaces at the output and the input, to start with.

    At the output, subspace iteration with ``Σ_i w_i L_iL_iᵀ`` improves random directions. The
    weight ``w_i`` is the mean of the diagonal of ``(R_iV)ᵀ(R_iV)``, with the current basis ``V`` at
    the input. The input is treated in the same way.
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
