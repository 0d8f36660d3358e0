"""Networks trained in single precision on real data, the minimizers nearest to them, and their sharpness."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.data_sets import DATA_SETS
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.minimizers.data_flat import flat_on_data
from dmf_sharpness.minimizers.data_sets import prepared
from dmf_sharpness.minimizers.polish import polish
from dmf_sharpness.minimizers.targets import Regression
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.network.data_flatness import data_flatness
from dmf_sharpness.network.factors import Factors, end_to_end
from dmf_sharpness.network.loss import loss
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.starts import standard_start
from dmf_sharpness.oracles import lanczos_sharpness

STUDY = StudyOptions(
    needs=("starts", "steps"), takes=("repeats", "seed"), on_data=True, on_large_data=True
)

MOMENTUM = 0.9
"""The networks are trained by gradient descent with this momentum, as is usual."""
STEP = 0.5
"""The step size times the larger one of ``λ_flat`` and the sharpness at the start. With this momentum
minimizers are stable up to 7.6 times that."""
TRAINED = 1e-11
"""Training ends at a loss of this share of ``‖T‖_F²`` above the least one, where single precision ends."""
LANCZOS = 1e-8
"""The relative residual at which Lanczos stops; the error of the eigenvalue is of the order of its square."""
LOOK_EVERY = 50
"""So many steps lie between two looks at the loss."""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Train from ``spec.repeats`` starts of each kind on the problem of every minimizer of the ensemble.

    Returns:
        A row per minimizer, kind of start and repeat. Of the data: ``data``, ``centred``, ``largest_share``
        (of a class; NaN if the shares are those of the data), ``explained`` (the part of the first output
        that a linear map reaches), ``condition`` (of the inputs), ``samples``.

        Of the problem: ``flat_sharpness`` (``λ_flat`` on these data), ``flat_made`` (the sharpness of a
        minimizer that is constructed to have it), ``made_sharpness`` (at the minimizer of the ensemble).

        Of training: ``start``, ``repeat``, ``steps``, ``excess_loss`` (above the least one, over ``‖T‖_F²``),
        ``end_sharpness`` (the largest Gauss–Newton eigenvalue at its end).

        Of the minimizer nearest to its end: ``distance`` and ``residual`` (relative), ``sharpness`` (in
        closed form), ``lanczos_sharpness`` (from Hessian-vector products of the loss of all samples, which
        take longest, so that it is NaN but for the first repeat) and ``control_sharpness`` (the closed form
        without the data, or in matrix factorization ``λ_flat``). They are NaN if no minimizer was found.
    """
    data = None if ensemble.data is None else prepared(**asdict(ensemble.data))
    tables = []
    for b in range(len(ensemble.kinds)):
        problem = Problem(ensemble.target[b], ensemble.input_root)
        runs = list(product(spec.starts, range(spec.repeats)))
        starts = [
            standard_start(ensemble.widths, kind, [spec.seed, ensemble.network, b, repeat])
            for kind, repeat in runs
        ]
        flat = data_flatness(problem.target, problem.input_root, ensemble.depth).value
        flattest = flat_on_data(problem, ensemble.widths[1:-1], [spec.seed, ensemble.network, b])
        ends, steps = trained(starts, problem, flat, spec.steps)
        measured = [
            _measured(end, problem, data, with_lanczos=repeat == 0)
            for end, (_, repeat) in zip(ends, runs, strict=True)
        ]
        columns: dict[str, Any] = _of_data(ensemble, problem, data)
        table = ensemble.rows([b] * len(runs)).assign(
            **columns,
            flat_sharpness=flat,
            flat_made=_sharpness(flattest, problem),
            made_sharpness=_sharpness(ensemble.one(b), problem),
            start=[kind for kind, _ in runs],
            repeat=[repeat for _, repeat in runs],
            steps=steps,
        )
        tables.append(pd.concat([table, pd.DataFrame(measured)], axis=1))
    return pd.concat(tables, ignore_index=True)


