"""Landings near minimizers with soft directions, whose Hessian has eigenvalues of every size.

On data the smallest eigenvalues may be a billionth of the largest, and such a direction takes a billion
steps to settle. So a run that has left the minimizer and no longer oscillates is not at a minimizer yet.
"""

import pandas as pd
import torch

from dmf_sharpness.descent.landing_law import landing_coefficient, predict_landing
from dmf_sharpness.descent.reduced_map import ReducedMap, iterate, reduced_map
from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.network.factors import flatten
from dmf_sharpness.studies.common import crossed, sites_of

STUDY = StudyOptions(
    needs=("step_ratios", "radii", "steps"),
    one_value=("radii",),
    on_data=True,
    leaves=True,
)


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Start a run along ``v_1`` from every minimizer with each step ratio, and stop it after ``spec.steps``.

    Returns:
        A row per minimizer and step ratio: ``excess`` (``δ``), ``end_ratio`` (``ηλ/2`` at the end, ``λ`` by
        the closed form), ``predicted`` (``end_ratio`` by the reduced map) and ``settled`` (``end_ratio`` by
        the landing law, for which all directions have settled).
    """
    sites = sites_of(ensemble)
    ratio, number = crossed(spec.step_ratios, torch.arange(len(sites.value)))
    index, radius = number.long(), spec.radii[0]
    step_size = 2 * ratio / sites.value[index]
    centre, top = sites.centre[index], sites.top[index]
    run = gradient_descent(
        sites.factors(centre + radius * top),
        sites.problem.target[index],
        step_size,
        spec.steps,
        input_root=sites.problem.input_root,
    )
    # The closed form leaves out the residual, which changes the top eigenvalue by less than 1e-6 of it.
    there = torch.full_like(ratio, torch.nan)
    finite = torch.isfinite(flatten(run.factors)).all(1)
    if bool(finite.any()):
        W = [layer[finite] for layer in run.factors]
        there[finite] = torch.as_tensor(sharpness(W, sites.problem.input_gram).value)
    reduced = reduced_map(ensemble.factors, ensemble.problem)
    chosen = ReducedMap(**{name: value[index] for name, value in vars(reduced).items()})
    predicted, _ = iterate(chosen, ratio, torch.full_like(ratio, radius), spec.steps)
    a = landing_coefficient(ensemble.factors, ensemble.target, ensemble.input_root, refined=True)
    a = torch.as_tensor(a)[index]
    known = torch.isfinite(a)  # a flat minimizer has no finite coefficient
    settled = torch.as_tensor(predict_landing(a.masked_fill(~known, 0.0), ratio))
    return ensemble.rows(index.numpy()).assign(
        excess=(ratio - 1).numpy(),
        end_ratio=(step_size * there / 2).numpy(),
        predicted=predicted.numpy(),
        settled=settled.masked_fill(~known, torch.nan).numpy(),
        steps=run.steps.numpy(),
    )
