"""Gradient descent from beside a minimizer: does it leave, how fast, and where does it end up.

With the *step ratio* ``c = η λ_max / 2``, a displacement along the top eigenvector is multiplied by
``1 − η λ_max = 1 − 2c`` at every step as long as it is small: it dies out for ``c < 1`` and grows for
``c > 1``, the loss by the square of that factor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent import Trajectory, gradient_descent
from dmf_sharpness.factors import Factors, flatten, unflatten, widths
from dmf_sharpness.loss import hessian_vector_product, loss
from dmf_sharpness.outcomes import ESCAPE_FACTOR, EscapeOutcome, classify
from dmf_sharpness.sharpness import sharpness
from dmf_sharpness.spectrum import hessian_eigenvectors

LINEAR_WINDOW = (1e-10, 1e-6)
"""Displacements, relative to the minimizer's norm, above rounding and below nonlinearity."""


@dataclass(frozen=True)
class Escapes:
    """Runs from beside minimizers, one row of ``table`` for each.

    Attributes:
        table: See :func:`simulate` for the columns.
        trajectory: Every step of every run, in the order of the rows; projections on ``v_1`` and
            ``v_N``.
    """

    table: pd.DataFrame
    trajectory: Trajectory


def flattening_direction(
    factors: Factors, target: Tensor, input_root: Tensor | None = None
) -> Tensor:
    """The kernel direction ``v_N`` along which the sharpness falls fastest, unit vector ``(N,)``.

    The smallest Hessian eigenvalue at a minimizer is 0, and its eigenspace, the tangent space of
    the set of minimizers, is large: "the" eigenvector of the smallest eigenvalue means nothing
    without a further choice. This one is the gradient of ``vᵀ H v`` (``v`` the top eigenvector held
    fixed), projected on the kernel, with the sign that lowers the sharpness. It is the way that an
    escaping run drifts. Where the sharpness is stationary along the set of minimizers, as at flat
    ones, there is no such direction and the zero vector is returned.

    Args:
        factors: ``[W_1 … W_L]`` of one minimizer.
        target: ``T``, shape ``(d_L, r)``.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
    """
    gram = None if input_root is None else input_root @ input_root.mT
    _, eigenvectors = hessian_eigenvectors(factors, gram)
    shape = widths(factors)
    v = unflatten(eigenvectors[0], shape)
    W = [layer.clone().requires_grad_() for layer in factors]
    Hv = hessian_vector_product(W, v, target, input_root)
    curvature = sum(((a * b).sum() for a, b in zip(v, Hv, strict=True)), start=torch.zeros(()))
    slope = flatten(torch.autograd.grad(curvature, W))
    kernel_part = slope - eigenvectors.mT @ (eigenvectors @ slope)
    size = torch.linalg.vector_norm(kernel_part)
    if size <= 1e-8 * torch.linalg.vector_norm(slope):
        return torch.zeros_like(slope)
    return -kernel_part / size


def loss_on_plane(
    factors: Factors,
    target: Tensor,
    along_top: Tensor,
    along_flattening: Tensor,
    input_root: Tensor | None = None,
) -> Tensor:
    """The loss at ``w + a v_1 + b v_N`` around one minimizer ``w``.

    Args:
        factors: ``[W_1 … W_L]`` of the minimizer.
        target: ``T``, shape ``(d_L, r)``.
        along_top: Values of ``a``, shape ``(A,)``.
        along_flattening: Values of ``b``, shape ``(B,)``.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.

    Returns:
        Shape ``(B, A)``: a row per ``b``.
    """
    gram = None if input_root is None else input_root @ input_root.mT
    v_1 = hessian_eigenvectors(factors, gram)[1][0]
    v_N = flattening_direction(factors, target, input_root)
    rows = []
    for b in along_flattening:
        points = flatten(factors) + b * v_N + along_top[:, None] * v_1
        rows.append(loss(unflatten(points, widths(factors)), target, input_root))
    return torch.stack(rows)


