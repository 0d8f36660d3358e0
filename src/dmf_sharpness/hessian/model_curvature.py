"""The Hessian of a deep linear network with biases, frozen layers and tied layers.

With ``H_{i−1}`` for what layer ``i`` is fed, earlier biases included, the operator on ``(d_L, r)`` is

    ``Y ↦ 2 Σ_i (L_iL_iᵀ) Y (H_{i−1}ᵀH_{i−1} + 11ᵀ)``,

where ``11ᵀ`` stands only at layers with a bias of their own, and the sum runs over what is trained
(``docs/models.md``). A network without any of these goes to :func:`dmf_sharpness.sharpness`, which
has faster methods. The certificate applies the Hessian by the chain rule to the augmented factors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_choice, checked_number, memory_told, shown
from dmf_sharpness.hessian.certificate import relative_defect
from dmf_sharpness.hessian.lanczos import Operator, top_eigenvector, top_eigenvectors
from dmf_sharpness.hessian.observed import DENSE_ORDER, KRYLOV, SECOND_TOLERANCE
from dmf_sharpness.hessian.result import Sharpness
from dmf_sharpness.network.curvature import apply_curvature, kronecker_sum, signed
from dmf_sharpness.network.factors import Factors
from dmf_sharpness.network.linear_model import (
    LinearModel,
    augmented,
    collected,
    curvature_pairs,
    inserted,
    pulled_back,
    residual_curvature,
)
from dmf_sharpness.network.loss import gauss_newton_product
from dmf_sharpness.network.randomness import gaussian
from dmf_sharpness.network.scaling import SAFE_BITS, exponents
from dmf_sharpness.network.tangent import ROUNDING_LEVEL

DENSE_SPECTRUM = 1024
"""Up to this order, computing all eigenvalues by LAPACK is cheaper than a few by iteration."""
METHODS = ("auto", "dense", "lanczos")
"""The methods for networks with biases, frozen layers or tied layers."""


@dataclass(frozen=True)
class ModelEigenmatrix:
    """The unit eigenmatrix ``Y`` of ``J Jᵀ`` of a model.

    Attributes:
        matrix: ``Y``, shape ``(d_L, r)``.
        model: The network.
    """

    matrix: Tensor
    model: LinearModel

    def whole(self) -> Tensor:
        """``Y``, shape ``(d_L, r)``."""
        return self.matrix

    def direction(self, factors: Factors, input_root: Tensor | None) -> list[Tensor]:
        """The unit vector ``Jᵀ Y / ‖Jᵀ Y‖``, one tensor per trained tensor."""
        return unit(pulled_back(self.model, self.matrix))

    def pairs(self, factors: Factors, input_root: Tensor | None) -> None:
        """None, because the eigenvector is not a product of thin matrices."""


def unit(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors divided by their common norm; zeros stay zeros."""
    norm = torch.stack([U.square().sum() for U in tensors]).sum().sqrt()
    return [U / norm if float(norm) > 0 else U for U in tensors]


def model_matrix(model: LinearModel) -> Tensor:
    """``2 J Jᵀ`` on stacked columns, of order ``d_L r``."""
    pairs = curvature_pairs(model)
    matrix = kronecker_sum([A for A, _ in pairs], [B.mT for _, B in pairs])
    return (matrix + matrix.mT) / 2


def model_operator(model: LinearModel) -> Operator:
    """``Y ↦ 2 J Jᵀ Y`` on matrices of shape ``(d_L, r)``."""
    lefts, rights = zip(*curvature_pairs(model), strict=True)
    return partial(apply_curvature, lefts, rights)


def model_hessian_product(model: LinearModel, direction: Sequence[Tensor]) -> list[Tensor]:
    """``2 Jᵀ J U``, one tensor per trained tensor, by the chain rule."""
    moved = inserted(model, direction)
    return collected(model, gauss_newton_product(augmented(model), moved, model.problem.input_root))


