"""Counter-examples to necessity, searched for: the least sharpness with one spectral product off balance."""

import pandas as pd
import torch

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.search import Held, minimize_sharpness
from dmf_sharpness.network.balance import flat_sharpness, relative_products
from dmf_sharpness.network.least_excess import least_excess

STUDY = StudyOptions(needs=("product_ratios", "steps"))


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """The least sharpness from every minimizer with one product held at each of ``spec.product_ratios``.

    The product that is held is the one that is largest at the start. For three and more matrix factors the
    held problem has local minima: a search finds a flat minimizer with this product where the start has
    the imbalance in directions off the top path, and not where a scalar gauge has to make it.

    Returns:
        A row per search: ``layer`` and ``product_ratio`` (the value at which ``x_i`` is held),
        ``least_excess`` (the lower bound that is proved at depth 2 and for scalars), ``end_excess`` (the
        relative excess sharpness at the end) and ``found_excess`` (the least on the way).
    """
    rows = []
    for b in range(len(ensemble.kinds)):
        factors = ensemble.one(b)
        flat = flat_sharpness(ensemble.target[b], ensemble.depth)
        layer = int(relative_products(factors).argmax()) + 1
        for ratio in spec.product_ratios:
            held = Held(layer, ratio)
            search = minimize_sharpness(factors, spec.steps, held)
            bound = least_excess(torch.tensor(ratio, dtype=torch.float64), ensemble.depth)
            rows.append(
                {
                    "minimizer": b,
                    "layer": held.layer,
                    "product_ratio": ratio,
                    "least_excess": float(bound),
                    "start_excess": search.start / flat - 1,
                    "end_excess": search.value / flat - 1,
                    "found_excess": search.least / flat - 1,
                }
            )
    table = pd.DataFrame(rows)
    minimizers = ensemble.rows(table.pop("minimizer").to_numpy())
    return pd.concat([minimizers, table], axis=1)
