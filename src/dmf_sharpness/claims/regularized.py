"""E, extension: the Hessian spectrum, the norms and the collapse in the regularized problem."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import PROBLEM, Claim, judged, judged_from
from dmf_sharpness.claims.larger_bounds import next_larger
from dmf_sharpness.claims.tolerances import DESCENDED, EXACT, SPECTRUM

STATISTIC = "largest eigenvalue difference over the largest eigenvalue, of the dense Hessian"
CONTROL = "minimizers of the problem without regularization"


def _scalar(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """The points of one source in scalar factorization, where the spectrum has a closed form."""
    return table[(table.source == source) & table.spectrum_difference.notna()]


@judged_from("studies/regularized")
def spectrum(table: pd.DataFrame) -> Iterator[Claim]:
    """The Hessian spectrum at minimizers that were constructed by the closed form."""
    rows = _scalar(table, "closed form")
    yield judged(
        "E.spectrum",
        origin="extension",
        claim="With ℓ² regularization the Hessian spectrum at scalar minimizers has a closed form.",
        statistic=STATISTIC,
        tolerance=SPECTRUM,
        rows=rows,
        values=rows.spectrum_difference,
        control=CONTROL,
        control_values=_scalar(table, "not regularized").spectrum_difference,
    )


@judged_from("studies/regularized")
def constant(table: pd.DataFrame) -> Iterator[Claim]:
    """The Hessian spectrum at minimizers that descent found."""
    rows = _scalar(table, "descent")
    yield judged(
        "E.constant",
        origin="extension",
        claim="It is the same at all minimizers: at those that descent finds, too.",
        statistic=STATISTIC,
        tolerance=DESCENDED,
        rows=rows,
        values=rows.spectrum_difference,
        control=CONTROL,
        control_values=_scalar(table, "not regularized").spectrum_difference,
    )


@judged_from("studies/regularized")
def norms(table: pd.DataFrame) -> Iterator[Claim]:
    """The Frobenius norms of the layers, which the regularization makes equal."""

    def off(rows: pd.DataFrame) -> pd.Series:
        most, least = rows.most_norm - rows.predicted_norm, rows.predicted_norm - rows.least_norm
        return pd.concat([most, least], axis=1).max(axis=1)

    rows = table[table.source == "descent"]
    yield judged(
        "E.norms",
        origin="extension",
        claim="All layers of all minimizers that descent finds have one Frobenius norm, the predicted one.",
        statistic="largest difference from it",
        tolerance=DESCENDED,
        rows=rows,
        values=off(rows),
        control=CONTROL,
        control_values=off(table[table.source == "not regularized"]),
    )


@judged_from("studies/regularized")
def least_loss(table: pd.DataFrame) -> Iterator[Claim]:
    """The lower bound on the regularized loss, against the ends of all descents."""
    rows = table[table.source.isin(["descent", "local minimum"])]
    other = next_larger(rows, "least_loss", PROBLEM)
    # Beyond the collapse, which is at the share 1, a stronger regularization does not cost more.
    best = rows[(rows.source == "descent") & (rows.share < 1)]
    yield judged(
        "E.least",
        origin="extension",
        claim="No descent gets below the closed form of the least regularized loss.",
        statistic="relative shortfall of the loss at the end",
        tolerance=EXACT,
        rows=rows,
        values=1 - rows.loss / rows.least_loss,
        control="the least loss with the next stronger regularization, at the lowest ends below μ*",
        control_values=1 - best.loss / other[best.index],
    )


@judged_from("studies/regularized")
def least_loss_attained(table: pd.DataFrame) -> Iterator[Claim]:
    """The same bound from above: the lowest of several descents reaches it."""
    rows = table[table.source == "descent"]
    local = table[table.source == "local minimum"]
    yield judged(
        "E.least_attained",
        origin="extension",
        claim="The lowest of several descents reaches the closed form of the least regularized loss.",
        statistic="relative excess of the loss at the end",
        tolerance=EXACT,
        rows=rows,
        values=(rows.loss / rows.least_loss - 1).abs(),
        control="the local minima at which other descents end",
        control_values=(local.loss / local.least_loss - 1).abs(),
    )


@judged_from("studies/regularized")
def collapse(table: pd.DataFrame) -> Iterator[Claim]:
    """The regularization above which zero is the minimizer."""
    rows = table[table.source == "descent"]
    # Between the two thresholds zero is the minimizer, while a local minimum that is not zero remains.
    between = rows[(rows.share > 1) & (rows.share < rows.vanishing_share)]
    yield judged(
        "E.collapse",
        origin="extension",
        claim="The minimizer collapses to zero at the predicted regularization μ*.",
        statistic="1 where the best end is zero below μ* or is not above it",
        tolerance=0.0,
        rows=rows,
        values=(rows.collapsed != (rows.share > 1)).astype(float),
        control="above μ*, by the threshold at which the local minimum that is not zero vanishes",
        # By that threshold none of these collapses.
        control_values=between.collapsed.astype(float),
    )
