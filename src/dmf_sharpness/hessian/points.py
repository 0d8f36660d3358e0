"""The result of :func:`dmf_sharpness.sharpness_at`, and its computation from a Hessian on vectors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.hessian.extreme_pairs import Wanted, all_pairs, extreme_pairs
from dmf_sharpness.hessian.lanczos import Operator
from dmf_sharpness.network.randomness import gaussian

DENSE_PARAMETERS = 400
"""Up to this number of parameters the Hessian is formed as a matrix, and LAPACK computes its eigenpairs."""
START_NOISE = 1e-3
"""The share of a random vector in a start, so that eigenvectors that the start is orthogonal to are found."""


@dataclass(frozen=True)
class PointSharpness:
    """The largest Hessian eigenvalue at a point, or at each of a batch of points.

    Attributes:
        value: A float; for a batch it is a tensor ``(…)``, and so are ``residual``, ``converged`` and
            ``gradient_norm``. The eigenvalue ``λ``. It is negative if the loss curves downwards in
            every direction. Outside the range of float64 it is infinite, zero or subnormal. Where the Hessian
            overflows at every scale of the factors it is NaN, and ``eigenvector`` is zero.
        eigenvector: The unit eigenvector ``v``, as tensors in the shapes of the factors, or in
            those of the parameters of a model.
        residual: ``‖H v − λ v‖ / |λ|``, the largest of all pairs that were asked for, with the ``λ`` of
            ``value`` as the denominator; NaN where ``value`` is outside the range of float64.
        converged: Whether ``residual`` is at most ``tolerance``.
        tolerance: The tolerance that the caller asked for.
        gradient_norm: ``‖∇f‖``, which is zero at minimizers and saddles. It is ``inf`` or zero
            outside the range of float64, and NaN where it cannot be computed.
        method: The algorithm, ``dense`` or ``lanczos``; ``batched`` for a batch, of which single points
            may still be computed one by one.
        largest: The largest eigenvalues, descending, each as often as its multiplicity, ``(…, count)``.
        lowest: The smallest eigenvalue, a float or ``(…)``; None if it was not asked for.

    >>> from dmf_sharpness import sharpness_at
    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> s = sharpness_at([W, W], torch.eye(2, dtype=torch.float64))
    >>> round(s.value, 6), round(s.gradient_norm, 6), s.method
    (22.0, 16.970563, 'dense')
    """

    value: float | Tensor
    eigenvector: list[Tensor]
    residual: float | Tensor
    converged: bool | Tensor
    tolerance: float
    gradient_norm: float | Tensor
    method: str
    largest: Tensor
    lowest: float | Tensor | None


def near(vectors: Tensor) -> Tensor:
    """Eigenvectors at points nearby as starts ``(…, N)``, with a little of every direction."""
    noise = gaussian(vectors.shape[-1:], 0, vectors.device)
    return vectors + START_NOISE * noise / torch.linalg.vector_norm(noise)


def solved_point(
    apply: Operator, slope: Tensor, wanted: Wanted, first: Tensor, depth: int
) -> PointSharpness:
    """The result for a Hessian on vectors ``(N,)``, with an eigenvector of the same shape."""
    order = slope.numel()
    if order <= DENSE_PARAMETERS:
        pairs = all_pairs(apply, slope)
        method, chosen = "dense", [*range(wanted.count), *([order - 1] if wanted.lowest else [])]
        values, vectors = pairs[0][chosen], pairs[1][chosen]
    else:
        method = "lanczos"
        values, vectors = extreme_pairs(apply, first, wanted, depth)
    defects = torch.stack(
        [
            torch.linalg.vector_norm(apply(vector) - value * vector)
            for value, vector in zip(values, vectors, strict=True)
        ]
    )
    value, vector, defect = float(values[0]), vectors[0], float(defects.amax())
    residual = defect / abs(value) if value else defect
    return PointSharpness(
        value=value,
        eigenvector=[vector if math.isfinite(value) else torch.zeros_like(vector)],
        residual=residual,
        converged=residual <= wanted.tolerance,
        tolerance=wanted.tolerance,
        gradient_norm=float(torch.linalg.vector_norm(slope)),
        method=method,
        largest=values[: wanted.count],
        lowest=float(values[-1]) if wanted.lowest else None,
    )
