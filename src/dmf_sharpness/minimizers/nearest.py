"""Steps to the nearest solution of ``F(x) = B``, a product of factors in some unknowns ``x``.

The first steps solve the linearized equation for the point that is nearest to the *given* one, not to the
last iterate: with the displacement ``Z`` so far, ``J Z' = J Z − E`` for the least ``Z'``. Where these steps
end, the displacement is orthogonal to the set of solutions, as it must be at the nearest one. The last steps
are those of Gauss and Newton, ``J (Z' − Z) = −E`` for the least ``Z' − Z``, which reach rounding.
"""

from typing import Protocol

import numpy as np
import scipy
import torch
from torch import Tensor

NEAREST_STEPS = 30
"""The largest number of steps towards the nearest minimizer; from one percent away it takes four."""
NEAR = 1e-9
"""They end when a step is this long, relative to the norm of the factors."""
NEWTON_STEPS = 20
"""The largest number of steps of Gauss and Newton behind them; two are the rule."""
ROUNDING = 1e-15
"""They end at a relative residual of this, or when it does not get smaller."""
LINEAR = 1e-10
"""The relative residual to which the linear system of a step is solved; the next step corrects the rest."""
LINEAR_STEPS = 1000
"""The largest number of iterations for the linear system of a step."""


class Unknowns(Protocol):
    """A product of factors as a function of a vector ``x``, with its derivative ``J``."""

    def product(self, x: Tensor) -> Tensor:
        """``F(x)``, shape ``(d_L, r)``."""
        ...

    def along(self, x: Tensor, direction: Tensor) -> Tensor:
        """``J Z`` at ``x``, shape ``(d_L, r)``, for a vector ``Z``."""
        ...

    def back(self, x: Tensor, Y: Tensor) -> Tensor:
        """``Jᵀ Y`` at ``x``, a vector, for ``Y`` of shape ``(d_L, r)``."""
        ...


def approached(unknowns: Unknowns, start: Tensor, wanted: Tensor) -> Tensor:
    """The displacement from the start to about the nearest solution of ``F(x) = B``, a vector."""
    moved = torch.zeros_like(start)
    length = float(torch.linalg.vector_norm(start))
    for _ in range(NEAREST_STEPS):
        here = start + moved
        missing = unknowns.along(here, moved) + wanted - unknowns.product(here)
        new = least_solution(unknowns, here, missing)
        step, moved = float(torch.linalg.vector_norm(new - moved)), new
        if not step > NEAR * length:
            break
    return moved


def finished(
    unknowns: Unknowns, start: Tensor, wanted: Tensor, moved: Tensor
) -> tuple[Tensor, float]:
    """The displacement after steps of Gauss and Newton, and the relative residual there."""
    scale, residual = float(torch.linalg.matrix_norm(wanted)), float("inf")
    for _ in range(NEWTON_STEPS):
        here = start + moved
        missing = wanted - unknowns.product(here)
        before, residual = residual, float(torch.linalg.matrix_norm(missing)) / scale
        if not ROUNDING < residual < before:
            break
        moved = moved + least_solution(unknowns, here, missing)
    return moved, residual


def least_solution(unknowns: Unknowns, x: Tensor, change: Tensor) -> Tensor:
    """The least displacement ``Z`` with ``J Z`` equal to the given change of the product, a vector.

    LSQR (Paige and Saunders, ACM Transactions on Mathematical Software 8, 1982) finds the least one of all
    solutions, and the least-squares solution where ``J`` is rank-deficient.
    """

    def forward(vector: np.ndarray) -> np.ndarray:
        direction = torch.from_numpy(vector.ravel())
        return unknowns.along(x, direction).flatten().numpy()

    def backward(vector: np.ndarray) -> np.ndarray:
        Y = torch.from_numpy(vector.ravel()).reshape(change.shape)
        return unknowns.back(x, Y).numpy()

    operator = scipy.sparse.linalg.LinearOperator(
        (change.numel(), len(x)), matvec=forward, rmatvec=backward, dtype=np.float64
    )
    found = scipy.sparse.linalg.lsqr(
        operator, change.flatten().numpy(), atol=LINEAR, btol=LINEAR, iter_lim=LINEAR_STEPS
    )
    return torch.from_numpy(found[0])
