"""Chains of layers applied to a few columns, so that no product of two whole layers is formed.

``Y = P Qᵀ`` of rank ``k`` stands for a matrix of shape ``(d_L, d_0)``. Its image in parameter space is
``(Jᵀ Y)_i = L_iᵀ Y R_iᵀ = V_i X_iᵀ`` with ``V_i = L_iᵀ P`` and ``X_i = R_i Q``: two sweeps over the
layers, ``O(d² k)`` operations for each. Data is one more layer in front, ``S``, that is not trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.network.factors import Factors, times


@dataclass(frozen=True)
class Chain:
    """Layers in their order, and how many at either end are data and not trained.

    Attributes:
        layers: ``[S,] W_1 … W_L``.
        frozen_first: Whether the first layer is the input root ``S``.
        frozen_last: The same for the last, in a transposed chain.
    """

    layers: Sequence[Tensor]
    frozen_first: bool = False
    frozen_last: bool = False

    def trained(self, i: int) -> bool:
        """Whether layer ``i``, from 0, is one of the factors."""
        first, last = i == 0, i == len(self.layers) - 1
        return not (first and self.frozen_first) and not (last and self.frozen_last)

    @property
    def shape(self) -> tuple[int, int]:
        """``(d_L, d_0)``; with data ``d_0`` is the number of columns of ``S``."""
        return self.layers[-1].shape[-2], self.layers[0].shape[-1]

    def transposed(self) -> "Chain":
        """The chain ``W_Lᵀ … W_1ᵀ``: views, no copies."""
        layers = [W.mT for W in reversed(self.layers)]
        return Chain(layers, self.frozen_last, self.frozen_first)


def chain(factors: Factors, input_root: Tensor | None = None) -> Chain:
    """The factors of one minimizer as a chain, with the input root in front."""
    if input_root is None:
        return Chain(list(factors))
    return Chain([input_root, *factors], frozen_first=True)


def push_right(layers: Chain, Q: Tensor) -> list[Tensor]:
    """``[X_1 … X_L]``, ``X_i = R_i Q`` of shape ``(d_{i-1}, k)``, for ``Q`` of shape ``(d_0, k)``."""
    X = [Q]
    for W in layers.layers[:-1]:
        X.append(times(W, X[-1]))
    return X


def push_left(layers: Chain, P: Tensor) -> list[Tensor]:
    """``[V_1 … V_L]``, ``V_i = L_iᵀ P`` of shape ``(d_i, k)``, for ``P`` of shape ``(d_L, k)``."""
    V = [P]
    for W in reversed(layers.layers[1:]):
        V.append(times(W.mT, V[-1]))
    return V[::-1]


def pull_back_norm(layers: Chain, P: Tensor, Q: Tensor) -> Tensor:
    """``‖Jᵀ P Qᵀ‖_F``, from Gram matrices of order ``k``: a sum of terms that cannot cancel.

    No more than one layer's ``V_i`` and ``X_i`` are held, which counts when ``k`` is some hundreds.
    """
    V, X = P, Q
    grams = [V.mT @ V]
    for W in reversed(layers.layers[1:]):
        V = times(W.mT, V)
        grams.append(V.mT @ V)
    total = torch.zeros((), dtype=P.dtype, device=P.device)
    for i, gram in enumerate(reversed(grams)):
        if i > 0:
            X = times(layers.layers[i - 1], X)
        if layers.trained(i):
            total = total + (gram * (X.mT @ X)).sum()
    return total.clamp(min=0).sqrt()


def compressed(P: Tensor, Q: Tensor, cutoff: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition of ``P Qᵀ``, at the cost of two thin QR factorizations.

    Args:
        P: Shape ``(m, k)``.
        Q: Shape ``(n, k)``.
        cutoff: Leave out singular values below this share of the first.

    Returns:
        ``U`` ``(m, r)``, the singular values ``(r,)``, descending, and ``V`` ``(n, r)``.
    """
    Q_left, R_left = torch.linalg.qr(P)
    Q_right, R_right = torch.linalg.qr(Q)
    U, values, Vt = torch.linalg.svd(R_left @ R_right.mT, full_matrices=False)
    kept = max(1, int((values > cutoff * values[0]).sum()))
    return Q_left @ U[:, :kept], values[:kept], Q_right @ Vt[:kept].mT
