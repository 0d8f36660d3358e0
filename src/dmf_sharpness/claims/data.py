"""C1 and C2 on real data: trained networks, the least sharpness, and how it depends on the classes."""

from collections.abc import Iterator
from itertools import pairwise

import pandas as pd

from dmf_sharpness.claims.claim import PROBLEM, Claim, judged, judged_from
from dmf_sharpness.claims.larger_bounds import next_larger
from dmf_sharpness.claims.tolerances import EXACT, ITERATED, NEAR_END, WHITE

HALF = 0.5
"""The variance ``p(1 − p)`` of the indicator of a class is largest at this share."""
DEPENDENT = 0.3
"""From this share on the variance is below the share by more than linear maps leave unexplained."""


def _on_data(table: pd.DataFrame) -> pd.DataFrame:
    """The first row of each problem on data."""
    return table[table.data != "none"].drop_duplicates([*PROBLEM])


@judged_from("studies/trained")
def trained_networks(table: pd.DataFrame) -> Iterator[Claim]:
    """The closed form at the minimizers beside which training in single precision ended."""
    rows = table[(table.distance <= NEAR_END) & table.lanczos_sharpness.notna()]
    if rows.empty:
        return
    largest = max(rows.widths, key=_parameters)
    yield judged(
        "C1.trained",
        origin="ours",
        claim=(
            "It is the largest Hessian eigenvalue at networks trained in single precision, up to "
            f"{largest} with {_parameters(largest):,} parameters, moved by at most {NEAR_END:.0e} of their "
            "norm to a minimizer."
        ),
        statistic="relative difference of closed form and Lanczos on Hessian-vector products",
        tolerance=ITERATED,
        rows=rows,
        values=(rows.sharpness / rows.lanczos_sharpness - 1).abs(),
        control="the closed form without the data, or the value at flat minimizers",
        control_values=(rows.control_sharpness / rows.lanczos_sharpness - 1).abs(),
    )


def _parameters(widths: str) -> int:
    return sum(a * b for a, b in pairwise(int(width) for width in widths.split("-")))


@judged_from("studies/trained")
def least_sharpness(table: pd.DataFrame) -> Iterator[Claim]:
    """The least sharpness on data."""
    problems = _on_data(table)
    balanced = problems[problems.condition > 1 + WHITE]
    if balanced.empty:
        return
    on_data = table[(table.data != "none") & table.sharpness.notna()]
    minimizers = pd.concat(
        [on_data.assign(value=on_data.sharpness), problems.assign(value=problems.made_sharpness)],
        ignore_index=True,
    )
    # On whitened inputs balanced minimizers are flat.
    white = problems[problems.condition <= 1 + WHITE]
    other = next_larger(white, "flat_sharpness", ["experiment", "widths"]).dropna()
    yield judged(
        "C2.data_bound",
        origin="ours",
        claim=(
            "On data, ‖T − W_{L:1}S‖², no minimizer is flatter than 2L max (‖Tz‖^{L−1}‖Sz‖)^{2/L} over "
            "unit vectors z, neither trained nor made."
        ),
        statistic="relative shortfall of the sharpness",
        tolerance=EXACT,
        rows=minimizers,
        values=1 - minimizers.value / minimizers.flat_sharpness,
        control=(
            "balanced minimizers on whitened data, against the bound on other data, the next larger one of "
            "the same widths"
        ),
        control_values=1 - white.made_sharpness[other.index] / other,
    )
    yield judged(
        "C2.data_attained",
        origin="ours",
        claim=(
            "It is attained by the solution in the first layer and isometries in the others, with suitable "
            "factors: this is λ_flat on data."
        ),
        statistic="relative excess of the sharpness",
        tolerance=EXACT,
        rows=problems,
        values=problems.flat_made / problems.flat_sharpness - 1,
        control="balanced minimizers, which are flat without data, on data that are not whitened",
        control_values=balanced.made_sharpness / balanced.flat_sharpness - 1,
    )


@judged_from("studies/trained")
def class_shares(table: pd.DataFrame) -> Iterator[Claim]:
    """The least sharpness on whitened data whose classes have other shares."""
    problems = _on_data(table)
    problems = problems[problems.largest_share.notna() & (problems.condition <= 1 + WHITE)]
    plain, centred = problems[~problems.centred], problems[problems.centred]
    if plain.empty or centred.empty:
        return

    def outside(rows: pd.DataFrame) -> pd.Series:
        """How far the sharpness is outside of the range that the shares give, relative to its upper end."""
        power = 1 - 1 / rows.depth
        ratio = rows.flat_sharpness / (2 * rows.depth * rows.samples * rows.largest_share**power)
        return pd.concat([ratio - 1, rows.explained**power - ratio], axis=1).max(axis=1)

    yield judged(
        "C2.class_share",
        origin="ours",
        claim=(
            "With whitened inputs and means kept, the least sharpness is 2Ln p^{1−1/L}, p the share of the "
            "largest class, but for the part of it which linear maps do not explain."
        ),
        statistic="relative distance from the range between this and R^{2−2/L} times it",
        tolerance=EXACT,
        rows=plain,
        values=outside(plain),
        control=f"means subtracted, for shares from {DEPENDENT:g} on",
        control_values=outside(centred[centred.largest_share >= DEPENDENT]),
    )
    yield judged(
        "C2.class_means",
        origin="ours",
        claim=(
            "With means subtracted, as a bias does, it does not: beyond a share of one half the least "
            "sharpness falls."
        ),
        statistic="relative growth from one share to the next larger one",
        tolerance=0.0,
        rows=centred[centred.largest_share > HALF],
        values=_growth(centred),
        control="means kept",
        control_values=_growth(plain),
    )


def _growth(rows: pd.DataFrame) -> pd.Series:
    """The relative change of the least sharpness from each share of at least one half to the next."""
    ordered = rows[rows.largest_share >= HALF].sort_values(["depth", "largest_share"])
    change = ordered.groupby("depth").flat_sharpness.pct_change()
    return change[ordered.largest_share > HALF]
