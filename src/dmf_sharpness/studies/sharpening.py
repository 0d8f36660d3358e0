"""The sharpness along training from a standard start."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.network.factors import flatten, unflatten, widths
from dmf_sharpness.network.loss import hessian_vector_product
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.starts import standard_start
from dmf_sharpness.studies.training import unit_of_sharpness

STUDY = StudyOptions(
    needs=("starts", "step_ratios", "steps"), takes=("seed",), one_value=("starts",), on_data=True
)

OBSERVATIONS = 400
"""The sharpness is computed at so many times of each run at most."""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """One run from a start per minimizer's problem and step ratio, with the sharpness along it.

    The same start is taken with every step size. The largest Hessian eigenvalue is that of the point of the
    run itself, not of a minimizer near by.

    Returns:
        A row per minimizer, step ratio and time: ``flat_ratio`` (``ηλ_flat/2``, as in
        :mod:`dmf_sharpness.studies.training`), ``step``, ``loss`` and ``sharpness_ratio`` (``λ_max/λ_flat``).
    """
    unit = unit_of_sharpness(ensemble)
    tables = []
    for b in range(len(ensemble.kinds)):
        start = standard_start(ensemble.widths, spec.starts[0], [spec.seed, ensemble.network, b])
        problem = Problem(ensemble.target[b], ensemble.input_root)

        def measure(factors: list[Tensor], problem: Problem = problem) -> Tensor:
            return top_eigenvalues(factors, problem)[:, None]

        for ratio in spec.step_ratios:
            step_size = 2 * ratio / float(unit[b])
            every = max(1, round(spec.steps / OBSERVATIONS))
            run = gradient_descent(
                [W[None] for W in start], problem.target, step_size, spec.steps,
                input_root=problem.input_root, observe_every=every, measure=measure,
            )  # fmt: skip
            seen = run.observed
            assert seen.measured is not None
            value = seen.measured[:, 0, 0]
            there = torch.isfinite(value)
            tables.append(
                ensemble.rows(np.full(int(there.sum()), b)).assign(
                    flat_ratio=ratio,
                    step=seen.step[there].numpy(),
                    loss=seen.loss[there, 0].numpy(),
                    sharpness_ratio=(value[there] / unit[b]).numpy(),
                )
            )
    return pd.concat(tables, ignore_index=True)


def top_eigenvalues(factors: list[Tensor], problem: Problem) -> Tensor:
    """The largest Hessian eigenvalue at each of ``K`` points of a small network, ``(K,)``.

    All columns of the Hessians are computed at once, which takes ``K N²`` numbers.
    """
    count = sum(W[0].numel() for W in factors)
    units = unflatten(torch.eye(count, dtype=torch.float64), widths(factors))
    points = [W[:, None] for W in factors]
    columns = flatten(hessian_vector_product(points, units, problem))
    return torch.linalg.eigvalsh((columns + columns.mT) / 2)[:, -1]
