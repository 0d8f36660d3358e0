"""Products of a chain of layers with matrices of few columns.

No product of two layers is formed. A matrix of shape ``(d_L, d_0)`` and rank ``k`` is held as
``Y = P Qᵀ``. Its image in parameter space is ``(Jᵀ Y)_i = L_iᵀ Y R_iᵀ = V_i X_iᵀ`` with
``V_i = L_iᵀ P`` and ``X_i = R_i Q``. Two passes over the layers give all of these, with ``O(d² k)``
operations per layer of width ``d``. Input data appear as one more layer in front, the input root
``S``, which is not trained.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.network.factors import Factors, torch_times

Multiply = Callable[[Tensor, Tensor], Tensor]
"""A function for the product of a layer with a matrix of few columns."""


@dataclass(frozen=True)
class Chain:
    """Layers in the order in which they act, with a mark on a layer that is data and not trained.

    Attributes:
        layers: ``W_1 … W_L``, with the input root ``S`` in front if there are input data.
        frozen_first: Whether the first layer is the input root ``S``.
        frozen_last: Whether the last layer is ``Sᵀ``, as in a transposed chain.
    """

    layers: Sequence[Tensor]
    frozen_first: bool = False
    frozen_last: bool = False

    def trained(self, i: int) -> bool:
        """Whether layer ``i``, counted from 0, is one of the factors and not data."""
        first, last = i == 0, i == len(self.layers) - 1
        return not (first and self.frozen_first) and not (last and self.frozen_last)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape ``(d_L, d_0)`` of the product; with data ``d_0`` is the number of columns of ``S``."""
        return self.layers[-1].shape[-2], self.layers[0].shape[-1]

    def transposed(self) -> "Chain":
        """The chain ``W_Lᵀ … W_1ᵀ``, made of views and not of copies."""
        layers = [W.mT for W in reversed(self.layers)]
        return Chain(layers, self.frozen_last, self.frozen_first)


def chain(factors: Factors, input_root: Tensor | None = None) -> Chain:
    """The factors of a single minimizer as a chain, with the input root, if any, in front."""
    if input_root is None:
        return Chain(list(factors))
    return Chain([input_root, *factors], frozen_first=True)


def push_right(layers: Chain, Q: Tensor, multiply: Multiply = torch_times) -> list[Tensor]:
    """``[X_1 … X_L]`` with ``X_i = R_i Q``, shape ``(d_{i-1}, k)``, for ``Q`` of shape ``(d_0, k)``."""
    X = [Q]
    for W in layers.layers[:-1]:
        X.append(multiply(W, X[-1]))
    return X


def push_left(layers: Chain, P: Tensor, multiply: Multiply = torch_times) -> list[Tensor]:
    """``[V_1 … V_L]`` with ``V_i = L_iᵀ P``, shape ``(d_i, k)``, for ``P`` of shape ``(d_L, k)``."""
    V = [P]
    for W in reversed(layers.layers[1:]):
        V.append(multiply(W.mT, V[-1]))
    return V[::-1]


def pull_back_norm(layers: Chain, P: Tensor, Q: Tensor) -> Tensor:
    """``‖Jᵀ (P Qᵀ)‖_F`` from Gram matrices of order ``k``.

    The square is ``Σ_i ⟨V_iᵀV_i, X_iᵀX_i⟩`` with the notation of this module; no term is negative,
    so no digits cancel. Only one ``V_i`` and one ``X_i`` are in memory at a time, which matters
    when ``k`` is several hundred.

    Args:
        layers: The chain.
        P: Shape ``(d_L, k)``.
        Q: Shape ``(d_0, k)``.
    """
    V, X = P, Q
    grams = [V.mT @ V]
    for W in reversed(layers.layers[1:]):
        V = torch_times(W.mT, V)
        grams.append(V.mT @ V)
    total = torch.zeros((), dtype=P.dtype, device=P.device)
    for i, gram in enumerate(reversed(grams)):
        if i > 0:
            X = torch_times(layers.layers[i - 1], X)
        if layers.trained(i):
            total = total + (gram * (X.mT @ X)).sum()
    return total.clamp(min=0).sqrt()


def leading_triplets(
    P: Tensor, Q: Tensor, count: Callable[[Tensor], int]
) -> tuple[Tensor, Tensor, Tensor]:
    """All singular values of ``P Qᵀ``, and the leading singular vectors, by two QR factorizations.

    The orthogonal factors are not formed: they are only multiplied by the few vectors that are wanted.

    Args:
        P: Shape ``(m, k)``.
        Q: Shape ``(n, k)``.
        count: How many singular vectors are wanted, given the singular values.

    Returns:
        ``U``, shape ``(m, c)``; the singular values, descending, shape ``(r,)``; ``V``, shape ``(n, c)``.
    """
    sides = [torch.geqrf(side) for side in (P, Q)]
    R_left, R_right = (packed[: packed.shape[1]].triu() for packed, _ in sides)
    U, values, Vt = torch.linalg.svd(R_left @ R_right.mT, full_matrices=False)
    c = count(values)
    left, right = (
        _rotated(packed, reflectors, small[:, :c])
        for (packed, reflectors), small in zip(sides, (U, Vt.mT), strict=True)
    )
    return left, values, right


def _rotated(packed: Tensor, reflectors: Tensor, small: Tensor) -> Tensor:
    """The orthogonal factor of a QR factorization, as :func:`torch.geqrf` returns it, times ``small``."""
    padded = small.new_zeros(len(packed), small.shape[1])
    padded[: len(small)] = small
    return torch.ormqr(packed[:, : len(reflectors)], reflectors, padded)
