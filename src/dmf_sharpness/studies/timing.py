"""The speed of the escape: the direction, and the time to leave from any distance."""

from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.studies.common import random_directions, sites_of

STUDY = StudyOptions(
    needs=("step_ratios", "radii", "steps"), takes=("seed",), on_data=True, leaves=True
)

LEVEL = 0.1
"""A run has left when ``|⟨v_1, w − w*⟩|`` is this share of the peak of the run from the least radius."""
ROUNDING_RADIUS = 1e-12
"""Starts of at least this radius count for the slope, because rounding does not blur their displacement."""
LINEAR_LEVEL = 1e-5
"""The direction of a run is measured at this displacement along ``v_1``, relative to the minimizer's norm."""
FARTHEST_FOR_DIRECTION = 1e-9
"""The direction is measured for starts up to this radius. The part of a start along the set of minimizers
does not decay, and must be small against ``LINEAR_LEVEL``."""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Runs that start beside every minimizer, along ``v_1`` and in a random direction, at every radius.

    Returns:
        A row per minimizer, step ratio, direction (``top``, ``random``) and radius: ``second_ratio``
        (``ηλ_2/2``; above 1 a second direction is unstable, and affects direction and time),
        ``misalignment`` (``1 − |cos|`` with ``v_1`` in the linear phase), ``escape_time`` (steps,
        interpolated), ``slope`` (of the escape time against ``log(1/component)``, over the starts that are
        ``counted``: above rounding and below the level), ``predicted_slope`` (``1/log|1 − ηλ|``) and
        ``component`` (of the start, along ``v_1``).
    """
    # The starts: every minimizer, step ratio, direction and radius.
    sites = sites_of(ensemble)
    batch, size = sites.centre.shape
    sideways = random_directions(batch, size, [spec.seed, ensemble.network])
    grid = list(product(range(batch), spec.step_ratios, ("top", "random"), spec.radii))
    index = torch.tensor([b for b, _, _, _ in grid])
    ratio = torch.tensor([c for _, c, _, _ in grid], dtype=torch.float64)
    radius = torch.tensor([r for _, _, _, r in grid], dtype=torch.float64)
    is_top = torch.tensor([d == "top" for _, _, d, _ in grid])
    direction = torch.where(is_top[:, None], sites.top[index], sideways[index])

    # The runs, observed at every step.
    centre = sites.centre[index]
    run = gradient_descent(
        sites.factors(centre + radius[:, None] * direction),
        sites.problem.target[index],
        2 * ratio / sites.value[index],
        spec.steps,
        input_root=sites.problem.input_root,
        observe_every=1,
        reference=centre,
        directions=sites.top[index][:, None],
    )
    along, distance = run.observed.projections[:, :, 0].abs(), run.observed.distance
    norm = torch.linalg.vector_norm(centre, dim=1)

    # The direction in the linear phase.
    misalignment = 1 - _first_above(along, along / distance, LINEAR_LEVEL * norm)
    misalignment[radius > FARTHEST_FOR_DIRECTION] = torch.nan

    # The escape time. All radii of a group have one level, so that the nonlinear phase is the same for all.
    shape = (-1, len(spec.radii))
    peak = along.nan_to_num(nan=0.0).amax(0).reshape(shape)
    # The level comes from a radius above rounding: at radius 0 the gradient may vanish and no run leave.
    above = [r if r >= ROUNDING_RADIUS else np.inf for r in spec.radii]
    level = LEVEL * peak[:, int(np.argmin(above))].repeat_interleave(shape[1])
    time = _crossing_time(along, level)

    # The slope of the escape time against the logarithm of the component along v_1.
    component = radius * (direction * sites.top[index]).sum(1).abs()
    usable = (radius >= ROUNDING_RADIUS) & (component <= level / 10)
    predicted_slope = 1 / torch.log((1 - 2 * ratio).abs())
    slope = _slopes(
        -torch.log(component).reshape(shape), time.reshape(shape), usable.reshape(shape)
    ).repeat_interleave(shape[1])
    return ensemble.rows(index.numpy()).assign(
        step_ratio=ratio.numpy(),
        second_ratio=(ratio * sites.second[index] / sites.value[index]).numpy(),
        direction=[d for _, _, d, _ in grid],
        radius=radius.numpy(),
        component=component.numpy(),
        misalignment=misalignment.numpy(),
        level=level.numpy(),
        escape_time=time.numpy(),
        counted=usable.numpy(),
        slope=slope.numpy(),
        predicted_slope=predicted_slope.numpy(),
    )


def _first_above(size: Tensor, values: Tensor, level: Tensor) -> Tensor:
    """``values`` ``(K, B)`` at the time when ``size`` first reaches ``level``; NaN if it never does."""
    above = size >= level
    first = above.to(torch.uint8).argmax(0)
    found = values.gather(0, first[None])[0]
    return found.masked_fill(~above.any(0), torch.nan)


def _crossing_time(size: Tensor, level: Tensor) -> Tensor:
    """The time when ``size`` ``(K, B)`` reaches ``level``, interpolated in its logarithm.

    It is NaN if the level is never reached, or already at the start.
    """
    above = size >= level
    first = above.to(torch.uint8).argmax(0)
    after = size.gather(0, first[None])[0]
    before = size.gather(0, (first - 1).clamp(min=0)[None])[0]
    part = torch.log(level / before) / torch.log(after / before)
    return (first - 1 + part).masked_fill(~above.any(0) | (first == 0), torch.nan)


def _slopes(x: Tensor, y: Tensor, usable: Tensor) -> Tensor:
    """Least-squares slope of each row ``(G, K)``; NaN with fewer than three points."""
    usable = usable & torch.isfinite(y)
    count = usable.sum(1)
    x, y = x.masked_fill(~usable, 0.0), y.masked_fill(~usable, 0.0)
    mean_x, mean_y = x.sum(1) / count, y.sum(1) / count
    dx, dy = (x - mean_x[:, None]) * usable, (y - mean_y[:, None]) * usable
    slope = (dx * dy).sum(1) / dx.square().sum(1)
    return slope.masked_fill(count < 3, torch.nan)