def solved_model(model: LinearModel, method: object, tolerance: object) -> Sharpness:
    """The largest eigenvalue of ``2 JᵀJ`` for a network with biases, frozen layers or tied layers.

    Raises:
        TypeError: The method is not a string, or the tolerance not a number.
        ValueError: The method does not apply, the tolerance is not positive, or numbers may leave the
            range of float64.
    """
    method = checked_choice(method, "method", METHODS)
    tolerance = 1e-10 if tolerance is None else checked_number(tolerance, "tolerance", above=0)
    check_ordinary(model)
    rows, columns = model.problem.target.shape
    if method == "auto":
        method = "dense" if rows * columns <= DENSE_ORDER else "lanczos"
    if method == "dense":
        values, vectors = torch.linalg.eigh(model_matrix(model))
        value = values[-1].clamp(min=0)
        Y = vectors[:, -1].reshape(columns, rows).mT
        second = partial(_next, values)
    else:
        apply = model_operator(model)
        start = gaussian((rows, columns), 0, model.factors[0].device)
        found, Y = top_eigenvector(apply, start, tolerance / 4, KRYLOV)
        value = start.new_tensor(found)
        second = partial(_second, apply, value, Y)
    Y = signed(Y)
    direction = unit(pulled_back(model, Y))
    residual = _defect(model_hessian_product(model, direction), direction, value)
    return Sharpness(
        value=float(value),
        residual=residual,
        converged=residual <= tolerance,
        tolerance=tolerance,
        method=method,
        _factors=augmented(model),
        _root=model.problem.input_root,
        _eigenmatrix=ModelEigenmatrix(Y, model),
        _first=value,
        _second=second,
        _bound=partial(_norm_bound, model),
    )


def fitted(model: LinearModel, found: Sharpness, rtol: float) -> Sharpness:
    """The result with the loss in words and, if targets were given, what the residual may change.

    Raises:
        ValueError: The residual may change the value by more than ``rtol`` of it.
    """
    return replace(found, loss=model.loss, misfit=checked_misfit(model, float(found.value), rtol))


def checked_misfit(model: LinearModel, value: float, rtol: float = 1e-10) -> float | None:
    """The most by which the residual may change eigenvalues, relative to ``λ_max``; None without targets.

    Raises:
        ValueError: It is above ``rtol``.
    """
    if not model.fitted:
        return None
    bound = residual_curvature(model)
    misfit = bound / value if value > 0 else (math.inf if bound > 0 else 0.0)
    if not misfit <= rtol:
        raise ValueError(
            "targets: expected a minimizer, whose residual changes the sharpness by at most a relative "
            f"{rtol:.0e}, got up to {misfit:.3g}; sharpness_at takes any point, and without targets the "
            "residual is taken to be zero"
        )
    return misfit


def refuse_beside_model(**arguments: object) -> None:
    """Refuse arguments that only factors take.

    Raises:
        ValueError: One of them is not None.
    """
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"{name}: expected None for a model, which has inputs and targets, got {shown(value)}"
            )


def without_biases(model: LinearModel) -> tuple[list[Tensor], Tensor | None]:
    """The factors and the input root of a model that has no biases, frozen layers or tied layers.

    Raises:
        ValueError: It has some, or its residual is too large.
    """
    if not model.plain:
        raise ValueError(
            "model: expected no biases, frozen or tied layers, with which no closed form of the least "
            "sharpness is known, got some"
        )
    if model.fitted:
        checked_misfit(model, float(solved_model(model, "auto", None).value))
    return model.factors, model.problem.input_root


def _norm_bound(model: LinearModel) -> Tensor:
    """``2 Σ ‖A‖₂ ‖B‖₂`` over the pairs of the operator."""
    norms = [torch.linalg.matrix_norm(M, 2) for pair in curvature_pairs(model) for M in pair]
    return 2 * (torch.stack(norms[::2]) * torch.stack(norms[1::2])).sum()


def _defect(image: Sequence[Tensor], direction: Sequence[Tensor], value: Tensor) -> float:
    """The residual ``‖H U − λ U‖ / λ``, where the tensors of ``U`` may be vectors."""
    rows = [[U.reshape(1, -1) for U in tensors] for tensors in (image, direction)]
    return float(relative_defect(rows[0], rows[1], value))


