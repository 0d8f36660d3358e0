"""The two forms of an eigenmatrix of ``J Jᵀ``, and the eigenvector of the Hessian that each stands for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.network.chain import chain, pull_back_norm, push_left, push_right
from dmf_sharpness.network.curvature import parameter_direction, signed
from dmf_sharpness.network.factors import Factors

Pairs = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class WholeEigenmatrix:
    """Unit matrices ``Y``, shape ``(…, d_L, r)``."""

    matrix: Tensor

    def whole(self) -> Tensor:
        """``Y`` itself."""
        return self.matrix

    def direction(self, factors: Factors, input_root: Tensor | None) -> list[Tensor]:
        """The unit vector ``U_i ∝ L_iᵀ Y (R_i S)ᵀ`` of parameter space, shaped like the factors."""
        return parameter_direction(factors, self.matrix, input_root)

    def pairs(self, factors: Factors, input_root: Tensor | None) -> Pairs | None:
        """None: the vector has no form in thin matrices."""
        return None


@dataclass(frozen=True)
class ThinEigenmatrix:
    """``Y = P Qᵀ`` of one minimizer with wide ends.

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
        """As :meth:`WholeEigenmatrix.direction`."""
        return [V @ X.mT for V, X in self.pairs(factors, input_root)]

    def pairs(self, factors: Factors, input_root: Tensor | None) -> Pairs:
        """``[(V_1, X_1) … (V_L, X_L)]`` with ``U_i = V_i X_iᵀ``, ``k`` columns each."""
        layers = chain(factors, input_root)
        norm = pull_back_norm(layers, self.P, self.Q)
        norm = torch.where(norm > 0, norm, 1.0)
        rights = push_right(layers, self.Q)
        if input_root is not None:
            # The root stands in front: R_i S Q from the second layer of the chain on.
            rights = rights[1:]
        lefts = push_left(layers, self.P)[-len(factors) :]
        return [(V / norm, X) for V, X in zip(lefts, rights, strict=True)]
