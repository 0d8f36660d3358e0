"""The sharpness where part of the target is observed, compared with dense autograd Hessians."""

from collections.abc import Callable
from typing import TypedDict

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.hessian.spectrum import operator_spectrum
from dmf_sharpness.oracles import dense_observed_hessian

STUDY = StudyOptions(needs=("observations", "observed_share"), takes=("seed",))

LEAST_WEIGHT, MOST_WEIGHT = 0.1, 10.0
"""The weights of entries are drawn between these, uniformly in the logarithm."""


class Arguments(TypedDict):
    """The arguments of :func:`dmf_sharpness.sharpness` that say what is observed; one of them is None."""

    observed: Tensor | None
    measurements: Tensor | None


def drawn_observations(ensemble: Ensemble, spec: StudySpec) -> dict[str, Arguments]:
    """What is observed of the targets of a network, for each of ``spec.observations``.

    ``spec.observed_share`` of the entries, drawn at random, are observed, at least one. There are as many
    measurements, with Gaussian matrices.
    """
    d_0, d_L = ensemble.widths[0], ensemble.widths[-1]
    count = max(1, round(spec.observed_share * d_0 * d_L))
    rng = np.random.default_rng([spec.seed, ensemble.network])
    mask = np.zeros(d_0 * d_L, dtype=bool)
    mask[rng.permutation(d_0 * d_L)[:count]] = True
    sizes = np.exp(rng.uniform(np.log(LEAST_WEIGHT), np.log(MOST_WEIGHT), d_0 * d_L))
    matrices = torch.from_numpy(rng.standard_normal((count, d_L, d_0)))
    entries, weights = (torch.from_numpy(w.reshape(d_L, d_0)) for w in (mask, sizes * mask))
    drawn = {
        "mask": Arguments(observed=entries, measurements=None),
        "weights": Arguments(observed=weights, measurements=None),
        "measurements": Arguments(observed=None, measurements=matrices),
    }
    return {name: drawn[name] for name in spec.observations}


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Sharpness and spectrum of all minimizers for the loss of what is observed.

    The factors reproduce the target where it is observed. Elsewhere the target of the dense Hessian has
    other entries, which must not matter.

    Returns:
        A row per minimizer and kind of ``observation``: ``oracle_sharpness`` (of the dense Hessian),
        ``sharpness`` (the closed form), ``whole_sharpness`` (that for all entries), ``spectrum_difference``
        and ``whole_spectrum_difference`` (largest differences of these two spectra from the dense one, over
        ``λ_max``).
    """
    whole = torch.as_tensor(sharpness(ensemble.factors).value)
    whole_spectrum = operator_spectrum(ensemble.factors)
    tables = []
    for observation, arguments in drawn_observations(ensemble, spec).items():
        values = torch.as_tensor(sharpness(ensemble.factors, **arguments).value)
        spectra = operator_spectrum(ensemble.factors, **arguments)
        hessians = [
            dense_observed_hessian(ensemble.one(b), loss)
            for b, loss in enumerate(_losses(ensemble, arguments, spec.seed))
        ]
        oracle = torch.linalg.eigvalsh(torch.stack(hessians)).flip(-1)
        top = oracle[:, 0]
        tables.append(
            ensemble.rows(range(len(values))).assign(
                observation=observation,
                oracle_sharpness=top.numpy(),
                sharpness=values.numpy(),
                whole_sharpness=whole.numpy(),
                spectrum_difference=(_difference(spectra, oracle) / top).numpy(),
                whole_spectrum_difference=(_difference(whole_spectrum, oracle) / top).numpy(),
            )
        )
    return pd.concat(tables, ignore_index=True)


def _difference(predicted: Tensor, oracle: Tensor) -> Tensor:
    """The largest difference of descending spectra ``(B, …)``; the shorter ones are extended by zeros."""
    length = max(predicted.shape[1], oracle.shape[1])
    a, b = (torch.nn.functional.pad(s, (0, length - s.shape[1])) for s in (predicted, oracle))
    return (a - b).abs().amax(1)


def _losses(
    ensemble: Ensemble, arguments: Arguments, seed: int
) -> list[Callable[[Tensor], Tensor]]:
    """The loss of each minimizer as a function of the product, with entries that nobody sees drawn anew."""
    A = arguments["measurements"]
    if A is not None:
        return [_measured_loss(A, torch.einsum("kij,ij->k", A, M)) for M in ensemble.target]
    assert arguments["observed"] is not None
    weights = arguments["observed"].double()
    rng = np.random.default_rng([seed, ensemble.network, 1])
    other = torch.from_numpy(rng.standard_normal(weights.shape))
    return [_weighted_loss(weights, torch.where(weights > 0, M, other)) for M in ensemble.target]


def _weighted_loss(weights: Tensor, target: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda product: (weights * (target - product).square()).sum()


def _measured_loss(A: Tensor, outcomes: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda product: (outcomes - (A * product).sum((1, 2))).square().sum()