def _next(values: Tensor) -> Tensor:
    """The second largest of ascending eigenvalues; zero if there is only one."""
    return values[-2].clamp(min=0) if len(values) > 1 else torch.zeros_like(values[-1])


def _second(apply: Operator, value: Tensor, first: Tensor) -> Tensor:
    """The second eigenvalue, from the operator without its first eigenpair."""

    def remainder(Y: Tensor) -> Tensor:
        return apply(Y) - value * (first * Y).sum() * first

    start = gaussian(first.shape, 1, first.device)
    found = top_eigenvector(remainder, start, SECOND_TOLERANCE, KRYLOV)[0]
    return value.new_tensor(max(0.0, found))


def check_ordinary(model: LinearModel) -> None:
    """Refuse numbers so large or small that products of them may leave the range of float64.

    With biases the Hessian is not homogeneous, so that no scaling of the factors would help.

    Raises:
        ValueError: See :func:`is_ordinary`.
    """
    if not is_ordinary(model):
        bits = _size_bits(model)
        raise ValueError(
            "model: expected weights and inputs of ordinary size, got largest entries from "
            f"2^{min(bits)} to 2^{max(bits)}"
        )


def is_ordinary(model: LinearModel) -> bool:
    """Whether the binary exponents of the largest entries of all weights, biases and inputs are small.

    Their magnitudes add up to less than 240.
    """
    return sum(map(abs, _size_bits(model))) < SAFE_BITS


def _size_bits(model: LinearModel) -> list[int]:
    root = model.problem.input_root
    parts = [*augmented(model), *([] if root is None else [root])]
    return [int(exponents(part)) for part in parts if bool(part.any())]


def model_eigenvalues(model: LinearModel) -> Tensor:
    """All ``d_L r`` eigenvalues of ``2 J Jᵀ``, descending, zeros included.

    Raises:
        ValueError: See :func:`checked_misfit` and :func:`check_ordinary`.
        MemoryError: There is not enough memory for a matrix of order ``d_L r``.
    """
    check_ordinary(model)
    with memory_told("model"):
        values = torch.linalg.eigvalsh(model_matrix(model)).flip(0).clamp(min=0)
    checked_misfit(model, float(values[0]))
    return values


def model_eigenvectors(
    model: LinearModel, count: int | None, tolerance: float
) -> tuple[Tensor, Tensor]:
    """The ``count`` largest eigenvalues, shape ``(K,)``, and eigenvectors in parameter space, ``(K, N)``.

    Eigenvalues that are zero but for rounding are left out.

    Raises:
        ValueError: See :func:`checked_misfit` and :func:`check_ordinary`; or the iteration does not
            reach the tolerance.
        MemoryError: There is not enough memory.
    """
    check_ordinary(model)
    rows, columns = model.problem.target.shape
    order = rows * columns
    if count is None or order <= DENSE_SPECTRUM or 4 * count > order:
        with memory_told("model"):
            values, vectors = torch.linalg.eigh(model_matrix(model))
        values = values.flip(0)[:count]
        Y = vectors.mT.flip(0)[:count].reshape(-1, columns, rows).mT
    else:
        start = gaussian((rows, columns), 0, model.factors[0].device)
        values, Y = top_eigenvectors(model_operator(model), start, count, tolerance / 4)
    checked_misfit(model, float(values[0]))
    kept = values > ROUNDING_LEVEL * values[0]
    directions = [
        torch.cat([U.reshape(-1) for U in unit(pulled_back(model, y))]) for y in signed(Y[kept])
    ]
    count_of_parameters = sum(model.shape(tensor).numel() for tensor in model.trained)
    if not directions:
        return values[kept], values.new_zeros(0, count_of_parameters)
    return values[kept], torch.stack(directions)


def model_grams(model: LinearModel) -> list[tuple[Tensor, Tensor]]:
    """The pairs ``(A, B)`` of the operator, as functions of Gram matrices take them.

    Raises:
        ValueError: See :func:`checked_misfit` and :func:`check_ordinary`.
    """
    check_ordinary(model)
    if model.fitted:
        checked_misfit(model, float(solved_model(model, "auto", None).value))
    return curvature_pairs(model)