def trained(
    starts: Sequence[Factors], problem: Problem, flat: float, steps: int
) -> tuple[list[list[Tensor]], int]:
    """The ends of gradient descent with momentum from several starts at once, in single precision.

    Args:
        starts: Factors, float64.
        problem: ``T`` and ``S``, float64.
        flat: ``λ_flat``.
        steps: The largest number of steps.

    Returns:
        The factors of each run, promoted to float64, and the number of steps.
    """
    rates = [STEP / max(flat, _sharpness(start, problem)) for start in starts]
    factors = [torch.stack(layer).float().requires_grad_() for layer in zip(*starts, strict=True)]
    rate = torch.tensor(rates).float()[:, None, None]
    velocity = [torch.zeros_like(W) for W in factors]
    target = problem.target.float()
    root = None if problem.input_root is None else problem.input_root.float()
    enough = TRAINED * float(problem.target.square().sum())
    for step in range(steps):
        losses = loss(factors, Problem(target, root))
        if step % LOOK_EVERY == 0 and not bool((losses > enough).any()):
            break
        gradients = torch.autograd.grad(losses.sum(), factors)
        with torch.no_grad():
            for W, v, g in zip(factors, velocity, gradients, strict=True):
                v.mul_(MOMENTUM).sub_(rate * g)
                W.add_(v)
    else:
        step = steps
    ends = [[W[k].detach().double() for W in factors] for k in range(len(starts))]
    return ends, step


def _sharpness(factors: Factors, problem: Problem) -> float:
    """The closed form: the Gauss–Newton sharpness, and at a minimizer the sharpness."""
    return float(sharpness(factors, input_root=problem.input_root).value)


def _of_data(ensemble: Ensemble, problem: Problem, data: Regression | None) -> dict[str, Any]:
    """The columns that say what was done to the data."""
    if ensemble.data is None or problem.input_root is None or data is None:
        nothing = {"largest_share": math.nan, "explained": 1.0, "condition": 1.0, "samples": 0}
        return {"data": "none", "centred": False, **nothing}
    values = torch.linalg.vector_norm(problem.input_root, dim=0)
    shares, classes = ensemble.data.class_shares, len(problem.target)
    rest = (1 - sum(shares)) / max(classes - len(shares), 1)
    return {
        "data": ensemble.data.kind,
        "centred": ensemble.data.centred,
        "largest_share": max(*shares, rest) if shares else math.nan,
        "explained": float(problem.target[0].square().sum() / data.outputs[0].square().sum()),
        "condition": float(values.max() / values.min()),
        "samples": DATA_SETS[ensemble.data.kind].samples,
    }


def _measured(
    end: list[Tensor], problem: Problem, data: Regression | None, with_lanczos: bool
) -> dict[str, float]:
    """The columns of the end of a run, and of the minimizer near by."""
    missing = dict.fromkeys(
        ("excess_loss", "end_sharpness", "distance", "residual", "sharpness", "lanczos_sharpness",
         "control_sharpness"), math.nan,
    )  # fmt: skip
    if not all(bool(W.isfinite().all()) for W in end):
        return missing
    excess = float(loss(end, problem) / problem.target.square().sum())
    columns = missing | {"excess_loss": excess, "end_sharpness": _sharpness(end, problem)}
    try:
        near = polish(end, problem)
    except ValueError:  # too far away
        return columns
    outputs, inputs = (problem.target, None) if data is None else (data.outputs, data.inputs)
    flat = float(flat_sharpness(end_to_end(near.factors), len(end)))
    return columns | {
        "distance": near.distance,
        "residual": near.residual,
        "sharpness": _sharpness(near.factors, problem),
        "lanczos_sharpness": (
            lanczos_sharpness(near.factors, outputs, inputs, LANCZOS) if with_lanczos else math.nan
        ),
        "control_sharpness": flat if data is None else float(sharpness(near.factors).value),
    }
