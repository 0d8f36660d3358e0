"""The training problem, in the single form that the library computes with."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """The problem of minimizing ``f(W) = ‖T − W_{L:1} S‖_F²``: matrix factorization or linear regression.

    :mod:`dmf_sharpness.network.loss` explains how a regression is brought to this form.

    Attributes:
        target: ``T``, shape ``(…, d_L, r)``. In matrix factorization it is the matrix ``M``, and
            ``r = d_0``.
        input_root: ``S``, shape ``(d_0, r)``, a root of the input Gram matrix ``S Sᵀ``. In matrix
            factorization it is the identity, written as None.

    >>> import torch
    >>> problem = Problem(torch.ones(2, 3), input_root=torch.ones(4, 3))
    >>> problem.input_gram.shape
    torch.Size([4, 4])
    """

    target: Tensor
    input_root: Tensor | None = None

    @property
    def input_gram(self) -> Tensor | None:
        """``G = S Sᵀ``, shape ``(d_0, d_0)``; None in matrix factorization."""
        return None if self.input_root is None else self.input_root @ self.input_root.mT

    def chosen(self, which: Tensor | slice | int) -> "Problem":
        """The same problem for the chosen members of a batch of targets."""
        return Problem(self.target[which], self.input_root)
