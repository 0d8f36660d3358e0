"""C2, flatness: equal spectral products of the right value are sufficient, and nothing is flatter."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.larger_bounds import next_larger
from dmf_sharpness.claims.minimizer_groups import (
    EXCESS,
    factorization,
    has_wrong_value,
    is_balanced,
    is_settled,
)
from dmf_sharpness.claims.tolerances import ATTAINED, EXACT, SHARPEST, UNBALANCED


@judged_from("sharpness")
def sufficient(table: pd.DataFrame) -> Iterator[Claim]:
    """Flatness of minimizers that meet the sufficient condition, at every depth."""
    table = factorization(table)
    rows = table[is_balanced(table)]
    yield judged(
        "C2",
        origin="paper",
        claim="Equal spectral products ‖L_i‖‖R_i‖ = ‖M‖^{1−1/L} make a minimizer flat.",
        statistic=EXCESS,
        tolerance=EXACT,
        rows=rows,
        values=rows.excess,
        control="equal products of another value",
        control_values=table[has_wrong_value(table)].excess,
    )


@judged_from("sharpness")
def right_value(table: pd.DataFrame) -> Iterator[Claim]:
    """Minimizers with equal products of a wrong value: sharp ones and flat ones."""
    table = factorization(table)
    wrong = table[has_wrong_value(table)]
    # At a flat minimizer a common value is at most √(L/2) times the right one (docs/flatness.md).
    may_be_flat = 1 + wrong.spectral_imbalance <= (wrong.depth / 2) ** 0.5
    rows = wrong[(wrong.kind == "equal_sharp") | ~may_be_flat]
    others = table[~is_balanced(table) & ~has_wrong_value(table)]

    def off(rows: pd.DataFrame) -> pd.Series:
        largest = 1 + rows.spectral_imbalance  # the largest product over the right value
        return ((1 + rows.excess) / largest**2 - 1).abs()

    yield judged(
        "C2.constant",
        origin="ours",
        claim=(
            "The value matters: minimizers exist with all products x times the right one and λ_max = "
            "x² λ_flat, the most that such products allow."
        ),
        statistic="relative difference of λ_max / λ_flat and x²",
        tolerance=EXACT,
        rows=rows,
        values=off(rows),
        control="the largest product as x where they are not equal",
        control_values=off(others),
    )
    possible = wrong[may_be_flat]
    flat = possible[possible.kind == "explicit"]
    if len(flat):
        common = 1 + flat.spectral_imbalance
        yield judged(
            "C2.another_value",
            origin="ours",
            claim=(
                "Nor is a wrong common value always sharp: flat with all products from "
                f"{common.min():.3g} p* to {common.max():.3g} p*."
            ),
            statistic=EXCESS,
            tolerance=EXACT,
            rows=flat,
            values=flat.excess,
            control="other minimizers with common values in the range that flatness allows",
            control_values=possible[possible.kind == "equal_sharp"].excess,
        )


@judged_from("sharpness")
def not_necessary(table: pd.DataFrame) -> Iterator[Claim]:
    """Flat minimizers whose products are not equal."""
    table = factorization(table)
    uneven = table[table.spectral_imbalance >= UNBALANCED]
    made = uneven.kind.isin(["flat_unbalanced", "unequal_flat", "explicit"])
    rows = uneven[made & ~is_settled(uneven) & ~has_wrong_value(uneven)]
    yield judged(
        "C2.necessity",
        origin="ours",
        claim=(
            "It is not necessary in general: three and more matrix factors, unequal singular values, "
            "flat with a product off by 1 % and more."
        ),
        statistic=EXCESS,
        tolerance=EXACT,
        rows=rows,
        values=rows.excess,
        control="random minimizers with products off by as much",
        control_values=uneven[uneven.kind == "random"].excess,
    )


@judged_from("studies/convexity")
def convex(table: pd.DataFrame) -> Iterator[Claim]:
    """Convexity of the sharpness on the orbits of gauges, and its equality case."""
    table = table[table.start_ratio <= SHARPEST]
    midpoints = table[table["mean"] == "geodesic"]
    random, flat = midpoints[midpoints.pair == "random"], midpoints[midpoints.pair == "flat"]
    yield judged(
        "C2.convex",
        origin="ours",
        claim=(
            "On an orbit of gauges log λ_max is geodesically convex, so no local minimum is above λ_flat: "
            f"seen halfway between minimizers with λ_max up to {midpoints.start_ratio.max():.0e} λ_flat."
        ),
        statistic="log λ_max at the midpoint of a geodesic, minus the mean at its ends",
        tolerance=EXACT,
        rows=midpoints,
        values=midpoints.defect,
        control="the mean of the gauges instead of the midpoint of the geodesic",
        control_values=table[table["mean"] == "gauges"].defect,
    )
    yield judged(
        "C2.convex_attained",
        origin="ours",
        claim="Halfway between flat minimizers of an orbit, found by search, lies a flat one.",
        statistic="difference of log λ_max at the midpoint and the mean at its ends",
        tolerance=ATTAINED,
        rows=flat,
        values=flat.defect.abs(),
        control="halfway between random minimizers of an orbit",
        control_values=random.defect.abs(),
    )


@judged_from("studies/flattest")
def least(table: pd.DataFrame) -> Iterator[Claim]:
    """The lower bound ``λ_flat`` of Mulayoff and Michaeli (arXiv:2002.04710), against searches for less."""
    other = next_larger(table, "flat_sharpness")
    sharper = table[other.notna()]
    yield judged(
        "C2.bound",
        origin="ours",
        claim="No minimizer is flatter than λ_flat: minimizing the sharpness never gets below it.",
        statistic="relative shortfall of the least sharpness on the way",
        tolerance=EXACT,
        rows=table,
        values=1 - table.least_ratio,
        control="λ_flat of another target, the next larger one of the same network",
        control_values=1 - sharper.least_ratio * sharper.flat_sharpness / other[sharper.index],
    )


@judged_from("studies/flattest")
def attained(table: pd.DataFrame) -> Iterator[Claim]:
    """Attainment of the lower bound at the ends of the same searches."""
    yield judged(
        "C2.attained",
        origin="ours",
        claim="From random minimizers, one descent of the sharpness ends at λ_flat.",
        statistic="relative excess sharpness at the end",
        tolerance=ATTAINED,
        rows=table,
        values=table.end_ratio - 1,
        control="where the same searches started",
        control_values=table.start_ratio - 1,
    )
