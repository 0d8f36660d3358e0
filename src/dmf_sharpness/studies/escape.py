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

from dmf_sharpness.descent.outcomes import ESCAPE_FACTOR, EscapeOutcome, classify
from dmf_sharpness.descent.run import Trajectory, gradient_descent
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.network.factors import Factors, flatten, unflatten, widths
from dmf_sharpness.studies.common import growth_per_step
from dmf_sharpness.studies.landscape import flattening_direction


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
    value = torch.as_tensor(top.value)
    centre, v_1 = flatten(factors), flatten(top.eigenvector)
    v_N = torch.stack(
        [flattening_direction([W[b] for W in factors], target[b], input_root) for b in range(batch)]
    )

    grid = list(product(range(batch), step_ratios, radii))
    index = torch.tensor([start for start, _, _ in grid])
    ratio = torch.tensor([c for _, c, _ in grid], dtype=torch.float64)
    radius = torch.tensor([r for _, _, r in grid], dtype=torch.float64)
    step_size = 2 * ratio / value[index]
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
    path = run.observed
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
            "sharpness": value[index].numpy(),
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


def _end_ratio(
    factors: Factors, landed: Tensor, step_size: Tensor, gram: Tensor | None
) -> np.ndarray:
    ratio = np.full(len(landed), np.nan)
    if bool(landed.any()):
        value = torch.as_tensor(sharpness([W[landed] for W in factors], gram).value)
        ratio[landed.numpy()] = (step_size[landed] * value / 2).numpy()
    return ratio
