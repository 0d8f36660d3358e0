"""The Hessian of a deep linear network with biases, frozen layers and tied layers.

With ``H_{i−1}`` for what layer ``i`` is fed, earlier biases included, the operator on matrices ``(d_L, r)`` is

    ``Y ↦ 2 Σ_i (L_iL_iᵀ) Y (H_{i−1}ᵀH_{i−1} + 11ᵀ)``,

where ``11ᵀ`` stands only at layers with a bias of their own, and the sum runs over what is trained
(``docs/models.md``). A network without any of these goes to :func:`dmf_sharpness.sharpness`, which
has faster methods. The certificate applies the Hessian by the chain rule to the augmented factors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dmf_sharpness.hessian.certificate import relative_defect
from dmf_sharpness.hessian.lanczos import Operator, top_eigenvector
from dmf_sharpness.hessian.observed import DENSE_ORDER, KRYLOV, SECOND_TOLERANCE
from dmf_sharpness.hessian.result import Sharpness
from dmf_sharpness.models.linear_model import (
    LinearModel,
    augmented,
    collected,
    curvature_pairs,
    inserted,
    pulled_back,
)
from dmf_sharpness.network.curvature import apply_curvature, kronecker_sum, signed
from dmf_sharpness.network.factors import Factors
from dmf_sharpness.network.loss import gauss_newton_product
from dmf_sharpness.network.randomness import gaussian
from dmf_sharpness.network.scaling import SAFE_BITS

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
    return collected(
        model, gauss_newton_product(augmented(model), moved, model.problem.input_root)
    )


def solved_model(model: LinearModel, method: str, tolerance: float) -> Sharpness:
    """The largest eigenvalue of ``2 JᵀJ`` for a network with biases, frozen layers or tied layers.

    Raises:
        ValueError: The method does not apply, or numbers may leave the range of float64.
    """
    if method not in METHODS:
        raise ValueError(
            f"method: expected one of {list(METHODS)} with biases, frozen or tied layers, got {method!r}"
        )
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
    )


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
        ValueError: The norms of all weights, biases and inputs multiply to more than ``2^{±240}``.
    """
    root = model.problem.input_root
    parts = [*augmented(model), *([] if root is None else [root])]
    norms = [float(torch.linalg.matrix_norm(part)) for part in parts]
    bits = sum(abs(math.log2(norm)) for norm in norms if norm > 0)
    if not bits < SAFE_BITS:
        raise ValueError(
            "model: expected weights and inputs whose norms multiply to between 1e-72 and 1e72, "
            f"got {shown_product(norms)}"
        )


def shown_product(norms: Sequence[float]) -> str:
    """The norms, for the message."""
    return ", ".join(f"{norm:.3g}" for norm in norms)
