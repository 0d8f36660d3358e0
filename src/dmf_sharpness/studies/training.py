"""Training from standard starts: the minimizers that gradient descent finds, and the step sizes at which."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.gradient_flow import GradientFlow, conserved_drift, gradient_flow
from dmf_sharpness.descent.run import Outcome, gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.network.factors import Factors, flatten
from dmf_sharpness.network.loss import loss
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.starts import standard_start
from dmf_sharpness.network.tangent import curvature_of, retracted
from dmf_sharpness.studies.common import crossed

STUDY = StudyOptions(
    needs=("starts", "step_ratios", "steps"), takes=("repeats", "seed"), on_data=True
)

POLISHES = 2
"""Gauss–Newton steps from the end of a run to the minimizer near by."""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Runs from ``spec.repeats`` starts of each kind, on the problem of every minimizer of the ensemble.

    The step ratios are ``ηλ_flat/2``. On data the sharpness of the minimizer stands for ``λ_flat``; at
    balanced minimizers of whitened data the two are equal.

    Returns:
        A row per minimizer, kind of start, repeat (slower) and step ratio (fastest): ``start``, ``repeat``,
        ``flat_ratio`` (``ηλ_flat/2``), ``outcome`` (``converged``, ``diverged`` or ``step_limit``),
        ``steps``, ``flat_sharpness``, ``start_ratio`` (the Gauss–Newton sharpness at the start over
        ``λ_flat``), ``start_swing`` (``2η‖E‖_F``, ``E`` the residual at the start).

        Of the run's end, moved to the minimizer near by: ``sharpness_ratio`` (``λ_end/λ_flat``),
        ``end_ratio`` (``ηλ_end/2``), ``polish`` (the distance moved, relative to the norm of the factors)
        and ``drift`` (the change of the conserved quantities), all NaN if it has not converged.

        Of the gradient flow from the same start: ``flow_ratio`` (``λ/λ_flat`` at its end), ``flow_error`` and
        ``flow_drift``, NaN on data and if it does not end at a minimizer; and ``kept_ratio``, what
        ``flow_ratio`` must be by the quantities that the flow keeps, with two layers and a scalar target,
        else NaN.
    """
    index, kinds, repeats, starts = _starts(ensemble, spec)
    unit = unit_of_sharpness(ensemble)[index]
    problem = ensemble.problem.chosen(index)
    flow = _flow(starts, problem)
    flow_ratio = _sharpness_where(flow.ended, flow.factors, problem) / unit
    start_ratio = curvature_of(starts, problem.input_root).eigenvalues[:, -1] / unit
    swing = 2 * loss(starts, problem).sqrt()

    number, ratio = crossed(torch.arange(len(index)), spec.step_ratios)
    start = number.long()
    step_size = 2 * ratio / unit[start]
    first = [W[start] for W in starts]
    here = problem.chosen(start)
    run = gradient_descent(first, here.target, step_size, spec.steps, input_root=here.input_root)
    converged = run.outcome == Outcome.CONVERGED
    end = _polished(run.factors, here, converged)
    value = _sharpness_where(converged, end, here)
    moved = torch.linalg.vector_norm(flatten(end) - flatten(run.factors), dim=1)
    return ensemble.rows(index[start].numpy()).assign(
        start=kinds[start.numpy()],
        repeat=repeats[start.numpy()],
        flat_ratio=ratio.numpy(),
        outcome=[Outcome(int(code)).name.lower() for code in run.outcome],
        steps=run.steps.numpy(),
        flat_sharpness=unit[start].numpy(),
        start_ratio=start_ratio[start].numpy(),
        start_swing=(step_size * swing[start]).numpy(),
        sharpness_ratio=(value / unit[start]).numpy(),
        end_ratio=(step_size * value / 2).numpy(),
        polish=(moved / torch.linalg.vector_norm(flatten(end), dim=1)).numpy(),
        drift=conserved_drift(first, end).numpy(),
        flow_ratio=flow_ratio[start].numpy(),
        flow_error=flow.error[start].numpy(),
        flow_drift=flow.drift[start].numpy(),
        kept_ratio=(kept_sharpness(starts, problem) / unit)[start].numpy(),
    )


def _flow(starts: Factors, problem: Problem) -> GradientFlow:
    """The gradient flow; on data, where its runs would take minutes, nothing is known of it."""
    if problem.input_root is None:
        return gradient_flow(starts, problem)
    unknown = torch.full((len(starts[0]),), torch.nan, dtype=torch.float64)
    return GradientFlow([torch.full_like(W, torch.nan) for W in starts], unknown, unknown)


def unit_of_sharpness(ensemble: Ensemble) -> Tensor:
    """``λ_flat`` of each minimizer's problem, ``(B,)``; on data the sharpness of the minimizer."""
    if ensemble.input_root is None:
        return torch.as_tensor(flat_sharpness(ensemble.target, ensemble.depth))
    return torch.as_tensor(sharpness(ensemble.factors, ensemble.problem.input_gram).value)


def kept_sharpness(starts: Factors, problem: Problem) -> Tensor:
    """The sharpness at the end of gradient flow with two layers and a scalar target, ``(B,)``; else NaN.

    Of ``x = W_1`` and ``y = W_2ᵀ`` the flow keeps ``Q = (‖x‖² + ‖y‖²)² − 4(x·y)²``, and at a minimizer
    ``λ_max = 2(Q + 4M²)^{1/2}`` (``docs/two_layers.md``).
    """
    if len(starts) != 2 or problem.target[0].numel() != 1 or problem.input_root is not None:
        return torch.full((len(starts[0]),), torch.nan, dtype=torch.float64)
    x, y = starts[0][:, :, 0], starts[1][:, 0, :]
    norms = x.square().sum(1) + y.square().sum(1)
    kept = norms.square() - 4 * (x * y).sum(1).square()
    return 2 * torch.sqrt(kept + 4 * problem.target[:, 0, 0].square())


def _starts(
    ensemble: Ensemble, spec: StudySpec
) -> tuple[Tensor, np.ndarray, np.ndarray, list[Tensor]]:
    """The minimizer whose problem each start belongs to, its kind, its number, and the factors."""
    index, kinds, repeats, made = [], [], [], []
    for b in range(len(ensemble.kinds)):
        for kind in spec.starts:
            # The identity is a single start.
            for r in range(1 if kind == "identity" else spec.repeats):
                index.append(b)
                kinds.append(kind)
                repeats.append(r)
                made.append(
                    standard_start(ensemble.widths, kind, [spec.seed, ensemble.network, b, r])
                )
    factors = [torch.stack(layer) for layer in zip(*made, strict=True)]
    return torch.tensor(index), np.array(kinds), np.array(repeats), factors


def _polished(factors: Factors, problem: Problem, where: Tensor) -> list[Tensor]:
    """The minimizers near by, and NaN where there is none."""
    end = [torch.full_like(W, torch.nan) for W in factors]
    if bool(where.any()):
        near = retracted([W[where] for W in factors], problem.chosen(where), POLISHES)
        for W, there in zip(end, near, strict=True):
            W[where] = there
    return end


def _sharpness_where(where: Tensor, factors: Factors, problem: Problem) -> Tensor:
    """The sharpness of the minimizers of a batch, ``(B,)``; NaN elsewhere."""
    value = torch.full((len(where),), torch.nan, dtype=torch.float64)
    if bool(where.any()):
        there = [W[where] for W in factors]
        value[where] = torch.as_tensor(sharpness(there, problem.input_gram).value)
    return value