def simulate(
    factors: Factors,
    target: Tensor,
    step_ratios: Sequence[float],
    radii: Sequence[float],
    steps: int,
    input_root: Tensor | None = None,
) -> Escapes:
    """Start gradient descent beside each minimizer, along ``v_1``, with every step ratio and radius.

    Args:
        factors: ``B`` minimizers, ``W_i`` of shape ``(B, d_i, d_{i-1})``.
        target: ``T``, shape ``(B, d_L, r)``.
        step_ratios: Values of ``c = η λ_max / 2``.
        radii: Distances of the starts from the minimizer, in parameter space.
        steps: Most steps of a run.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.

    Returns:
        A row for each minimizer (slowest), step ratio and radius (fastest), with the columns
        ``start`` (index of the minimizer), ``step_ratio``, ``step_size``, ``radius``, ``sharpness``
        (at the start), ``outcome``, ``period`` (of a periodic orbit, else 0), ``escaped``,
        ``steps``, ``loss`` (at the end, above the least),
        ``farthest`` (largest distance from the minimizer), ``distance`` (the last one), ``growth``
        (measured factor per step in the linear phase, NaN where the run has none long enough),
        ``predicted_growth`` (``|1 − ηλ_max|``), and ``end_ratio`` (``ηλ/2`` where it landed, else NaN).
    """
    shape, batch = widths(factors), factors[0].shape[0]
    gram = None if input_root is None else input_root @ input_root.mT
    top = sharpness(factors, gram)
    assert isinstance(top.value, Tensor)
    centre, v_1 = flatten(factors), flatten(top.eigenvector)
    v_N = torch.stack(
        [flattening_direction([W[b] for W in factors], target[b], input_root) for b in range(batch)]
    )

    grid = list(product(range(batch), step_ratios, radii))
    index = torch.tensor([start for start, _, _ in grid])
    ratio = torch.tensor([c for _, c, _ in grid], dtype=torch.float64)
    radius = torch.tensor([r for _, _, r in grid], dtype=torch.float64)
    step_size = 2 * ratio / top.value[index]
    run = gradient_descent(
        unflatten(centre[index] + radius[:, None] * v_1[index], shape),
        target[index],
        step_size,
        steps,
        input_root=input_root,
        observe_every=1,
        reference=centre[index],
        directions=torch.stack([v_1, v_N], dim=1)[index],
    )
    assert run.trajectory is not None
    path = run.trajectory
    farthest = path.distance.nan_to_num(nan=0.0, posinf=torch.inf).amax(0)
    last = torch.linalg.vector_norm(flatten(run.factors) - centre[index], dim=1)
    outcome, period = classify(run, radius, farthest, last, target[index], step_size, input_root)
    landed = torch.tensor([o is EscapeOutcome.LANDED for o in outcome])
    table = pd.DataFrame(
        {
            "start": index.numpy(),
            "step_ratio": ratio.numpy(),
            "step_size": step_size.numpy(),
            "radius": radius.numpy(),
            "sharpness": top.value[index].numpy(),
            "outcome": [o.name.lower() for o in outcome],
            "period": period,
            # A run that has left and is still settling is undecided only about where it will end.
            "escaped": [
                o.escaped or far
                for o, far in zip(
                    outcome, (farthest >= ESCAPE_FACTOR * radius).tolist(), strict=True
                )
            ],
            "steps": run.steps.numpy(),
            "loss": run.loss.numpy(),
            "farthest": farthest.numpy(),
            "distance": last.numpy(),
            "growth": growth_per_step(
                path.projections[:, :, 0], torch.linalg.vector_norm(centre[index], dim=1)
            ),
            "predicted_growth": (1 - 2 * ratio).abs().numpy(),
            "end_ratio": _end_ratio(run.factors, landed, step_size, gram),
        }
    )
    return Escapes(table, path)


def growth_per_step(projection: Tensor, norm: Tensor) -> np.ndarray:
    """The factor by which ``|projection|`` changes per step while it is in the linear window.

    Args:
        projection: Displacement along ``v_1``, shape ``(K, B)``, one row per step; NaN after the end.
        norm: ``‖w‖`` of the minimizers, shape ``(B,)``, the unit of ``LINEAR_WINDOW``.

    Returns:
        ``(B,)``; NaN for a run with fewer than three steps in the window.
    """
    size = (projection.abs() / norm).numpy()
    low, high = LINEAR_WINDOW
    growth = np.full(size.shape[1], np.nan)
    for b in range(size.shape[1]):
        inside = (size[:, b] >= low) & (size[:, b] <= high)
        first = int(inside.argmax())
        # The first stretch only: later the run may come by again.
        length = (
            int((~inside[first:]).argmax()) if not inside[first:].all() else len(inside) - first
        )
        if inside[first] and length >= 3:
            growth[b] = (size[first + length - 1, b] / size[first, b]) ** (1 / (length - 1))
    return growth


def _end_ratio(
    factors: Factors, landed: Tensor, step_size: Tensor, gram: Tensor | None
) -> np.ndarray:
    ratio = np.full(len(landed), np.nan)
    if bool(landed.any()):
        value = sharpness([W[landed] for W in factors], gram).value
        assert isinstance(value, Tensor)
        ratio[landed.numpy()] = (step_size[landed] * value / 2).numpy()
    return ratio
