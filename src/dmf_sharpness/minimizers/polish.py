"""The nearest minimizer to a point, such as the end of training in single precision.

With the thin singular value decomposition ``S = U Σ Vᵀ`` of the input root, the minimizers are the factors
with ``W_{L:1} U = B``. Here ``B`` is ``T V Σ⁻¹``, or, if a hidden layer is narrower than the rank of
``T V``, the best approximation of ``T V`` of that rank (Eckart and Young), times ``Σ⁻¹``. In this form the
singular values of the inputs, which can be orders of magnitude apart, are gone from the equation.
``W_1`` enters through ``W_1 U`` alone, and the nearest minimizer differs from the given factors by multiples
of ``Uᵀ`` there, so that the equation is solved for ``[W_1 U, W_2, …, W_L]``.

The first steps solve the linearized equation for the point that is nearest to the *given* factors, not to the
last iterate: with the displacement ``Z`` so far, ``J Z' = J Z − E`` for the least ``Z'``. Where these steps
end, the displacement is orthogonal to the set of minimizers, as it must be at the nearest one. The last steps
are those of Gauss and Newton, ``J (Z' − Z) = −E`` for the least ``Z' − Z``, which reach rounding.
"""

from dataclasses import dataclass

import numpy as np
import scipy
import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_tensor
from dmf_sharpness.minimizers.frames import RANK_TOLERANCE, best_approximation
from dmf_sharpness.minimizers.targets import thin_svd
from dmf_sharpness.network.curvature import check_single, checked_inputs, jvp, vjp
from dmf_sharpness.network.factors import (
    Factors,
    checked_factors,
    end_to_end,
    flatten,
    unflatten,
    widths,
)
from dmf_sharpness.network.problem import Problem

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
RESIDUAL = 1e-11
"""The largest relative residual of what is returned as a minimizer."""


@dataclass(frozen=True)
class Polished:
    """A minimizer near given factors.

    Attributes:
        factors: ``[W_1 … W_L]``, the minimizer, float64.
        distance: The distance from the given factors, relative to the norm of the minimizer.
        residual: How far the minimizer is from being one, ``‖W_{L:1} U − B‖_F / ‖B‖_F``.
        excess_loss: The loss at the given factors above the least loss of any factors of these widths, over
            ``‖T‖_F²``. The least loss contains neither the part of the outputs that no linear map of the
            inputs reaches, nor, behind a bottleneck, that beyond its rank.
    """

    factors: list[Tensor]
    distance: float
    residual: float
    excess_loss: float


def polish(factors: Factors, problem: Problem) -> Polished:
    """The minimizer nearest to the given factors.

    Nearest is meant locally: the displacement is orthogonal to the set of minimizers where it ends. Far
    from the set another minimizer may be nearer.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``, float64, so that factors of a lower
            precision are promoted by the caller.
        problem: The target ``T``, shape ``(d_L, r)``, and the input root ``S``, shape ``(d_0, r)``; also
            the outputs and the inputs themselves, one column per sample.

    Raises:
        TypeError: A tensor is not float64.
        ValueError: The shapes do not fit, values are not finite, the inputs or the target are zero, the
            factors are a batch, or there is no minimizer near enough.

    >>> W = torch.ones(1, 1, dtype=torch.float64)
    >>> near = polish([W, 1.1 * W], Problem(W))
    >>> [round(float(V), 6) for V in near.factors], round(near.distance, 4)
    ([0.952494, 1.049875], 0.0488)
    """
    factors = checked_factors(factors)
    check_single(factors)
    equation = _equation(factors, problem)
    start = _reduced(factors, equation.basis)
    moved = _approached(start, equation.wanted)
    moved, residual = _finished(start, equation.wanted, moved)
    change = unflatten(moved, widths(start))
    if equation.basis is not None:
        change[0] = change[0] @ equation.basis.mT
    end = [W + Z for W, Z in zip(factors, change, strict=True)]
    distance = float(torch.linalg.vector_norm(moved) / torch.linalg.vector_norm(flatten(end)))
    if not residual <= RESIDUAL:
        raise ValueError(
            "factors: expected a minimizer near them, got none: at a relative distance of "
            f"{distance:.2g} the relative residual is {residual:.2g}"
        )
    return Polished(end, distance, residual, equation.excess_loss)


