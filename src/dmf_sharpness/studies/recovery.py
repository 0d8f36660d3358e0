"""Completions of a matrix of low rank: how well flat and other interpolating solutions recover it."""

import math

import numpy as np
import pandas as pd
import torch
from numpy.random import Generator
from torch import Tensor

from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.hessian.trace_and_norm import hessian_trace
from dmf_sharpness.minimizers.completion import (
    balanced_factors,
    flat_completion,
    trace_flat_completion,
)
from dmf_sharpness.network.factors import Factors, end_to_end
from dmf_sharpness.network.starts import standard_start

STUDY = StudyOptions(needs=("observed_shares", "steps"), takes=("seed",))

START = 1e-2
"""Gradient descent starts with this multiple of a standard start, near the origin."""
STEP_SIZE = 0.2
"""Its step size, over the largest entry of the spectrum that balanced factors of the target have."""
INTERPOLATING = 1e-8
"""A solution with this residual counts as a minimizer."""
DRAWS = 1000
"""So many masks are drawn at most until each row and each column has an observed entry."""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Complete the target of every minimizer in four ways, from entries that are drawn for each share.

    Only networks of two factors with a hidden width of at least the ends have all completions.

    Returns:
        A row per minimizer, ``observed_share`` and ``solution``: ``flat`` (the least sharpness),
        ``trace_flat`` (the least trace), ``gradient_descent`` (from a small start, with small steps) or
        ``random`` (Gaussian entries where nothing is observed, balanced factors). Columns:
        ``recovery_error`` (of the whole matrix, relative to its norm), ``sharpness`` and ``trace`` for the
        loss of the observed entries, ``sharpness_bound`` and ``trace_bound`` (lower bounds on both over all
        completions), and ``residual`` (of the observed entries, relative). ``sharpness`` and ``trace`` are
        NaN at an end of gradient descent that is not near enough to a minimizer.

    Raises:
        UserError: The network does not have two factors of full width, or no mask has been found.
    """
    widths = ensemble.widths
    if ensemble.depth != 2 or widths[1] < max(widths[0], widths[2]):
        raise UserError(
            "studies.recovery: expected two factors, the hidden width at least the other two, "
            f"got widths {list(widths)}"
        )
    tables = []
    for b in range(len(ensemble.kinds)):
        M = ensemble.target[b]
        for k, share in enumerate(spec.observed_shares):
            rng = np.random.default_rng([spec.seed, ensemble.network, b, k])
            mask = _mask(tuple(M.shape), share, rng)
            rows = _solutions(M, mask, widths, spec.steps, rng)
            table = ensemble.rows([b] * len(rows)).assign(observed_share=share)
            tables.append(pd.concat([table, pd.DataFrame(rows)], axis=1))
    return pd.concat(tables, ignore_index=True)


def _mask(shape: tuple[int, ...], share: float, rng: Generator) -> np.ndarray:
    """Random entries, at least one in each row and in each column."""
    count = math.prod(shape)
    for _ in range(DRAWS):
        mask = np.zeros(count)
        mask[rng.choice(count, max(1, round(share * count)), replace=False)] = 1
        mask = mask.reshape(shape)
        if mask.any(0).all() and mask.any(1).all():
            return mask
    raise UserError(
        f"studies.recovery: expected a share with entries in all rows and columns, got {share:g}"
    )


def _solutions(
    M: Tensor, mask: np.ndarray, widths: tuple[int, ...], steps: int, rng: Generator
) -> list[dict[str, object]]:
    truth, observed = M.numpy(), torch.from_numpy(mask)
    known = truth[mask > 0]
    filled = rng.standard_normal(truth.shape) * np.sqrt((known**2).mean())
    random = np.where(mask > 0, truth, filled)
    flat = flat_completion(truth, mask, random)
    trace_flat = trace_flat_completion(truth, mask)
    found = {
        "flat": _tensors(flat.factors),
        "trace_flat": _tensors(trace_flat.factors),
        "gradient_descent": _descended(M, observed, widths, steps, rng),
        "random": _tensors(balanced_factors(random)),
    }
    rows: list[dict[str, object]] = []
    for solution, factors in found.items():
        product = end_to_end(factors)
        residual = float((observed * (product - M)).norm() / (observed * M).norm())
        ended = residual <= INTERPOLATING
        rows.append(
            {
                "solution": solution,
                "recovery_error": float((product - M).norm() / M.norm()),
                "sharpness": sharpness(factors, observed=observed).value if ended else math.nan,
                "trace": hessian_trace(factors, observed=observed) if ended else math.nan,
                "sharpness_bound": flat.bound,
                "trace_bound": trace_flat.bound,
                "residual": residual,
            }
        )
    return rows


def _tensors(factors: tuple[np.ndarray, np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(W)) for W in factors]


def _descended(
    M: Tensor, observed: Tensor, widths: tuple[int, ...], steps: int, rng: Generator
) -> Factors:
    """The end of gradient descent with small steps, from near the origin."""
    start = [START * W[None] for W in standard_start(widths, "fan_in", rng)]
    largest = 4 * float(torch.linalg.matrix_norm(observed * M, 2))
    step_size = torch.tensor([STEP_SIZE * 2 / largest], dtype=torch.float64)
    run = gradient_descent(start, M[None], step_size, steps, observed=observed)
    return [W[0] for W in run.factors]
