"""C3 and C4: at depth 2 and for scalars the condition is also necessary."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.minimizer_groups import (
    EXCESS,
    factorization,
    has_wrong_value,
    is_balanced,
    is_scalar,
    is_settled,
)
from dmf_sharpness.claims.tolerances import ATTAINED, EXACT, UNBALANCED


def _violation(table: pd.DataFrame) -> pd.Series:
    return table.least_excess - table.excess


def _deviation(table: pd.DataFrame) -> pd.Series:
    return (table.excess - table.balance_excess).abs() / (1 + table.excess)


@judged_from("sharpness")
def depth_2(table: pd.DataFrame) -> Iterator[Claim]:
    """The condition at depth 2, sufficient and necessary."""
    table = factorization(table)
    here = table.depth == 2
    yield from _necessary_and_sufficient(table, here, here, "C3", "At depth 2")


@judged_from("sharpness")
def scalars(table: pd.DataFrame) -> Iterator[Claim]:
    """The condition in deep scalar factorization, sufficient and necessary."""
    table = factorization(table)
    here, deep = is_scalar(table), table.depth != 2
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
    others = table[~is_settled(table)]
    flat_others = others[others.excess <= EXACT]
    unequal = others[~is_balanced(others) & ~has_wrong_value(others)]
    rows = table[here & is_balanced(table)]
    yield judged(
        f"{claim}.sufficient",
        origin="paper",
        claim=f"{place} equal spectral products of the right value make a minimizer flat.",
        statistic=EXCESS,
        tolerance=EXACT,
        rows=rows,
        values=rows.excess,
        control="equal products of another value",
        control_values=table[has_wrong_value(table) & here_alone].excess,
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
    here = is_scalar(table) & (table.depth != 2)
    yield from _searched(table, here, "C4", "In deep scalar factorization")


def _searched(table: pd.DataFrame, here: pd.Series, claim: str, place: str) -> Iterator[Claim]:
    """The two rows that the searches for counter-examples add to C3 and to C4."""
    rows, others = table[here], table[~is_settled(table)]
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
