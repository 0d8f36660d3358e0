"""Eigenmatrices of ``J Jᵀ``, whole or in thin factors, and the Hessian eigenvectors that belong to them."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dmf_sharpness.network.chain import chain, pull_back_norm, push_left, push_right
from dmf_sharpness.network.curvature import parameter_direction, signed
from dmf_sharpness.network.factors import Factors

Pairs = list[tuple[Tensor, Tensor]]
"""An eigenvector ``U_i = V_i X_iᵀ`` as pairs ``(V_i, X_i)``, of shapes ``(d_i, k)`` and ``(d_{i-1}, k)``."""


class Eigenmatrix(Protocol):
    """The unit eigenmatrix ``Y`` that belongs to the value, in the form that a method found it in."""

    def whole(self) -> Tensor:
        """``Y``, shape ``(…, d_L, r)``."""
        ...

    def direction(self, factors: Factors, input_root: Tensor | None) -> list[Tensor]:
        """The unit vector ``U_i ∝ L_iᵀ Y (R_i S)ᵀ`` in parameter space."""
        ...

    def pairs(self, factors: Factors, input_root: Tensor | None) -> Pairs | None:
        """The same in thin factors, or None if it is not a product of thin matrices."""
        ...


@dataclass(frozen=True)
class WholeEigenmatrix:
    """Unit eigenmatrices that are stored as they are.

    Attributes:
        matrix: ``Y``, shape ``(…, d_L, r)``.
    """

    matrix: Tensor

    def whole(self) -> Tensor:
        """``Y``, shape ``(…, d_L, r)``."""
        return self.matrix

    def direction(self, factors: Factors, input_root: Tensor | None) -> list[Tensor]:
        """The unit vector ``U_i ∝ L_iᵀ Y (R_i S)ᵀ`` in parameter space, in the shapes of the factors."""
        return parameter_direction(factors, self.matrix, input_root)

    def pairs(self, factors: Factors, input_root: Tensor | None) -> Pairs | None:
        """None, because the eigenvector of a whole eigenmatrix is not a product of thin matrices."""
        return None


@dataclass(frozen=True)
class ThinEigenmatrix:
    """The eigenmatrix ``Y = P Qᵀ`` of a single minimizer with a wide input and a wide output.

    Attributes:
        P: Shape ``(d_L, k)``.
        Q: Shape ``(r, k)``.
    """

    P: Tensor
    Q: Tensor

    def whole(self) -> Tensor:
        """``Y``, shape ``(d_L, r)``."""
        return signed(self.P @ self.Q.mT)

    def direction(self, factors: Factors, input_root: Tensor | None) -> list[Tensor]:
        """The same as :meth:`WholeEigenmatrix.direction`."""
        return [V @ X.mT for V, X in self.pairs(factors, input_root)]

    def pairs(self, factors: Factors, input_root: Tensor | None) -> Pairs:
        """``[(V_1, X_1) … (V_L, X_L)]`` with ``U_i = V_i X_iᵀ``; each matrix has ``k`` columns."""
        layers = chain(factors, input_root)
        norm = pull_back_norm(layers, self.P, self.Q)
        norm = torch.where(norm > 0, norm, 1.0)
        rights = push_right(layers, self.Q)
        if input_root is not None:
            # The chain starts with the root, which is not a factor. So its first entry is left out.
            rights = rights[1:]
        lefts = push_left(layers, self.P)[-len(factors) :]
        return [(V / norm, X) for V, X in zip(lefts, rights, strict=True)]
