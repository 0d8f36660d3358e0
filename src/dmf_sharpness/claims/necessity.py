"""C2, when the condition is necessary: unbalanced flat minimizers, and searches where there are none."""

import math
from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import ATTAINED, EXACT, UNBALANCED


def _has_closed_form(table: pd.DataFrame) -> pd.Series:
    """Whether the forced excess is that of scalars, at depth 3, rank 1, and in the outer layers."""
    outer = (table.layer == 1) | (table.layer == table.depth)
    return (table.depth <= 3) | (table["rank"] == 1) | outer


@judged_from("studies/unbalanced")
def theorem(table: pd.DataFrame) -> Iterator[Claim]:
    """Both directions of the theorem, over a grid of singular values and widths."""
    # A minimizer whose product is not far enough off is no example, whatever its excess.
    unbalanced_excess = table.excess.where((table["product"] - 1).abs() >= UNBALANCED, math.inf)
    necessary, not_necessary = table[table.necessary], table[~table.necessary]
    yield judged(
        "C2.not_necessary",
        origin="ours",
        claim=(
            "Wherever the theorem says that balance is not necessary there is a flat minimizer with a "
            "product off by 1 % and more (one constructed for each problem)."
        ),
        statistic="relative excess sharpness of an unbalanced minimizer",
        tolerance=EXACT,
        rows=not_necessary,
        values=unbalanced_excess[~table.necessary],
        control="the flattest found with a product off by 5 %, where the theorem says necessary",
        control_values=unbalanced_excess[table.necessary],
    )
    yield judged(
        "C2.necessary",
        origin="ours",
        claim=(
            "Where it says that balance is necessary, no search with a product held off finds less "
            "excess than is proved there."
        ),
        statistic="excess that the product forces, minus the excess",
        tolerance=EXACT,
        rows=necessary,
        values=necessary.forced_excess - necessary.excess,
        control="the constructed minimizers, where the theorem says not necessary",
        control_values=not_necessary.forced_excess - not_necessary.excess,
    )
    closed = necessary[_has_closed_form(necessary)]
    yield judged(
        "C2.forced",
        origin="ours",
        claim=(
            "No more is forced: the search ends there (depth 3, rank 1, and the outer layers of deeper "
            "networks)."
        ),
        statistic="excess at the end, minus the excess that the product forces",
        tolerance=ATTAINED,
        rows=closed,
        values=closed.end_excess - closed.forced_excess,
        control="where the same searches started",
        control_values=closed.start_excess - closed.forced_excess,
    )
