"""The sharpness along training from a standard start."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.any_point import sharpness_at
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
        :mod:`dmf_sharpness.studies.training`), ``step`` and ``sharpness_ratio`` (``λ_max/λ_flat``).
    """
    unit = unit_of_sharpness(ensemble)
    tables = []
    for b in range(len(ensemble.kinds)):
        start = standard_start(ensemble.widths, spec.starts[0], [spec.seed, ensemble.network, b])
        problem = Problem(ensemble.target[b], ensemble.input_root)

        def measure(factors: list[Tensor], problem: Problem = problem) -> Tensor:
            return sharpness_along(factors, problem)[:, None]

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
                    sharpness_ratio=(value[there] / unit[b]).numpy(),
                )
            )
    return pd.concat(tables, ignore_index=True)


def sharpness_along(points: list[Tensor], problem: Problem) -> Tensor:
    """The largest Hessian eigenvalue at each of ``K`` points, ``(K,)``; NaN where it was not found.

    Args:
        points: ``W_i`` of shape ``(K, d_i, d_{i-1})``.
        problem: ``T``, shape ``(d_L, r)``, and ``S``.
    """
    target, root = problem.target, problem.input_root
    if root is not None and root.shape[0] == root.shape[1]:
        # A column of zeros tells T from a solution M, which has the same shape if S is square.
        target, root = (torch.nn.functional.pad(matrix, (0, 1)) for matrix in (target, root))
    found = sharpness_at(points, target, input_root=root)
    return torch.where(torch.as_tensor(found.converged), torch.as_tensor(found.value), torch.nan)
