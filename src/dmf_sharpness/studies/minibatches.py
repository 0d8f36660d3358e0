"""The stability of minibatch steps at minimizers that fit every sample: formulas against runs."""

from itertools import combinations

import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.minibatch_stability import (
    SampleHessians,
    almost_sure_threshold,
    mean_square_threshold,
    sample_hessians,
    second_moment_growth,
)
from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import flatten, unflatten

STUDY = StudyOptions(needs=("samples",), takes=("seed",))

START = 1e-6
"""The starts are so far from the minimizer, relative to its norm, that only linear terms matter."""
STEPS = 2
"""The growth is measured over so many steps, with every sequence of batches."""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Draw samples that every minimizer fits, and measure the growth of second moments beside it.

    The inputs ``X`` of a target ``M`` are standard normal, and the outputs are ``Y = M X``. All step sizes
    are given as ``c = ηλ_max/2``, with the sharpness on these data.

    Returns:
        A row per minimizer, batch size from 1 to all samples, and step size: ``samples``, ``batch_size``,
        ``sharpness``; ``mean_square`` and ``almost_sure`` (the two thresholds); ``at`` (``mean_square`` or
        ``full``, the threshold at which the growth is measured), ``step_ratio`` (this threshold),
        ``growth`` (the factor per step of the second moments of the engine's runs), ``predicted`` (the
        formula's) and ``full_growth`` (``(1 − 2c)²``, the factor of steps on all data).
    """
    rows = ensemble.rows(range(len(ensemble.kinds)))
    measured = []
    for b, problem in enumerate(rows.problem):
        W, X = ensemble.one(b), inputs_of(ensemble, spec, problem)
        samples = sample_hessians(W, X)
        unit = 2 / float(samples.eigenvalues[0])  # the step size at c = 1
        for size in range(1, spec.samples + 1):
            seed = [spec.seed, ensemble.network, b, size]
            mean_square = mean_square_threshold(samples, size)
            almost_sure, _ = almost_sure_threshold(samples, size, seed)
            for at, step_size in (("mean_square", mean_square), ("full", unit)):
                predicted, moments = second_moment_growth(samples, size, step_size)
                measured.append(
                    {
                        "minimizer": b,
                        "samples": spec.samples,
                        "batch_size": size,
                        "sharpness": 2 / unit,
                        "mean_square": mean_square / unit,
                        "almost_sure": almost_sure / unit,
                        "at": at,
                        "step_ratio": step_size / unit,
                        "growth": measured_growth(W, X, samples, size, step_size, moments),
                        "predicted": predicted,
                        "full_growth": (1 - 2 * step_size / unit) ** 2,
                    }
                )
    return rows.merge(pd.DataFrame(measured), on="minimizer")


def inputs_of(ensemble: Ensemble, spec: StudySpec, problem: int) -> Tensor:
    """The inputs ``X`` of a problem, shape ``(d_0, n)``."""
    return gaussian_matrix(
        ensemble.widths[0], spec.samples, [spec.seed, ensemble.network, int(problem)]
    )


def measured_growth(
    factors: list[Tensor],
    inputs: Tensor,
    samples: SampleHessians,
    size: int,
    step_size: float,
    moments: Tensor,
) -> float:
    """The factor per step by which runs of the engine multiply the trace of second moments.

    The starts are displaced along the eigenvectors of ``moments``, whose eigenvalues are their weights.
    Every start takes every sequence of batches, so the means have no sampling error. The step of a run on
    its own batch is a step on the loss with the weight ``n/b`` for the samples of the batch, and 0 for the
    others.
    """
    widths = (factors[0].shape[1], *(W.shape[0] for W in factors))
    n, target = samples.count, torch.linalg.multi_dot([*factors[::-1], inputs])
    batches = torch.zeros(0, n, dtype=torch.float64)
    for chosen in combinations(range(n), size):
        batches = torch.cat([batches, batches.new_zeros(1, n)])
        batches[-1, list(chosen)] = n / size

    centre = flatten(factors)
    weight, directions = torch.linalg.eigh(moments)
    radius = START * torch.linalg.vector_norm(centre)
    points = centre + radius * (samples.basis @ directions).mT
    for _ in range(STEPS):
        batch = batches.repeat(len(points), 1)[:, None, :]
        points = points.repeat_interleave(len(batches), 0)
        run = gradient_descent(
            unflatten(points, widths), target, step_size, 1, input_root=inputs,
            observed=batch.repeat(1, widths[-1], 1),
        )  # fmt: skip
        points = flatten(run.factors)
    squares = (points - centre).square().sum(1).reshape(len(weight), -1).mean(1)
    return float(((weight * squares).sum() / (weight.sum() * radius**2)) ** (1 / STEPS))
