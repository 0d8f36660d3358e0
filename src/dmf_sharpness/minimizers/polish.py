"""The nearest minimizer to a point, such as the end of training in single precision.

With the thin singular value decomposition ``S = U Σ Vᵀ`` of the input root, the minimizers are the factors
with ``W_{L:1} U = B``. Here ``B`` is ``T V Σ⁻¹``, or, if a hidden layer is narrower than the rank of
``T V``, the best approximation of ``T V`` of that rank (Eckart and Young), times ``Σ⁻¹``. In this form the
singular values of the inputs, which can be orders of magnitude apart, are gone from the equation.
``W_1`` enters through ``W_1 U`` alone, and the nearest minimizer differs from the given factors by multiples
of ``Uᵀ`` there, so that the equation is solved for ``[W_1 U, W_2, …, W_L]``.

A model with biases, frozen layers or tied layers has the same equation for its augmented factors
(:mod:`dmf_sharpness.network.linear_model`), in the unknowns that are trained. The steps are in
:mod:`dmf_sharpness.minimizers.nearest`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_tensor, shown
from dmf_sharpness.minimizers.frames import RANK_TOLERANCE, best_approximation
from dmf_sharpness.minimizers.nearest import Unknowns, approached, finished
from dmf_sharpness.minimizers.targets import thin_svd
from dmf_sharpness.network.curvature import check_single, checked_inputs, identity, jvp, vjp
from dmf_sharpness.network.factors import (
    Factors,
    checked_factors,
    end_to_end,
    flatten,
    unflatten,
    widths,
)
from dmf_sharpness.network.linear_model import (
    LinearModel,
    augmented,
    collected,
    inserted,
    joined,
    parted,
    trained_vector,
    with_trained,
)
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.scaling import SAFE_BITS, exponents

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
        model: The same model with the parameters of the minimizer, if a model was given.

    >>> W = torch.ones(1, 1, dtype=torch.float64)
    >>> near = polish([W, 1.1 * W], Problem(W))
    >>> round(float(near.factors[0] * near.factors[1]), 12), near.residual < 1e-12
    (1.0, True)
    """

    factors: list[Tensor]
    distance: float
    residual: float
    excess_loss: float
    model: LinearModel | None = None


def polish(factors: Factors | LinearModel, problem: Problem | None = None) -> Polished:
    """The minimizer nearest to the given factors.

    Nearest is meant locally: the displacement is orthogonal to the set of minimizers where it ends. Far
    from the set another minimizer may be nearer.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``, float64, so that factors of a lower
            precision are promoted by the caller. Or the result of :func:`dmf_sharpness.from_module`, with
            its targets; only what is trained is moved.
        problem: The target ``T``, shape ``(d_L, r)``, and the input root ``S``, shape ``(d_0, r)``; also
            the outputs and the inputs themselves, one column per sample.

    Raises:
        TypeError: A tensor is not float64, or the problem is not a problem.
        ValueError: The shapes do not fit, values are not finite, the inputs or the target are zero, the
            factors are a batch or of extreme size, or there is no minimizer near enough, as behind a
            bottleneck of a model with biases; or for a model a problem is given, or for factors none.

    >>> W = torch.ones(1, 1, dtype=torch.float64)
    >>> near = polish([W, 1.1 * W], Problem(W))
    >>> [round(float(V), 6) for V in near.factors], round(near.distance, 4)
    ([0.948828, 1.053931], 0.0486)
    """
    if isinstance(factors, LinearModel):
        return _polished_model(factors, problem)
    if problem is None:
        raise ValueError("problem: expected one beside factors, got None")
    if not isinstance(problem, Problem):
        raise TypeError(f"problem: expected a Problem, got {shown(problem)}")
    factors = checked_factors(factors)
    check_single(factors)
    equation = _equation(factors, problem)
    _check_size([*factors, problem.target, problem.input_root])
    reduced = _reduced(factors, equation.basis)
    unknowns = FactorUnknowns(widths(reduced))
    moved, _, residual = _nearest(unknowns, flatten(reduced), equation.wanted)
    change = unflatten(moved, widths(reduced))
    if equation.basis is not None:
        change[0] = change[0] @ equation.basis.mT
    end = [W + Z for W, Z in zip(factors, change, strict=True)]
    # Relative to the whole minimizer, also to what the inputs do not see of its first layer.
    distance = float(torch.linalg.vector_norm(moved) / torch.linalg.vector_norm(flatten(end)))
    return Polished(end, distance, residual, equation.excess_loss)


