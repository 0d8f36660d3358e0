"""The largest Hessian eigenvalue of a deep linear network of PyTorch at any point.

The Hessian of the augmented factors is applied to directions in what is trained
(:mod:`dmf_sharpness.network.linear_model`), biases, frozen and tied layers included.
"""

from dataclasses import replace

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_flag, checked_integer, checked_number
from dmf_sharpness.hessian.extreme_pairs import Wanted
from dmf_sharpness.hessian.model_curvature import check_ordinary
from dmf_sharpness.hessian.points import PointSharpness, near, solved_point
from dmf_sharpness.network.linear_model import (
    LinearModel,
    augmented,
    collected,
    inserted,
    joined,
    parted,
)
from dmf_sharpness.network.loss import gradient, hessian_vector_product
from dmf_sharpness.network.randomness import gaussian


def model_point(
    model: LinearModel, tolerance: object, start: object, count: object, lowest: object
) -> PointSharpness:
    """:func:`dmf_sharpness.sharpness_at` for a model with its data, whose Hessian is that of what is trained.

    Raises:
        TypeError: See :func:`dmf_sharpness.sharpness_at`.
        ValueError: See :func:`dmf_sharpness.sharpness_at`; or numbers may leave the range of float64.
    """
    check_ordinary(model)
    shapes = [model.shape(tensor) for tensor in model.trained]
    layers, problem = augmented(model), model.problem
    slope = joined(collected(model, gradient(layers, problem)))
    order = len(slope)
    wanted = Wanted(
        checked_number(tolerance, "tolerance", above=0),
        checked_integer(count, "count", 1, order),
        checked_flag(lowest, "lowest"),
    )
    if start is None:
        first = gaussian((order,), 0, slope.device)
    else:
        if not isinstance(start, PointSharpness):
            raise TypeError(f"start: expected a PointSharpness, got {type(start).__name__}")
        before = [U.shape for U in start.eigenvector]
        if before != shapes:
            raise ValueError(f"start: expected a result for {shapes}, got one for {before}")
        first = near(joined(start.eigenvector).to(slope.device))

    def apply(vector: Tensor) -> Tensor:
        moved = inserted(model, parted(model, vector))
        image = collected(model, hessian_vector_product(layers, moved, problem))
        return torch.cat([U.flatten(vector.ndim - 1) for U in image], -1)

    found = solved_point(apply, slope, wanted, first, len(layers))
    return replace(found, eigenvector=parted(model, joined(found.eigenvector)))
