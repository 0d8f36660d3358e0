"""The threshold where part of the target is observed, by bisection on what single runs do.

The bisection is that of :mod:`dmf_sharpness.studies.threshold`. Runs on entries are those of the engine; it
knows no measurements, so that runs on these are steps along the gradient in this module.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.network.curvature import vjp
from dmf_sharpness.network.factors import Factors, end_to_end, flatten, unflatten
from dmf_sharpness.studies.common import random_directions
from dmf_sharpness.studies.observed import Arguments, drawn_observations
from dmf_sharpness.studies.threshold import (
    ESCAPED,
    HIGH,
    LOW,
    OBSERVE_EVERY,
    RADIUS,
    halved,
    leaves,
)

STUDY = StudyOptions(needs=("observations", "observed_share", "steps"), takes=("seed",))


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Find the step size beyond which runs leave each minimizer.

    Returns:
        A row per minimizer and kind of ``observation``: ``sharpness`` (the closed form),
        ``whole_sharpness`` (that for all entries) and ``threshold`` (``ηλ_max`` as measured).
    """
    centre = flatten(ensemble.factors)
    batch, whole = len(centre), torch.as_tensor(sharpness(ensemble.factors).value)
    tables: list[pd.DataFrame] = []
    for observation, arguments in drawn_observations(ensemble, spec).items():
        top = sharpness(ensemble.factors, **arguments)
        value, direction = torch.as_tensor(top.value), flatten(top.eigenvector)
        seed = [spec.seed, ensemble.network, len(tables)]
        radius = RADIUS * torch.linalg.vector_norm(centre, dim=1, keepdim=True)
        shift = radius * random_directions(batch, centre.shape[1], seed)
        start = (shift * direction).sum(1).abs()

        def leaves_at(
            ratio: Tensor,
            arguments: Arguments = arguments,
            value: Tensor = value,
            direction: Tensor = direction,
            shift: Tensor = shift,
            start: Tensor = start,
        ) -> Tensor:
            runs = unflatten(centre + shift, ensemble.widths)
            eta = 2 * ratio / value
            along = _along(runs, ensemble.target, eta, spec.steps, arguments, centre, direction)
            return leaves(along / start, ESCAPED)

        rng = np.random.default_rng(seed)
        first_low, first_high = (
            torch.from_numpy(rng.uniform(*ends, batch)) for ends in (LOW, HIGH)
        )
        low, high = halved(first_low, first_high, leaves_at)
        tables.append(
            ensemble.rows(range(batch)).assign(
                observation=observation,
                sharpness=value.numpy(),
                whole_sharpness=whole.numpy(),
                threshold=(low + high).numpy(),
            )
        )
    return pd.concat(tables, ignore_index=True)


def _along(
    starts: Factors,
    target: Tensor,
    step_size: Tensor,
    steps: int,
    arguments: Arguments,
    centre: Tensor,
    direction: Tensor,
) -> Tensor:
    """``|⟨v_1, w − w*⟩|`` of runs at every tenth step, ``(K, B)``."""
    if arguments["measurements"] is not None:
        return _along_on_measurements(
            starts, target, step_size, steps, arguments["measurements"], centre, direction
        )
    run = gradient_descent(
        starts,
        target,
        step_size,
        steps,
        observed=arguments["observed"],
        observe_every=OBSERVE_EVERY,
        reference=centre,
        directions=direction[:, None],
    )
    return run.observed.projections[:, :, 0].abs()


def _along_on_measurements(
    starts: Factors,
    target: Tensor,
    step_size: Tensor,
    steps: int,
    measurements: Tensor,
    centre: Tensor,
    direction: Tensor,
) -> Tensor:
    """The same for gradient descent on ``Σ_k ⟨A_k, M − W_{L:1}⟩²``."""
    A = measurements.flatten(1)
    gram = A.mT @ A
    eta = step_size[:, None, None]
    W, seen = list(starts), []
    for step in range(steps + 1):
        if step % OBSERVE_EVERY == 0:
            seen.append(((flatten(W) - centre) * direction).sum(1).abs())
        error = (end_to_end(W) - target).flatten(1) @ gram
        pulled = vjp(W, 2 * error.reshape(target.shape))
        W = [layer - eta * g for layer, g in zip(W, pulled, strict=True)]
    return torch.stack(seen)
