"""The threshold: the step size beyond which runs leave a minimizer, by bisection on what single runs do.

Far from the threshold a run returns or escapes within a few steps. Near it neither can be waited for: at a
relative distance ``ε`` the displacement along ``v_1`` changes by a factor of about ``1 ± 2ε`` per step. So a
run that has neither escaped nor returned is judged by whether that displacement has grown over its second
half.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.studies.common import Sites, random_directions, sites_of

STUDY = StudyOptions(needs=("steps",), takes=("momenta", "seed"), on_data=True)

LOW, HIGH = (0.4, 0.9), (1.1, 1.6)
"""Each minimizer has a first interval with ends from these ranges, in units of the predicted threshold.

If all had the same ends, all would meet the same middles, and one bisection would be repeated many times.
"""
HALVINGS = 30
"""The intervals are halved so many times, to less than 1.2e-9 of the threshold."""
RADIUS = 1e-7
"""Runs start at this distance from the minimizer, relative to its norm, in a random direction.

The part of it along the set of minimizers stays, and the sharpness there is another one: relative to the
sharpness of the minimizer it differs by about this amount. This, and not the bisection, limits how well the
threshold of the minimizer itself is measured.
"""
ESCAPED, RETURNED = 3.0, 0.1
"""A run has escaped when its component along ``v_1`` was this many times ``(1 + β)/(1 − β)`` that of its
start, and has returned when it ends at a tenth of it. Near its threshold the heavy ball amplifies the
component by that quotient at first, whether it leaves or not."""
OBSERVE_EVERY = 10
"""An even number, because the displacement changes its sign at every step, and is not symmetric."""


def predicted_threshold(momentum: Tensor, nesterov: bool) -> Tensor:
    """``ηλ_max`` at the limit of stability: ``2 + 2β``, or ``(2 + 2β)/(1 + 2β)`` for Nesterov's method."""
    return (2 + 2 * momentum) / (1 + 2 * momentum) if nesterov else 2 + 2 * momentum


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Find the threshold of every minimizer for each momentum, with the heavy ball and Nesterov's method.

    Returns:
        A row per minimizer and method: ``momentum``, ``nesterov``, ``sharpness_ratio``
        (``λ_max/λ_flat``), ``predicted`` (``ηλ_max`` at the limit of stability), ``threshold`` (``ηλ_max`` as
        measured), and ``first_low`` and ``first_high`` (the ends of the first interval, relative to
        ``predicted``).
    """
    sites = sites_of(ensemble)
    tables = []
    for momentum in spec.momenta:
        for nesterov in (False, True) if momentum else (False,):
            tables.append(_bisect(ensemble, sites, spec, momentum, nesterov))
    return pd.concat(tables, ignore_index=True)


def _bisect(
    ensemble: Ensemble, sites: Sites, spec: StudySpec, momentum: float, nesterov: bool
) -> pd.DataFrame:
    # The starts: the same for all step sizes.
    batch = len(sites.value)
    predicted = predicted_threshold(torch.tensor(momentum, dtype=torch.float64), nesterov)
    seed = [spec.seed, ensemble.network]
    direction = random_directions(batch, sites.centre.shape[1], seed)
    radius = RADIUS * torch.linalg.vector_norm(sites.centre, dim=1)
    shift = radius[:, None] * direction

    # The bisection: a run of each minimizer, at the middle of its interval, halves that interval.
    rng = np.random.default_rng([*seed, int(1000 * momentum), nesterov])
    first_low, first_high = (torch.from_numpy(rng.uniform(*ends, batch)) for ends in (LOW, HIGH))
    start = (shift * sites.top).sum(1).abs()

    def leaves_at(ratio: Tensor) -> Tensor:
        run = gradient_descent(
            sites.factors(sites.centre + shift),
            sites.problem.target,
            ratio * predicted / sites.value,
            spec.steps,
            input_root=sites.problem.input_root,
            observe_every=OBSERVE_EVERY,
            reference=sites.centre,
            directions=sites.top[:, None],
            momentum=momentum,
            nesterov=nesterov,
        )
        along = run.observed.projections[:, :, 0].abs() / start
        return leaves(along, ESCAPED * (1 + momentum) / (1 - momentum))

    low, high = halved(first_low, first_high, leaves_at)
    relative = (low + high) / 2
    return ensemble.rows(torch.arange(batch).numpy()).assign(
        momentum=momentum,
        nesterov=nesterov,
        sharpness_ratio=(sites.value / sites.flat).numpy(),
        predicted=float(predicted),
        threshold=(relative * predicted).numpy(),
        first_low=first_low.numpy(),
        first_high=first_high.numpy(),
    )


def halved(
    low: Tensor, high: Tensor, leaves_at: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The intervals ``(low, high)``, halved :data:`HALVINGS` times; ``leaves_at`` judges their middles."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        left = leaves_at(middle)
        high, low = torch.where(left, middle, high), torch.where(left, low, middle)
    return low, high


def leaves(along: Tensor, escaped: float) -> Tensor:
    """Whether runs leave, by the size of their components along ``v_1``.

    Args:
        along: The sizes at the observed times, relative to the start, ``(K, B)``; NaN after the end of a run.
        escaped: A run has escaped when it was at this size.
    """
    peak = along.nan_to_num(nan=0.0, posinf=torch.inf).amax(0)
    # A run may end between two observations, so its last observation is the last that is not NaN.
    last = (~torch.isnan(along)).sum(0).sub(1).clamp(min=0)
    now, before = (along.gather(0, place[None])[0] for place in (last, last // 2))
    # A run that has returned moves within rounding errors, which grow or shrink by chance.
    return (peak >= escaped) | ((now > RETURNED) & (now > before))
