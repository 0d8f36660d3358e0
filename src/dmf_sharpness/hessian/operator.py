"""The operator ``Y ↦ 2 Σ_i (L_iL_iᵀ) Y (R_iᵀR_i)`` as a function for iterative solvers.

It is applied with Gram matrices or layer by layer, whichever is cheaper for the given widths.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dmf_sharpness.hessian.thin_products import times
from dmf_sharpness.network.chain import Chain, chain, push_left, push_right
from dmf_sharpness.network.curvature import apply_curvature, identity, layer_grams
from dmf_sharpness.network.factors import Factors, widths

APPLICATIONS = 60
"""The typical number of applications in a Lanczos iteration, for the estimate of the total cost."""
FEW_COLUMNS = 1.5
"""A multiplication in a product with a dozen columns takes longer by this factor than in a large product."""
STACKED_DEPTH, STACKED_ORDER = 4, 4096
"""Matrices are stacked from this depth on and up to this ``d_0 d_L``.

There the number of products determines the time, and not their size.
"""


def curvature_operator(
    factors: Factors, input_root: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """The operator of a single minimizer on matrices of shape ``(d_L, d_0)``.

    With Gram matrices an application costs ``O(L d_0 d_L (d_0 + d_L))`` operations, however wide
    the hidden layers are. But the Gram matrices have to be computed first. If the input or the
    output is narrow, it can be cheaper to pass a matrix of few columns through all layers, forward
    and back, in each application.

    Args:
        factors: ``W_i`` of shape ``(d_i, d_{i-1})``.
        input_root: ``S``, or None for the identity.
    """
    layers = chain(factors, input_root)
    sizes = widths(layers.layers)
    if by_layers(sizes) < by_grams(sizes):
        return through_layers(layers)
    lefts, rights = layer_grams(factors, input_root)
    if len(lefts) >= STACKED_DEPTH and math.prod(layers.shape) <= STACKED_ORDER:
        ends = [identity(end, factors) for end in layers.shape]
        return stacked_operator(
            torch.stack([ends[0] if A is None else A for A in lefts]),
            torch.stack([ends[1] if B is None else B for B in rights]),
        )
    return lambda Y: apply_curvature(lefts, rights, Y)


def stacked_operator(lefts: Tensor, rights: Tensor) -> Callable[[Tensor], Tensor]:
    """``Y ↦ 2 Σ_i A_i Y B_i``, by two large matrix products instead of two small ones for each layer.

    Args:
        lefts: ``A_i``, shape ``(L, m, m)``.
        rights: ``B_i``, shape ``(L, n, n)``.
    """
    layers, m, n = len(lefts), lefts.shape[1], rights.shape[1]
    A, B = lefts.reshape(-1, m), 2 * rights.reshape(-1, n)

    def apply(Y: Tensor) -> Tensor:
        terms = (A @ Y).reshape(layers, m, n).transpose(0, 1).reshape(m, -1)
        return terms @ B

    return apply


def by_grams(sizes: Sequence[int]) -> int:
    """The number of multiplications for a whole iteration with Gram matrices, their computation included.

    Args:
        sizes: The widths ``d_0 … d_L``.
    """
    d_0, *inner, d_L = sizes
    chains = sum(m * n for n, m in pairwise(inner)) * (d_L + d_0)
    grams = sum(inner) * (d_L**2 + d_0**2)
    return chains + grams + APPLICATIONS * len(inner) * d_L * d_0 * (d_L + d_0)


def by_layers(sizes: Sequence[int]) -> int:
    """The same for an iteration layer by layer, in multiplications that take as long in a large product."""
    entries = sum(m * n for n, m in pairwise(sizes))
    return int(APPLICATIONS * 2 * min(sizes[0], sizes[-1]) * entries * FEW_COLUMNS)


def through_layers(layers: Chain) -> Callable[[Tensor], Tensor]:
    """The operator by passes over the layers, with the Gram matrices of the narrower end only.

    If this is the output, ``X_i = R_i Yᵀ`` is computed forward, and
    ``Z_i = X_i L_iL_iᵀ + W_iᵀ Z_{i+1}`` backward. The last result is ``Z_1 = (J Jᵀ Y)ᵀ``. If it is
    the input, the chain is transposed.
    """
    d_L, d_0 = layers.shape
    if d_L > d_0:
        flipped = through_layers(layers.transposed())
        return lambda Y: flipped(Y.mT).mT
    grams = [V.mT @ V for V in push_left(layers, identity(d_L, layers.layers), times)]

    def apply(Y: Tensor) -> Tensor:
        X = push_right(layers, Y.mT, times)
        Z: Tensor | None = None
        for i in reversed(range(len(X))):
            if Z is not None:
                Z = times(layers.layers[i].mT, Z)
            if layers.trained(i):
                term = X[i] @ grams[i]
                Z = term if Z is None else Z + term
        assert Z is not None
        return 2 * Z.mT

    return apply
