"""Flatness in the trace: a search for the least trace of the Hessian, and the sharpness that it ends at."""

import numpy as np
import pandas as pd
import torch

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.frames import target_rank
from dmf_sharpness.minimizers.trace_flat import minimize_trace
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.network.factors import Factors, end_to_end
from dmf_sharpness.network.trace import flat_trace, trace_flat_ratio, trace_flat_spectrum
from dmf_sharpness.oracles import dense_spectrum

STUDY = StudyOptions(needs=("steps",))


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """BFGS on the trace from every minimizer, with at most ``spec.steps`` iterations.

    All traces and eigenvalues are those of the dense autograd Hessian, but for the bound and ``least_trace``.

    Returns:
        A row per minimizer: ``flat_trace`` (the bound), ``start_trace``, ``end_trace`` and
        ``least_trace`` (the trace at the start, at the end, and at its least on the way, relative to the
        bound), ``end_sharpness`` (relative to ``λ_flat``), ``predicted_sharpness`` (that of trace-flat
        minimizers),
        ``start_spectrum_difference`` and ``end_spectrum_difference`` (the largest difference from the
        spectrum of trace-flat minimizers, relative to the largest eigenvalue) and ``residual`` (of the
        product at the end, relative to the target).

    Raises:
        UserError: A target does not have full rank, which the search needs.
    """
    depth, rows = ensemble.depth, []
    for b in range(len(ensemble.kinds)):
        factors, target = ensemble.one(b), ensemble.target[b]
        if target_rank(target) < min(target.shape):
            raise UserError(
                f"studies.trace: expected targets of full rank {min(target.shape)}, "
                f"got rank {target_rank(target)}"
            )
        bound = flat_trace(target, depth)
        search = minimize_trace(factors, spec.steps)
        missed = torch.linalg.matrix_norm(end_to_end(search.factors) - target)
        start, end = (_measured(point, target) for point in (factors, search.factors))
        rows.append(
            {
                "flat_trace": bound,
                "start_trace": start["trace"],
                "end_trace": end["trace"],
                "least_trace": search.least / bound,
                "end_sharpness": end["sharpness"],
                "predicted_sharpness": trace_flat_ratio(target, depth),
                "start_spectrum_difference": start["spectrum_difference"],
                "end_spectrum_difference": end["spectrum_difference"],
                "residual": float(missed / torch.linalg.matrix_norm(target)),
            }
        )
    return pd.concat([ensemble.rows(np.arange(len(rows))), pd.DataFrame(rows)], axis=1)


def _measured(factors: Factors, target: torch.Tensor) -> dict[str, float]:
    depth, dense = len(factors), dense_spectrum(factors, target)
    predicted = trace_flat_spectrum(target, depth)
    length = max(len(dense), len(predicted))
    filled = [
        torch.nn.functional.pad(values, (0, length - len(values))).sort(descending=True).values
        for values in (dense, predicted)
    ]
    return {
        "trace": float(dense.sum()) / flat_trace(target, depth),
        "sharpness": float(dense[0] / flat_sharpness(target, depth)),
        "spectrum_difference": float((filled[0] - filled[1]).abs().max() / dense[0]),
    }
