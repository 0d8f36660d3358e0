"""Starts of every kind beside a minimizer, also those from which exact gradient descent would not leave.

With one unstable direction, the starts that do not leave form a set of codimension one, the stable
manifold: ``⟨v_1, w − w*⟩ = h(z)``, where ``z`` is the displacement orthogonal to ``v_1`` and ``h`` is of
second order. A start on it is found by bisection on its component along ``v_1``, because runs from
opposite sides of the manifold leave in opposite directions.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.network.factors import flatten
from dmf_sharpness.network.tangent import retracted
from dmf_sharpness.studies.common import (
    Sites,
    crossed,
    random_directions,
    sites_of,
)
from dmf_sharpness.studies.landscape import flattening_directions

STUDY = StudyOptions(
    needs=("step_ratios", "radii", "steps"), takes=("seed",), on_data=True, leaves=True
)

KINDS = ("top", "random", "flattening", "orthogonal", "manifold", "stable", "exact")
"""The kinds of starts, which :func:`study` describes."""
LEVEL = 1e-3
"""A run has left when its step along ``v_1`` is this long, relative to the minimizer's norm."""
HALVINGS = 90
"""The bisection for the stable manifold ends after this many halvings at the latest."""
SEARCH_STEPS = 600
"""Each run of the bisection takes at most this many steps."""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Runs from every kind of start beside every minimizer, at every step ratio and radius.

    The kinds of starts, where ``r`` is the radius:

    - ``top``: ``r`` along ``v_1``.
    - ``random``: ``r`` in a random direction.
    - ``flattening``: ``r`` along ``v_N`` on a straight line.
    - ``orthogonal``: ``r`` in a random direction that is orthogonal to the unstable direction.
    - ``manifold``: the minimizer at distance ``r`` along ``v_N``.
    - ``stable``: on the stable manifold; the ``orthogonal`` start, displaced along ``v_1``.
    - ``exact``: the minimizer itself, where only rounding can make a run leave.

    A minimizer with more than one unstable direction at a step ratio is left out at that step ratio.

    Returns:
        A row per minimizer, kind (``start``), step ratio and radius, with the ``escape_time`` (NaN if the run
        has not left within ``spec.steps`` or ``4 SEARCH_STEPS`` steps).
    """
    sites = sites_of(ensemble)
    number, ratio, radius = crossed(torch.arange(len(sites.value)), spec.step_ratios, spec.radii)
    one_unstable = sites.second[number.long()] * ratio < sites.value[number.long()]
    index, ratio, radius = number.long()[one_unstable], ratio[one_unstable], radius[one_unstable]
    if not len(index):
        return pd.DataFrame()
    step_size = 2 * ratio / sites.value[index]
    tables = []
    for kind, shift in _shifts(sites, index, step_size, radius, [spec.seed, ensemble.network]):
        table = ensemble.rows(index.numpy()).assign(
            start=kind,
            step_ratio=ratio.numpy(),
            radius=radius.numpy(),
            escape_time=_escape_time(sites, index, shift, step_size, spec.steps),
        )
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _shifts(
    sites: Sites, index: Tensor, step_size: Tensor, radius: Tensor, seed: list[int]
) -> list[tuple[str, Tensor]]:
    """The displacements of the starts, ``(R, N)`` for each kind."""
    top, centre = sites.top[index], sites.centre[index]
    draws = random_directions(len(sites.value), centre.shape[1], seed)[index]
    aside = draws - (draws * top).sum(1, keepdim=True) * top
    aside = aside / torch.linalg.vector_norm(aside, dim=1, keepdim=True)
    slopes = flattening_directions(sites.factors(), sites.problem)
    flattening = slopes[index]
    length = radius[:, None]
    along = centre + length * flattening
    on_manifold = flatten(retracted(sites.factors(along), sites.problem.chosen(index)))
    # The shifts include rounding: a component along v_1 that should be zero is of the order of 1e-16.
    return [
        ("top", length * top),
        ("random", length * draws),
        ("flattening", length * flattening),
        ("orthogonal", length * aside),
        ("manifold", on_manifold - centre),
        (
            "stable",
            length * aside + _height(sites, index, step_size, length * aside)[:, None] * top,
        ),
        ("exact", torch.zeros_like(top)),
    ]


def _alternating_steps(
    sites: Sites, index: Tensor, shift: Tensor, step_size: Tensor, steps: int
) -> Tensor:
    """``(−1)^t`` times the step along ``v_1``, ``(K, R)``.

    An escaping displacement changes its sign at every step, so this keeps one sign, which tells the side.
    """
    centre = sites.centre[index]
    run = gradient_descent(
        sites.factors(centre + shift),
        sites.problem.target[index],
        step_size,
        steps,
        input_root=sites.problem.input_root,
        observe_every=1,
        reference=centre,
        directions=sites.top[index][:, None],
    )
    along = run.observed.projections[:, :, 0]
    sign = torch.ones(len(along) - 1, 1, dtype=torch.float64)
    sign[1::2] = -1
    return sign * (along[1:] - along[:-1])


def _first_exit(sites: Sites, index: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """The time at which the step first reaches the level, and its sign; −1 and 0 for a run that stays."""
    if not len(steps):  # all runs have diverged at once
        return torch.full_like(index, -1), torch.zeros(len(index), dtype=torch.float64)
    level = LEVEL * torch.linalg.vector_norm(sites.centre[index], dim=1)
    out = steps.abs() >= level
    first = out.to(torch.uint8).argmax(0)
    side = torch.sign(steps.gather(0, first[None])[0])
    stays = ~out.any(0)
    return first.masked_fill(stays, -1), side.masked_fill(stays, 0.0)


def _height(sites: Sites, index: Tensor, step_size: Tensor, aside: Tensor) -> Tensor:
    """The component along ``v_1`` that moves the start ``aside`` onto the stable manifold, ``(R,)``."""
    size = torch.linalg.vector_norm(aside, dim=1)
    top = sites.top[index]

    def side_of(height: Tensor) -> Tensor:
        shift = aside + height[:, None] * top
        steps = _alternating_steps(sites, index, shift, step_size, SEARCH_STEPS)
        return _first_exit(sites, index, steps)[1]

    # The manifold differs from the plane by the second order of the size; 10 allows for its curvature.
    reach = (10 * size.square()).clamp(min=1e-15)
    low, high = -reach, reach
    side_high = side_of(high)
    bracketed = side_of(low) * side_high < 0
    height = torch.zeros_like(size)
    for _ in range(HALVINGS):
        height = (low + high) / 2
        side = side_of(height)
        up = side == side_high
        stays = side == 0
        low = torch.where(stays, height, torch.where(up, low, height))
        high = torch.where(stays, height, torch.where(up, height, high))
        if bool((high - low <= 1e-18).all()):
            break
    return torch.where(bracketed, height, torch.nan).nan_to_num(nan=0.0)


def _escape_time(
    sites: Sites, index: Tensor, shift: Tensor, step_size: Tensor, steps: int
) -> np.ndarray:
    """The number of steps until a run has left; NaN if it does not leave within ``4 SEARCH_STEPS``."""
    watched = min(steps, 4 * SEARCH_STEPS)
    first, _ = _first_exit(
        sites, index, _alternating_steps(sites, index, shift, step_size, watched)
    )
    return np.asarray(torch.where(first < 0, torch.nan, first.double()))