@dataclass(frozen=True)
class _Equation:
    """The equation ``W_{L:1} U = B`` of the minimizers.

    Attributes:
        basis: ``U``, shape ``(d_0, r)``; None in matrix factorization, where it is the identity.
        wanted: ``B``, shape ``(d_L, r)``.
        excess_loss: As in :class:`Polished`.
    """

    basis: Tensor | None
    wanted: Tensor
    excess_loss: float


def _equation(factors: Factors, problem: Problem) -> _Equation:
    """The equation of the minimizers; its solutions are those of least loss."""
    root, device = problem.input_root, factors[0].device
    if root is not None:
        root = checked_inputs(root, factors)
    columns = factors[0].shape[-1] if root is None else root.shape[-1]
    shape = (factors[-1].shape[-2], columns)
    target = checked_tensor(problem.target, "target", shape, device=device)
    size = float(target.square().sum())
    basis, values = None, torch.ones(columns, dtype=torch.float64, device=device)
    if root is not None:
        basis, values, V = thin_svd(root)
        target = target @ V
    if not bool(target.any()):
        raise ValueError("target: expected a matrix that the inputs reach, not zero, got zeros")
    narrowest = min(W.shape[-2] for W in factors)
    if narrowest < int(torch.linalg.matrix_rank(target, rtol=RANK_TOLERANCE)):
        target = best_approximation(target, narrowest)
    missing = end_to_end(_reduced(factors, basis)) * values - target
    # The residual at a minimizer is orthogonal to the rows and columns of the product there alone, so that
    # behind a bottleneck it has an inner product with the residual here.
    beyond = (problem.target if basis is None else problem.target @ V) - target
    excess = float(missing.square().sum() - 2 * (missing * beyond).sum())
    return _Equation(basis, target / values, excess / size)


def _reduced(factors: Factors, basis: Tensor | None) -> list[Tensor]:
    """``[W_1 U, W_2, …, W_L]``, whose product is ``W_{L:1} U``."""
    return list(factors) if basis is None else [factors[0] @ basis, *factors[1:]]


def _added(factors: Factors, change: Tensor) -> list[Tensor]:
    return [W + Z for W, Z in zip(factors, unflatten(change, widths(factors)), strict=True)]


def _approached(start: Factors, wanted: Tensor) -> Tensor:
    """The displacement from the start to about the nearest solution of ``W_{L:1} = B``, a vector."""
    moved = torch.zeros_like(flatten(start))
    length = float(torch.linalg.vector_norm(flatten(start)))
    for _ in range(NEAREST_STEPS):
        here = _added(start, moved)
        along = jvp(here, unflatten(moved, widths(here)))
        new = _least_solution(here, along + wanted - end_to_end(here))
        step, moved = float(torch.linalg.vector_norm(new - moved)), new
        if not step > NEAR * length:
            break
    return moved


def _finished(start: Factors, wanted: Tensor, moved: Tensor) -> tuple[Tensor, float]:
    """The displacement after steps of Gauss and Newton, and the relative residual there."""
    scale, residual = float(torch.linalg.matrix_norm(wanted)), float("inf")
    for _ in range(NEWTON_STEPS):
        here = _added(start, moved)
        missing = wanted - end_to_end(here)
        before, residual = residual, float(torch.linalg.matrix_norm(missing)) / scale
        if not ROUNDING < residual < before:
            break
        moved = moved + _least_solution(here, missing)
    return moved, residual


def _least_solution(factors: Factors, change: Tensor) -> Tensor:
    """The least displacement ``Z`` with ``J Z`` equal to the given change of the product, a vector.

    LSQR (Paige and Saunders, ACM Transactions on Mathematical Software 8, 1982) finds the least one of all
    solutions, and the least-squares solution where ``J`` is rank-deficient.
    """
    sizes, shape = widths(factors), change.shape

    def forward(vector: np.ndarray) -> np.ndarray:
        direction = unflatten(torch.from_numpy(vector.ravel()), sizes)
        return jvp(factors, direction).flatten().numpy()

    def backward(vector: np.ndarray) -> np.ndarray:
        return flatten(vjp(factors, torch.from_numpy(vector.ravel()).reshape(shape))).numpy()

    parameters = sum(W.numel() for W in factors)
    operator = scipy.sparse.linalg.LinearOperator(
        (change.numel(), parameters), matvec=forward, rmatvec=backward, dtype=np.float64
    )
    found = scipy.sparse.linalg.lsqr(
        operator, change.flatten().numpy(), atol=LINEAR, btol=LINEAR, iter_lim=LINEAR_STEPS
    )
    return torch.from_numpy(found[0])
