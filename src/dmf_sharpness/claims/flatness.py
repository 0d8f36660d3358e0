"""C2 to C5, flatness: the conditions for a minimizer to be flat, and the balance of its layers."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import (
    ATTAINED,
    BALANCED,
    EXACT,
    FAR_APART,
    FLAT_BALANCE,
    UNBALANCED,
    UNBALANCED_FROBENIUS,
)

EXCESS = "relative excess sharpness, λ_max / λ_flat − 1"


# Groups of rows of the sharpness table.


def _factorization(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.flat_sharpness.notna()]


def _is_scalar(table: pd.DataFrame) -> pd.Series:
    """Whether the product of the factors is a single number."""
    return table.widths.str.match(r"1-.*-1$")


def _is_settled(table: pd.DataFrame) -> pd.Series:
    """Whether the paper claims that the balance condition is necessary: at depth 2 and for scalars."""
    return _is_scalar(table) | (table.depth == 2)


def _is_balanced(table: pd.DataFrame) -> pd.Series:
    """Whether all spectral products have the right value."""
    return table.spectral_imbalance <= BALANCED


def _has_wrong_value(table: pd.DataFrame) -> pd.Series:
    """Whether all spectral products are equal, but have a wrong value."""
    return (table.product_spread <= BALANCED) & ~_is_balanced(table)


def _violation(table: pd.DataFrame) -> pd.Series:
    return table.least_excess - table.excess


def _deviation(table: pd.DataFrame) -> pd.Series:
    return (table.excess - table.balance_excess).abs() / (1 + table.excess)


# C2: equal spectral products of the right value are sufficient.


@judged_from("sharpness")
def sufficient(table: pd.DataFrame) -> Iterator[Claim]:
    """Flatness of minimizers that meet the sufficient condition, at every depth."""
    table = _factorization(table)
    rows = table[_is_balanced(table)]
    yield judged(
        "C2",
        origin="paper",
        claim="Equal spectral products ‖L_i‖‖R_i‖ = ‖M‖^{1−1/L} make a minimizer flat.",
        statistic=EXCESS,
        tolerance=EXACT,
        rows=rows,
        values=rows.excess,
        control="equal products of another value",
        control_values=table[_has_wrong_value(table)].excess,
    )


@judged_from("sharpness")
def right_value(table: pd.DataFrame) -> Iterator[Claim]:
    """Minimizers with equal products of a wrong value: sharp ones and flat ones."""
    table = _factorization(table)
    wrong = table[_has_wrong_value(table)]
    # At a flat minimizer a common value is at most √(L/2) times the right one (docs/flatness.md).
    may_be_flat = 1 + wrong.spectral_imbalance <= (wrong.depth / 2) ** 0.5
    rows = wrong[(wrong.kind == "equal_sharp") | ~may_be_flat]
    others = table[~_is_balanced(table) & ~_has_wrong_value(table)]

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
        yield judged(
            "C2.another_value",
            origin="ours",
            claim="Nor is a wrong common value always sharp: flat with all products 1.05 to 1.2 p*.",
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
    table = _factorization(table)
    uneven = table[table.spectral_imbalance >= UNBALANCED]
    made = uneven.kind.isin(["flat_unbalanced", "unequal_flat", "explicit"])
    rows = uneven[made & ~_is_settled(uneven) & ~_has_wrong_value(uneven)]
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
    midpoints = table[table["mean"] == "geodesic"]
    random, flat = midpoints[midpoints.pair == "random"], midpoints[midpoints.pair == "flat"]
    yield judged(
        "C2.convex",
        origin="ours",
        claim="On an orbit of gauges log λ_max is geodesically convex, so no local minimum is above λ_flat.",
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
    yield judged(
        "C2.bound",
        origin="ours",
        claim="No minimizer is flatter than λ_flat: minimizing the sharpness never gets below it.",
        statistic="relative shortfall of the least sharpness on the way",
        tolerance=EXACT,
        rows=table,
        values=1 - table.least_ratio,
        control="a bound one part in a million higher",
        control_values=1 + 1e-6 - table.least_ratio,
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


# C3 and C4: at depth 2 and for scalars the condition is also necessary.


@judged_from("sharpness")
def depth_2(table: pd.DataFrame) -> Iterator[Claim]:
    """The condition at depth 2, sufficient and necessary."""
    table = _factorization(table)
    here = table.depth == 2
    yield from _necessary_and_sufficient(table, here, here, "C3", "At depth 2")


@judged_from("sharpness")
def scalars(table: pd.DataFrame) -> Iterator[Claim]:
    """The condition in deep scalar factorization, sufficient and necessary."""
    table = _factorization(table)
    here, deep = _is_scalar(table), table.depth != 2
    yield from _necessary_and_sufficient(
        table, here, here & deep, "C4", "In deep scalar factorization"
    )


def _necessary_and_sufficient(
    table: pd.DataFrame, here: pd.Series, here_alone: pd.Series, claim: str, place: str
) -> Iterator[Claim]:
    """The three rows of C3 and of C4.

    Args:
        table: The sharpness table of matrix factorization.
        here: A mask of the rows that the claim is about.
        here_alone: A mask of those that belong to this claim only, from which the controls are taken.
        claim: ``C3`` or ``C4``.
        place: The first words of the sentences, which say where the claim holds.
    """
    others = table[~_is_settled(table)]
    flat_others = others[others.excess <= EXACT]
    unequal = others[~_is_balanced(others) & ~_has_wrong_value(others)]
    rows = table[here & _is_balanced(table)]
    yield judged(
        f"{claim}.sufficient",
        origin="paper",
        claim=f"{place} equal spectral products of the right value make a minimizer flat.",
        statistic=EXCESS,
        tolerance=EXACT,
        rows=rows,
        values=rows.excess,
        control="equal products of another value",
        control_values=table[_has_wrong_value(table) & here_alone].excess,
    )
    rows = table[here]
    yield judged(
        f"{claim}.necessary",
        origin="paper",
        claim=f"{place} nothing else does: one product off by a factor x forces a positive excess.",
        statistic="least excess that the imbalance allows, minus the excess",
        tolerance=EXACT,
        rows=rows,
        values=_violation(rows),
        control="flat minimizers of three and more matrix factors, with a product off by 1 % and more",
        control_values=_violation(flat_others[flat_others.spectral_imbalance >= UNBALANCED]),
    )
    yield judged(
        f"{claim}.exact",
        origin="ours",
        claim=f"{place} the relative excess sharpness is mean_i x_i² − 1, x_i the relative products.",
        statistic="difference of the excess and mean_i x_i² − 1",
        tolerance=EXACT,
        rows=rows,
        values=_deviation(rows),
        control="three and more matrix factors with unequal products",
        control_values=_deviation(unequal),
    )


@judged_from("studies/necessity")
def depth_2_searched(table: pd.DataFrame) -> Iterator[Claim]:
    """Searches for a counter-example at depth 2."""
    yield from _searched(table, table.depth == 2, "C3", "At depth 2")


@judged_from("studies/necessity")
def scalars_searched(table: pd.DataFrame) -> Iterator[Claim]:
    """Searches for a counter-example among scalars."""
    here = _is_scalar(table) & (table.depth != 2)
    yield from _searched(table, here, "C4", "In deep scalar factorization")


def _searched(table: pd.DataFrame, here: pd.Series, claim: str, place: str) -> Iterator[Claim]:
    """The two rows that the searches for counter-examples add to C3 and to C4."""
    rows, others = table[here], table[~_is_settled(table)]
    yield judged(
        f"{claim}.search",
        origin="ours",
        claim=f"{place} no search finds less excess than the product held off balance forces.",
        statistic="least excess that the imbalance allows, minus the least found",
        tolerance=EXACT,
        rows=rows,
        values=rows.least_excess - rows.found_excess,
        control="the same search on four and five matrix factors",
        control_values=others.least_excess - others.found_excess,
    )
    yield judged(
        f"{claim}.tight",
        origin="ours",
        claim=f"{place} no more is forced: the search ends there.",
        statistic="excess at the end, minus the least that the imbalance allows",
        tolerance=ATTAINED,
        rows=rows,
        values=rows.end_excess - rows.least_excess,
        control="where the same searches started",
        control_values=rows.start_excess - rows.least_excess,
    )


# C5: flat minimizers are balanced in the spectral norm, but need not be balanced in the Frobenius norm.


@judged_from("sharpness")
def frobenius(table: pd.DataFrame) -> Iterator[Claim]:
    """Flatness of minimizers that are not balanced in the Frobenius norm."""
    table = _factorization(table)
    apart = table.frobenius_imbalance >= UNBALANCED_FROBENIUS
    rows = table[_is_balanced(table) & apart]
    yield judged(
        "C5.frobenius",
        origin="paper",
        claim="Spectrally balanced minimizers are flat even with Frobenius norms far apart.",
        statistic=EXCESS,
        tolerance=EXACT,
        rows=rows,
        values=rows.excess,
        control="random minimizers as far apart in Frobenius norm",
        control_values=table[(table.kind == "random") & ~_is_balanced(table) & apart].excess,
    )


@judged_from("sharpness")
def hundred(table: pd.DataFrame) -> Iterator[Claim]:
    """Flatness with Frobenius norms a factor of a hundred apart, if an experiment has such minimizers."""
    table = _factorization(table)
    apart = table.frobenius_imbalance >= FAR_APART
    random = table[(table.kind == "random") & ~_is_balanced(table) & ~apart]
    live = table[apart & (table.kind == "flat_live")]
    rows = table[_is_balanced(table) & apart & (table.kind != "flat_live")]
    if len(rows):
        yield judged(
            "C5.hundred",
            origin="ours",
            claim=(
                "A block of a layer that no layer writes to and no layer reads can be of any size: "
                "Frobenius norms a factor of 100 apart, and still flat."
            ),
            statistic=EXCESS,
            tolerance=EXACT,
            rows=rows,
            values=rows.excess,
            control="unbalanced random minimizers, whose Frobenius norms are closer",
            control_values=random.excess,
        )
    if len(live):
        yield judged(
            "C5.live",
            origin="ours",
            claim=(
                "Without such a block as well, from three factors on: all hidden widths the rank, so that "
                "every unit is written and read, norms a factor of 100 and more apart, and flat."
            ),
            statistic=EXCESS,
            tolerance=EXACT,
            rows=live,
            values=live.excess,
            control="unbalanced random minimizers, whose Frobenius norms are closer",
            control_values=random[random.experiment.isin(live.experiment)].excess,
        )


@judged_from("studies/flattest")
def spectral(table: pd.DataFrame) -> Iterator[Claim]:
    """The spectral balance of flat minimizers that were found, where the condition is necessary."""
    flat = table[table.end_ratio - 1 <= EXACT]
    rows = flat[_is_settled(flat)]
    yield judged(
        "C5.spectral",
        origin="paper",
        claim=(
            "Flat minimizers (depth 2 and scalars), found by minimizing the sharpness, are "
            "spectral-norm balanced."
        ),
        statistic="relative deviation of ‖L_i‖‖R_i‖ from ‖M‖^{1−1/L}",
        tolerance=FLAT_BALANCE,
        rows=rows,
        values=rows.imbalance,
        control="flat minimizers of five matrix factors, found alike",
        control_values=flat[~_is_settled(flat) & (flat.depth == 5)].imbalance,
    )


@judged_from("studies/flattest")
def top_path(table: pd.DataFrame) -> Iterator[Claim]:
    """The path of Mulayoff and Michaeli (arXiv:2002.04710), at flat minimizers that a search found."""
    rows = table[table.end_ratio - 1 <= EXACT]
    yield judged(
        "C5.path",
        origin="ours",
        claim=(
            "At flat minimizers of any depth, found alike, adjacent layers share a singular vector "
            "along the top path, as Mulayoff and Michaeli have it."
        ),
        statistic="relative defect of the singular pairs",
        tolerance=FLAT_BALANCE,
        rows=rows,
        values=rows.path_defect,
        control="where the same searches started",
        control_values=rows.start_path_defect,
    )
