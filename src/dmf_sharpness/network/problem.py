"""The problem that factors are trained on, in the one form that the library computes with."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """``f(W) = ‖T − W_{L:1} S‖_F²``, matrix factorization or linear regression.

    :mod:`dmf_sharpness.network.loss` says how a regression of outputs on inputs comes to this form.

    Attributes:
        target: ``T``, shape ``(…, d_L, r)``; in matrix factorization the matrix ``M``, and ``r = d_0``.
        input_root: ``S``, shape ``(d_0, r)``, ``S Sᵀ`` the inputs' Gram matrix; None for the identity, in
            matrix factorization.
    """

    target: Tensor
    input_root: Tensor | None = None

    @property
    def input_gram(self) -> Tensor | None:
        """``G = S Sᵀ``, shape ``(d_0, d_0)``; None in matrix factorization."""
        return None if self.input_root is None else self.input_root @ self.input_root.mT

    def chosen(self, which: Tensor | slice | int) -> "Problem":
        """The same with some of a batch of targets."""
        return Problem(self.target[which], self.input_root)
