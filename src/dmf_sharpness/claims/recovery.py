"""C3 where entries are missing: which completions are flat, and which recover a matrix of low rank."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import PROBLEM, Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import TRACE_FLAT


@judged_from("studies/recovery")
def flat_completions(table: pd.DataFrame) -> Iterator[Claim]:
    """The completions that were found, against lower bounds that hold for all of them."""
    trace_excess = table.trace / table.trace_bound - 1
    flat, trace_flat = table.solution == "flat", table.solution == "trace_flat"
    yield judged(
        "C3.observed_trace",
        origin="ours",
        claim=(
            "The least trace is a nuclear norm, weighted by the observed entries in rows and columns."
        ),
        statistic="relative excess of the trace over a lower bound from the dual problem",
        tolerance=TRACE_FLAT,
        rows=table[trace_flat],
        values=trace_excess[trace_flat],
        control="completions with the least sharpness",
        control_values=trace_excess[flat],
    )


@judged_from("studies/recovery")
def recovered(table: pd.DataFrame) -> Iterator[Claim]:
    """The distance from the matrix that the entries were taken from."""
    case = [*PROBLEM, "minimizer", "observed_share"]
    errors = table.pivot(index=case, columns="solution", values="recovery_error")
    rows = table[table.solution == "flat"]
    yield judged(
        "C3.recovery",
        origin="ours",
        claim=(
            "The completion with the least trace is nearer to the matrix of rank 1 that the entries are "
            "taken from than the flattest one that was found."
        ),
        statistic="error of the former over that of the latter",
        tolerance=1.0,
        rows=rows,
        values=errors.trace_flat / errors.flat,
        control="the two exchanged",
        control_values=errors.flat / errors.trace_flat,
    )
