"""C2, when the condition is necessary: unbalanced flat minimizers, and searches where there are none."""

import math
from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import ATTAINED, EXACT, UNBALANCED


@judged_from("studies/unbalanced")
def theorem(table: pd.DataFrame) -> Iterator[Claim]:
    """Both directions of the theorem, over a grid of singular values and widths."""
    necessary, not_necessary = table[table.necessary], table[~table.necessary]

    def unbalanced(rows: pd.DataFrame) -> pd.Series:
        # A minimizer whose product is not far enough off is no example, whatever its excess.
        off = (rows["product"] - 1).abs() >= UNBALANCED
        return rows.unbalanced_excess.where(off, math.inf)

    yield judged(
        "C2.not_necessary",
        origin="ours",
        claim=(
            "Wherever the theorem says that balance is not necessary, the construction gives a flat "
            "minimizer with a product off by 1 % and more."
        ),
        statistic="relative excess sharpness of an unbalanced minimizer",
        tolerance=EXACT,
        rows=not_necessary,
        values=unbalanced(not_necessary),
        control="the flattest that a search finds with a product off, where it says necessary",
        control_values=unbalanced(necessary),
    )
    yield judged(
        "C2.necessary",
        origin="ours",
        claim=(
            "Wherever it says that balance is necessary, no search with a product held off finds less "
            "excess than is proved."
        ),
        statistic="excess that the product forces, minus the least excess found",
        tolerance=EXACT,
        rows=necessary,
        values=necessary.forced_excess - necessary.found_excess,
        control="the same search where it says not necessary",
        control_values=not_necessary.forced_excess - not_necessary.found_excess,
    )
    yield judged(
        "C2.forced",
        origin="ours",
        claim="No more than that is forced: the search ends there.",
        statistic="excess at the end, minus the excess that the product forces",
        tolerance=ATTAINED,
        rows=necessary,
        values=necessary.end_excess - necessary.forced_excess,
        control="where the same searches started",
        control_values=necessary.start_excess - necessary.forced_excess,
    )
