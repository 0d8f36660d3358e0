"""The flattest minimizers with a product off balance: flat ones by construction, others by search."""

import math

import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.forced_excess import forced_excess
from dmf_sharpness.minimizers.frames import target_rank
from dmf_sharpness.minimizers.necessity import balance_is_necessary, flat_unbalanced_minimizer
from dmf_sharpness.minimizers.search import Held, minimize_sharpness
from dmf_sharpness.network.balance import flat_sharpness, relative_products
from dmf_sharpness.network.factors import Factors
from dmf_sharpness.oracles import dense_spectrum

STUDY = StudyOptions(needs=("product_ratios", "steps"), takes=("seed",))


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """For every minimizer and each of ``spec.product_ratios`` a minimizer with a product off balance.

    Where ``balance_is_necessary`` says no, it is constructed, for the target alone. Where it says yes, the
    sharpness is minimized from the minimizer, with the product held at the ratio; the searches take the
    layers in turn.

    Returns:
        A row per minimizer and ratio: ``rank`` and ``least_share`` (``σ_r/σ_1``) of the target,
        ``necessary``, ``layer`` and ``product`` (the value of the product off balance), ``excess`` (its
        relative excess sharpness; of a construction by the dense Hessian, of a search the least on the
        way), ``start_excess`` and ``end_excess`` (of a search; NaN of a construction), and
        ``forced_excess``, what the product would force if balance is necessary.
    """
    rows = []
    hidden = ensemble.widths[1:-1]
    for b in range(len(ensemble.kinds)):
        target = ensemble.target[b]
        flat = float(flat_sharpness(target, ensemble.depth))
        necessary = balance_is_necessary(target, hidden)
        rank, values = target_rank(target), torch.linalg.svdvals(target)
        for k, ratio in enumerate(spec.product_ratios):
            if necessary:
                held = Held((b + k) % ensemble.depth + 1, ratio)
                found = _searched(ensemble.one(b), held, spec.steps, flat)
            else:
                seed = [spec.seed, ensemble.network, b, k]
                made = flat_unbalanced_minimizer(target, hidden, seed)
                found = _constructed(made, target, flat)
            forced = forced_excess(found["product"], ensemble.depth, int(found["layer"]), rank)
            rows.append(
                {
                    "minimizer": b,
                    "rank": rank,
                    "least_share": float(values[rank - 1] / values[0]),
                    "necessary": necessary,
                    **found,
                    "forced_excess": forced,
                }
            )
    table = pd.DataFrame(rows)
    minimizers = ensemble.rows(table.pop("minimizer").to_numpy())
    return pd.concat([minimizers, table], axis=1)


def _searched(factors: Factors, held: Held, steps: int, flat: float) -> dict[str, float]:
    search = minimize_sharpness(factors, steps, held)
    return {
        "layer": held.layer,
        "product": held.value,
        "excess": search.least / flat - 1,
        "start_excess": search.start / flat - 1,
        "end_excess": search.value / flat - 1,
    }


def _constructed(factors: Factors, target: Tensor, flat: float) -> dict[str, float]:
    products = relative_products(factors)
    return {
        "layer": int(products.argmax()) + 1,
        "product": float(products.max()),
        "excess": float(dense_spectrum(factors, target)[0]) / flat - 1,
        "start_excess": math.nan,
        "end_excess": math.nan,
    }
