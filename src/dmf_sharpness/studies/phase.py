"""The phase diagram: the outcome of a run against the sharpness of its minimizer and the step size."""

import pandas as pd
import torch

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.studies.common import crossed, random_directions, settle, sites_of

STUDY = StudyOptions(needs=("step_ratios", "radii", "steps"), takes=("repeats", "seed"))


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Runs from ``spec.repeats`` random starts beside every minimizer, with every step ratio.

    Returns:
        A row per minimizer, step ratio and start: ``sharpness_ratio`` (``λ_max/λ_flat``),
        ``flat_ratio`` (``ηλ_flat/2``), ``second_ratio`` (``ηλ_2/2``), ``start`` (its number), and the
        outcome.
    """
    sites = sites_of(ensemble)
    number, ratio, repeat, radius = crossed(
        torch.arange(len(sites.value)), spec.step_ratios, torch.arange(spec.repeats), spec.radii
    )
    index = number.long()
    step_size = 2 * ratio / sites.value[index]
    seed = [spec.seed, ensemble.network]
    shift = radius[:, None] * random_directions(len(index), sites.centre.shape[1], seed)
    end = settle(sites, index, shift, step_size, spec.steps)
    return ensemble.rows(index.numpy()).assign(
        step_ratio=ratio.numpy(),
        start=repeat.long().numpy(),
        radius=radius.numpy(),
        sharpness_ratio=(sites.value / sites.flat)[index].numpy(),
        flat_ratio=(step_size * sites.flat[index] / 2).numpy(),
        second_ratio=(step_size * sites.second[index] / 2).numpy(),
        outcome=end.outcome,
    )
