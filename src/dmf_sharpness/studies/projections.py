"""Runs beside minimizers in the eigenvectors of the Hessian: each component, step by step."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.spectrum import hessian_eigenvectors
from dmf_sharpness.network.factors import flatten, unflatten
from dmf_sharpness.studies.common import crossed, random_directions

STUDY = StudyOptions(needs=("step_ratios", "radii", "steps"), takes=("seed",), one_value=("radii",))

LEAST_COMPONENT = 1e-11
"""Components below this, relative to the minimizer's norm, have rounding errors above 1e-5 of their size."""
QUADRATIC_SHARE = 1e-6
"""A component counts as linear while the square of the whole distance is at most this fraction of it."""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """A run from a random start beside every minimizer, with every step ratio, in all eigenvectors.

    Near the minimizer the component along the eigenvector ``v_k`` is multiplied by ``1 − ηλ_k`` per step.

    Returns:
        A row per minimizer, step ratio, eigenvector of a nonzero eigenvalue and step: ``place`` (from 1
        on, in descending order), ``direction_ratio`` (``ηλ_k/2``), ``step``, ``component`` (along
        ``v_k``), and ``growth``, the measured factor per step of ``|component|`` in the linear phase, the
        same in all rows of a component; NaN if that phase has fewer than three steps. The null space has
        the last place; its component is the length of the displacement in it.
    """
    tables = []
    for b in range(len(ensemble.kinds)):
        values, vectors = hessian_eigenvectors(ensemble.one(b), ensemble.problem.input_gram)
        centre = flatten(ensemble.one(b))
        ratio, radius = crossed(spec.step_ratios, spec.radii)
        step_size = 2 * ratio / values[0]
        shift = random_directions(1, len(centre), [spec.seed, ensemble.network, b])
        problem = ensemble.problem.chosen(b)
        run = gradient_descent(
            unflatten(centre + radius[:, None] * shift, ensemble.widths),
            problem.target,
            step_size,
            spec.steps,
            input_root=problem.input_root,
            observe_every=1,
            reference=centre,
            directions=vectors.expand(len(ratio), *vectors.shape),
        )
        path = run.observed
        for r, c in enumerate(ratio.tolist()):
            there = torch.isfinite(path.distance[:, r])
            components, distance = path.projections[there, r], path.distance[there, r]
            rest = (distance.square() - components.square().sum(1)).clamp(min=0).sqrt()
            components = torch.cat([components, rest[:, None]], 1)
            growth = _growth(components, distance, float(torch.linalg.vector_norm(centre)))
            kept, count = components.shape
            eigenvalues = torch.cat([values, values.new_zeros(1)])
            tables.append(
                ensemble.rows(np.full(kept * count, b)).assign(
                    step_ratio=c,
                    place=np.repeat(np.arange(1, count + 1), kept),
                    direction_ratio=np.repeat((step_size[r] * eigenvalues / 2).numpy(), kept),
                    step=np.tile(path.step[there].numpy(), count),
                    component=components.mT.flatten().numpy(),
                    growth=np.repeat(growth, kept),
                )
            )
    return pd.concat(tables, ignore_index=True)


def _growth(components: Tensor, distance: Tensor, norm: float) -> np.ndarray:
    """The factor per step of each of ``P`` components ``(K, P)`` in its linear phase, ``(P,)``."""
    size = components.abs()
    linear = (size >= LEAST_COMPONENT * norm) & (
        distance[:, None].square() <= QUADRATIC_SHARE * norm * size
    )
    # The linear phase begins with the start and ends with the first step that is not in it.
    steps = linear.long().cumprod(0).sum(0) - 1
    last = size.gather(0, steps.clamp(min=0)[None])[0]
    growth = (last / size[0]) ** (1 / steps.clamp(min=1))
    return torch.where(steps >= 3, growth, torch.nan).numpy()