def _nearest(unknowns: Unknowns, start: Tensor, wanted: Tensor) -> tuple[Tensor, float, float]:
    """The displacement, its length relative to the end, and the relative residual there."""
    moved = approached(unknowns, start, wanted)
    moved, residual = finished(unknowns, start, wanted, moved)
    distance = float(torch.linalg.vector_norm(moved) / torch.linalg.vector_norm(start + moved))
    if not residual <= RESIDUAL:
        raise ValueError(
            "factors: expected a minimizer near them, got none: at a relative distance of "
            f"{distance:.2g} the relative residual is {residual:.2g}"
        )
    return moved, distance, residual


def _check_size(matrices: Sequence[Tensor | None]) -> None:
    """Refuse matrices so large or small that squares of their products may leave the range of float64."""
    bits = [int(exponents(matrix)) for matrix in matrices if matrix is not None and matrix.any()]
    if not sum(map(abs, bits)) < SAFE_BITS:
        raise ValueError(
            "factors: expected factors and data of ordinary size, got largest entries from "
            f"2^{min(bits)} to 2^{max(bits)}"
        )


@dataclass(frozen=True)
class FactorUnknowns:
    """All factors as unknowns.

    Attributes:
        sizes: The widths.
    """

    sizes: tuple[int, ...]

    def product(self, x: Tensor) -> Tensor:
        """``W_{L:1}``."""
        return end_to_end(unflatten(x, self.sizes))

    def along(self, x: Tensor, direction: Tensor) -> Tensor:
        """``Σ_i L_i U_i R_i``."""
        return jvp(unflatten(x, self.sizes), unflatten(direction, self.sizes))

    def back(self, x: Tensor, Y: Tensor) -> Tensor:
        """``L_iᵀ Y R_iᵀ`` for all layers."""
        return flatten(vjp(unflatten(x, self.sizes), Y))


@dataclass(frozen=True)
class ModelUnknowns:
    """What is trained in a model as unknowns, and the outputs in the basis of the inputs as the product.

    Attributes:
        model: The model, whose other parameters are constants.
        basis: ``U``, shape ``(d_0 + 1, r)``, or ``(d_0, r)`` without biases.
    """

    model: LinearModel
    basis: Tensor

    def product(self, x: Tensor) -> Tensor:
        """``W̃_{L:1} U``."""
        return end_to_end([self.basis, *augmented(with_trained(self.model, x))])

    def along(self, x: Tensor, direction: Tensor) -> Tensor:
        """The derivative of the product."""
        here = with_trained(self.model, x)
        return jvp(augmented(here), inserted(here, parted(here, direction)), self.basis)

    def back(self, x: Tensor, Y: Tensor) -> Tensor:
        """The adjoint of the derivative."""
        here = with_trained(self.model, x)
        return joined(collected(here, vjp(augmented(here), Y, self.basis)))


def _polished_model(model: LinearModel, problem: object) -> Polished:
    """:func:`polish` for a model with its data and targets."""
    if problem is not None:
        raise ValueError("problem: expected None beside a model, which has its own, got one")
    if model.plain:
        near = polish(model.factors, model.problem)
        return replace(near, model=replace(model, factors=near.factors))
    S, T = model.problem.input_root, model.problem.target
    _check_size([*augmented(model), S, T])
    basis, values, V = thin_svd(identity(T.shape[1], model.factors) if S is None else S)
    target = T @ V
    if not bool(target.any()):
        raise ValueError("targets: expected a matrix that the inputs reach, not zero, got zeros")
    unknowns, start = ModelUnknowns(model, basis), trained_vector(model)
    missing = unknowns.product(start) * values - target
    moved, distance, residual = _nearest(unknowns, start, target / values)
    end = with_trained(model, start + moved)
    excess = float(missing.square().sum() / T.square().sum())
    return Polished(end.factors, distance, residual, excess, end)


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
