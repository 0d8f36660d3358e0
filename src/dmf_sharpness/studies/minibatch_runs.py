"""Stochastic gradient descent from beside minimizers that fit every sample: who leaves, and the ends."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.minibatch_stability import (
    almost_sure_threshold,
    lyapunov_exponent,
    mean_square_threshold,
    random_chains,
    sample_hessians,
)
from dmf_sharpness.descent.run import Outcome, gradient_descent
from dmf_sharpness.descent.state import Minibatch
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.network.factors import flatten, unflatten
from dmf_sharpness.studies.common import random_directions
from dmf_sharpness.studies.minibatches import inputs_of

STUDY = StudyOptions(
    needs=("samples", "step_ratios", "radii", "steps"),
    takes=("repeats", "seed"),
    one_value=("radii",),
)

FAR = 1e-2
"""A run has left when its distance from the minimizer is this share of the minimizer's norm."""
OBSERVE_EVERY = 10
"""The distance is observed every so many steps."""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Run with step sizes around the almost sure threshold, on batches and then on all samples.

    The step ratios are in units of the almost sure threshold at the start, and the radii in units of the
    norm of the minimizer. Runs on all samples have the same starts and step sizes.

    Returns:
        A row per minimizer, batch size below all samples, step ratio, repeat and method: ``samples``,
        ``batch_size``, ``step_ratio``, ``mean_square_ratio`` and ``full_ratio`` (the step size over the
        mean-square threshold and over ``2/λ_max``, both at the start), ``method`` (``minibatch`` or
        ``full``), ``outcome``, ``farthest`` (the largest distance, over the norm of the minimizer),
        ``left``; and for runs above the threshold that converged ``end_ratio`` (the sharpness over that of
        the start) and ``exponent`` (the Lyapunov exponent of steps on batches of this size at the end), else
        NaN. Runs on all samples have no repeats.
    """
    rows = ensemble.rows(range(len(ensemble.kinds)))
    return pd.concat(
        [
            table
            for b, problem in enumerate(rows.problem)
            for table in _runs(
                ensemble.one(b), inputs_of(ensemble, spec, problem), rows.iloc[[b]], spec
            )
        ],
        ignore_index=True,
    )


def _runs(
    factors: list[Tensor], inputs: Tensor, row: pd.DataFrame, spec: StudySpec
) -> Iterator[pd.DataFrame]:
    """The tables of one minimizer, one per batch size, repeat and method."""
    samples = sample_hessians(factors, inputs)
    sharpness = float(samples.eigenvalues[0])
    targets = torch.linalg.multi_dot([*factors[::-1], inputs])
    centre, widths = flatten(factors), (factors[0].shape[1], *(W.shape[0] for W in factors))
    norm = float(torch.linalg.vector_norm(centre))
    ratio = torch.tensor(spec.step_ratios, dtype=torch.float64)
    for size in range(1, spec.samples):
        seed = [spec.seed, int(row.network.iloc[0]), int(row.minimizer.iloc[0]), size]
        almost_sure, _ = almost_sure_threshold(samples, size, seed)
        step_size = ratio * almost_sure
        for repeat in range(spec.repeats):
            draws = np.random.SeedSequence([*seed, repeat]).generate_state(1)
            shift = random_directions(len(ratio), len(centre), [*seed, repeat])
            for method in ("minibatch", "full") if repeat == 0 else ("minibatch",):
                run = gradient_descent(
                    unflatten(centre + spec.radii[0] * norm * shift, widths),
                    targets,
                    step_size,
                    spec.steps,
                    input_root=inputs,
                    observe_every=OBSERVE_EVERY,
                    reference=centre,
                    minibatch=Minibatch(inputs, targets, size, int(draws[0]))
                    if method == "minibatch"
                    else None,
                )
                farthest = run.observed.distance.nan_to_num(nan=0.0, posinf=torch.inf).amax(0)
                there = (run.outcome == int(Outcome.CONVERGED)) & (ratio > 1)
                value, exponent = _ends(run.factors, there, inputs, size, step_size, seed)
                yield row.loc[row.index.repeat(len(ratio))].assign(
                    samples=spec.samples,
                    batch_size=size,
                    step_ratio=ratio.numpy(),
                    mean_square_ratio=(step_size / mean_square_threshold(samples, size)).numpy(),
                    full_ratio=(step_size * sharpness / 2).numpy(),
                    method=method,
                    outcome=[Outcome(code).name.lower() for code in run.outcome.tolist()],
                    farthest=farthest.numpy() / norm,
                    left=(farthest >= FAR * norm).numpy(),
                    end_ratio=value / sharpness,
                    exponent=exponent,
                )


def _ends(
    factors: list[Tensor],
    chosen: Tensor,
    inputs: Tensor,
    size: int,
    step_size: Tensor,
    seed: list[int],
) -> tuple[np.ndarray, np.ndarray]:
    """The sharpness and the Lyapunov exponent at the ends of the chosen runs; NaN for the others."""
    value, exponent = np.full((2, len(step_size)), np.nan)
    for k in np.flatnonzero(chosen.numpy()):
        samples = sample_hessians([W[k] for W in factors], inputs)
        value[k] = float(samples.eigenvalues[0])
        chains = random_chains(samples, size, seed)
        exponent[k], _ = lyapunov_exponent(samples, chains, float(step_size[k]))
    return value, exponent
