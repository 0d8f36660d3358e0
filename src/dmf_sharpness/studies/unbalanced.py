"""The flattest minimizers with a product off balance: flat ones by construction, others by search."""

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
from dmf_sharpness.oracles import dense_spectrum

NONZERO = 1e-6
"""A relative product below this is zero up to rounding, and cannot be held at another value."""

STUDY = StudyOptions(needs=("product_ratios", "steps"), takes=("seed",))


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Flat minimizers with a product off balance, constructed and searched for.

    The construction needs the target alone, and is made where ``balance_is_necessary`` says no. The search
    is the same everywhere: from every minimizer, and for each of ``spec.product_ratios``, the sharpness is
    minimized with a product next to an end held at the ratio, ``x_2`` or ``x_{L−1}``, along each of several
    pairs of singular vectors of the target.

    Returns:
        A row per minimizer and ratio: ``rank`` and ``least_share`` (``σ_r/σ_1``) of the target,
        ``necessary``, ``product_ratio``, ``forced_excess`` (the excess that the product forces if balance is
        necessary), ``start_excess``, ``end_excess`` and ``found_excess`` (the relative excess sharpness at
        the start and at the end of the best search, and the least on the way of any), and ``product`` and
        ``unbalanced_excess``, the largest relative product and the excess of an unbalanced minimizer: by the
        dense Hessian of the one constructed, or the ratio and ``found_excess`` where balance is necessary.
    """
    rows = []
    depth, hidden = ensemble.depth, ensemble.widths[1:-1]
    for b in range(len(ensemble.kinds)):
        factors, target = ensemble.one(b), ensemble.target[b]
        flat = float(flat_sharpness(target, depth))
        rank, values = target_rank(target), torch.linalg.svdvals(target)
        necessary = balance_is_necessary(target, hidden)
        for k, ratio in enumerate(spec.product_ratios):
            searches = [
                minimize_sharpness(factors, spec.steps, held)
                for held in _held(factors, target, rank, ratio)
            ]
            best = min(searches, key=lambda search: search.value)
            found = min(search.least for search in searches) / flat - 1
            product, unbalanced = ratio, found
            if not necessary:
                seed = [spec.seed, ensemble.network, b, k]
                made = flat_unbalanced_minimizer(target, hidden, seed)
                product = float(relative_products(made).max())
                unbalanced = float(dense_spectrum(made, target)[0]) / flat - 1
            rows.append(
                {
                    "minimizer": b,
                    "rank": rank,
                    "least_share": float(values[rank - 1] / values[0]),
                    "necessary": necessary,
                    "product_ratio": ratio,
                    "forced_excess": forced_excess(ratio, depth, min(2, depth - 1), rank),
                    "start_excess": best.start / flat - 1,
                    "end_excess": best.value / flat - 1,
                    "found_excess": found,
                    "product": product,
                    "unbalanced_excess": unbalanced,
                }
            )
    table = pd.DataFrame(rows)
    minimizers = ensemble.rows(table.pop("minimizer").to_numpy())
    return pd.concat([minimizers, table], axis=1)


def _held(factors: list[Tensor], target: Tensor, rank: int, ratio: float) -> list[Held]:
    """The products to hold, along pairs of singular vectors of the target for which they are not zero.

    The vectors of a pair are first ones, last ones of a nonzero singular value, or last ones of all.
    """
    U, _, Vt = torch.linalg.svd(target)
    depth, left, right = len(factors), len(U) - 1, len(Vt) - 1
    places = [(0, 0), (rank - 1, 0), (0, rank - 1), (left, 0), (0, right), (left, right)]
    held = [
        Held(layer, ratio, (U[:, j], Vt[k]))
        for layer in sorted({2, depth - 1})
        for j, k in dict.fromkeys(places)
    ]
    return [one for one in held if float(one.product(factors)) > NONZERO]
