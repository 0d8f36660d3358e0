"""The largest Hessian eigenvalue at any point of parameter space, minimizer or not.

Away from the minimizers that the exact expression covers, the residual ``E = W_{L:1} S − T`` adds
``2 Σ_{i≠j} ⟨E, (product with U_i and U_j in their places)⟩`` to the Gauss–Newton part ``2 ‖J U‖²`` of the
quadratic form. No small operator has that spectrum, so the eigenvalue is found in parameter space,
with the closed-form Hessian-vector product of :mod:`dmf_sharpness.loss`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.curvature import check_single, checked_root
from dmf_sharpness.eigensolvers import top_eigenvector
from dmf_sharpness.factors import Factors, flatten, unflatten, widths
from dmf_sharpness.loss import check_target, gradient, hessian_vector_product

DENSE_PARAMETERS = 400
"""Up to here the Hessian is written out, column by column, and left to LAPACK."""


@dataclass(frozen=True)
class PointSharpness:
    """The largest Hessian eigenvalue at a point.

    Attributes:
        value: The eigenvalue. It is negative where every direction curves downwards.
        eigenvector: Its unit vector, shaped like the factors.
        residual: ``‖H v − λ v‖ / |λ|``.
        converged: Whether that is at most ``tolerance``.
        tolerance: What was asked for.
        gradient_norm: ``‖∇f‖``: zero at minimizers and saddles.
        method: ``dense`` or ``lanczos``.
    """

    value: float
    eigenvector: list[Tensor]
    residual: float
    converged: bool
    tolerance: float
    gradient_norm: float
    method: str


def sharpness_at(
    factors: Factors,
    target: Tensor,
    input_gram: Tensor | None = None,
    *,
    tolerance: float = 1e-10,
) -> PointSharpness:
    """The largest Hessian eigenvalue of ``‖Y − W_{L:1} X‖_F²`` at any point.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``, float64; no batch.
        target: ``M``, or with data any least-squares solution such as ``Y X⁺``, shape ``(d_L, d_0)``.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.
        tolerance: Wanted ``‖H v − λ v‖ / |λ|``.

    Raises:
        TypeError: A tensor is not float64.
        ValueError: Shapes do not fit, values are not finite, a batch was given, ``G`` is not a Gram
            matrix, or the tolerance is not positive.

    Examples:
        ``(1 − w_2 w_1)²`` at ``w = (0, 0)`` is a saddle: eigenvalues ±2.

        >>> zero = torch.zeros(1, 1, dtype=torch.float64)
        >>> sharpness_at([zero, zero], torch.ones(1, 1, dtype=torch.float64)).value
        2.0
    """
    root = checked_root(factors, input_gram)
    check_single(factors)
    check_target(factors, target)
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected a positive number, got {tolerance}")
    seen = target if root is None else target @ root
    sizes = widths(factors)

    def apply(vector: Tensor) -> Tensor:
        direction = unflatten(vector, sizes)
        return flatten(hessian_vector_product(factors, direction, seen, root))

    slope = flatten(gradient(factors, seen, root))
    order = slope.numel()
    if order <= DENSE_PARAMETERS:
        basis = torch.eye(order, dtype=slope.dtype, device=slope.device)
        hessian = torch.stack([apply(column) for column in basis])
        values, vectors = torch.linalg.eigh((hessian + hessian.mT) / 2)
        value, vector, method = float(values[-1]), vectors[:, -1], "dense"
    else:
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(order, dtype=slope.dtype, generator=generator).to(slope.device)
        value, vector = top_eigenvector(apply, start, tolerance / 4, krylov=20)
        method = "lanczos"
    defect = float(torch.linalg.vector_norm(apply(vector) - value * vector))
    residual = defect / abs(value) if value else defect
    return PointSharpness(
        value=value,
        eigenvector=unflatten(vector, sizes),
        residual=residual,
        converged=residual <= tolerance,
        tolerance=tolerance,
        gradient_norm=float(torch.linalg.vector_norm(slope)),
        method=method,
    )
