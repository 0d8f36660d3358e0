"""C1 and C6 where part of the target is observed: missing or weighted entries, and measurements."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import EXACT, SPECTRUM, THRESHOLD


@judged_from("studies/observed")
def closed_form_of_observed(table: pd.DataFrame) -> Iterator[Claim]:
    """The closed form for part of the target, whose sharpness is another one than that for all of it."""
    yield judged(
        "C1.observed",
        origin="ours",
        claim=(
            "If entries are missing or weighted, or the product is measured, the sharpness is that of the "
            f"operator compressed to what is observed, at depths {table.depth.min()} to "
            f"{table.depth.max()}."
        ),
        statistic="relative difference of exact sharpness and dense Hessian",
        tolerance=EXACT,
        rows=table,
        values=(table.sharpness / table.oracle_sharpness - 1).abs(),
        control="the closed form for all entries",
        control_values=(table.whole_sharpness / table.oracle_sharpness - 1).abs(),
    )
    yield judged(
        "C1.observed_spectrum",
        origin="ours",
        claim="So is the whole nonzero spectrum.",
        statistic="largest difference of the two spectra, relative to λ_max",
        tolerance=SPECTRUM,
        rows=table,
        values=table.spectrum_difference,
        control="the spectrum for all entries",
        control_values=table.whole_spectrum_difference,
    )


@judged_from("studies/observed_threshold")
def threshold_of_observed(table: pd.DataFrame) -> Iterator[Claim]:
    """The limit of stability for the loss of what is observed, as measured."""
    yield judged(
        "C6.observed",
        origin="ours",
        claim=(
            "With this sharpness, gradient descent on what is observed turns from return to escape at "
            "ηλ_max = 2."
        ),
        statistic="relative deviation of the limit found by bisection",
        tolerance=THRESHOLD,
        rows=table,
        values=(table.threshold / 2 - 1).abs(),
        control="the limit with the sharpness for all entries",
        control_values=(table.threshold * table.whole_sharpness / table.sharpness / 2 - 1).abs(),
    )
