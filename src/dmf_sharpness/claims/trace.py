"""C2, another notion of flat: minimizers with the least trace of the Hessian, and their sharpness."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.larger_bounds import next_larger
from dmf_sharpness.claims.tolerances import ATTAINED, EXACT, TRACE_FLAT


def _searched(table: pd.DataFrame) -> pd.DataFrame:
    """The searches from minimizers that were not built with the least trace."""
    return table[table.kind != "trace_flat"]


@judged_from("studies/trace")
def trace_bound(table: pd.DataFrame) -> Iterator[Claim]:
    """The least trace of the Hessian of all minimizers, and its attainment."""
    least = table[["start_trace", "least_trace", "end_trace"]].min(axis=1)
    rows = _searched(table)
    other = next_larger(table, "flat_trace")[rows.index].dropna()
    larger = rows.loc[other.index]
    yield judged(
        "C2.trace_bound",
        origin="ours",
        claim=(
            "No minimizer has a trace below 2L (d_0 d_L)^{1/L} ‖M‖_*^{2−2/L}, after Gatmiry et al.: "
            "minimizing the trace never gets below it."
        ),
        statistic="relative shortfall of the trace",
        tolerance=EXACT,
        rows=table,
        values=1 - least,
        control="the least trace of another target, the next larger one of the same network",
        control_values=1 - least[other.index] * larger.flat_trace / other,
    )
    yield judged(
        "C2.trace_attained",
        origin="ours",
        claim="From random minimizers, minimizing the trace ends at this value.",
        statistic="relative excess of the dense Hessian's trace",
        tolerance=ATTAINED,
        rows=rows,
        values=rows.end_trace - 1,
        control="the starts",
        control_values=rows.start_trace - 1,
    )


@judged_from("studies/trace")
def trace_flat_spectrum(table: pd.DataFrame) -> Iterator[Claim]:
    """The Hessian spectrum at the minimizers that the searches end at, and its largest eigenvalue."""
    rows = _searched(table)
    yield judged(
        "C2.trace_spectrum",
        origin="ours",
        claim="All minimizers with the least trace have one Hessian spectrum, which has a closed form.",
        statistic="largest eigenvalue difference over λ_max, at the ends of the searches",
        tolerance=TRACE_FLAT,
        rows=rows,
        values=rows.end_spectrum_difference,
        control="the starts",
        control_values=rows.start_spectrum_difference,
    )
    sharper = rows[rows.predicted_sharpness > 1 + TRACE_FLAT]
    yield judged(
        "C2.trace_sharpness",
        origin="ours",
        claim=(
            "They are sharper than λ_flat by a factor in closed form, unless L = 2 and d_0 = d_L, or M is a "
            "multiple of an orthogonal matrix, as scalars are."
        ),
        statistic="relative difference of λ_max / λ_flat and this factor, at the ends of the searches",
        tolerance=TRACE_FLAT,
        rows=rows,
        values=(rows.end_sharpness / rows.predicted_sharpness - 1).abs(),
        control="the factor 1, where it is another one",
        control_values=(sharper.end_sharpness - 1).abs(),
    )
