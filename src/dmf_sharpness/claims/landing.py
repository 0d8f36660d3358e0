"""C6, landings: the minimizers at which gradient descent comes to rest after it has left another one."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import (
    ATTAINED_EXCESSES,
    LANDING_COEFFICIENT,
    LANDING_ERROR,
    LANDING_EXCESS,
    LANDING_REACH,
    MOMENTUM_ORDER,
    PEAK,
    PEAK_EXCESS,
    SECOND_ORDER,
    SECOND_ORDER_EXCESSES,
    SECOND_ORDER_REACH,
    SETTLED,
    SOFT_ERROR,
)


@judged_from("escape")
def lands_stable(runs: pd.DataFrame) -> Iterator[Claim]:
    """The sharpness of the minimizers at which runs land."""
    rows = runs[runs.outcome == "landed"]
    yield judged(
        "C6.flatter",
        origin="ours",
        claim="Where a run lands after an escape, the minimizer is stable: ηλ/2 ≤ 1.",
        statistic="ηλ/2 − 1 at the end",
        tolerance=0.0,
        rows=rows,
        values=rows.end_ratio - 1,
        # By the law the landing is about as far below the limit as the start is above it. So a step size
        # larger by the square of the start's ratio should be above the limit, and typically is.
        control="the same landings, at a step size larger by the factor (ηλ/2)² of the start",
        control_values=rows.end_ratio * rows.step_ratio**2 - 1,
    )


@judged_from("studies/landing")
def lands_at_the_limit(table: pd.DataFrame) -> Iterator[Claim]:
    """The distance of the landings from the limit of stability, which no landing exceeds."""
    near, far = (_at(admissible(table), excess) for excess in ATTAINED_EXCESSES)
    yield judged(
        "C6.limit",
        origin="ours",
        claim=(
            f"The limit of stability is approached: runs that start {ATTAINED_EXCESSES[0]:g} above "
            "it land at most twice that below it."
        ),
        statistic="1 − ηλ/2 at the end",
        tolerance=2 * ATTAINED_EXCESSES[0],
        rows=near,
        values=1 - near.end_ratio,
        control=f"runs that start {ATTAINED_EXCESSES[1]:g} above it",
        control_values=1 - far.end_ratio,
    )


@judged_from("studies/landing")
def landing_law(table: pd.DataFrame) -> Iterator[Claim]:
    """The landing law's prediction of the difference between a landing and the mirror image of its start."""
    rows = _settling(_at(admissible(table), LANDING_EXCESS), LANDING_EXCESS)
    rows = rows[rows.refined.abs() * rows.excess <= LANDING_REACH]

    def off(predicted: pd.Series) -> pd.Series:
        """The error of a predicted ``c_end``, in units of the law's own second-order term."""
        unit = (1 + rows.refined.abs()) * rows.excess**2 * 4 / 3
        return (predicted - rows.end_ratio).abs() / unit

    yield judged(
        "C6.law",
        origin="ours",
        claim=(
            f"At δ = {LANDING_EXCESS:g}, for |ã|δ ≤ {LANDING_REACH:g} and all nonzero ηλ_k ≥ {SETTLED}δ, "
            "the landing law, with nothing fitted, says how far the landing is from the mirror image."
        ),
        statistic="error of 1 − c_end, over (4/3)(1 + |ã|)δ²",
        tolerance=LANDING_ERROR,
        rows=rows,
        values=off(rows.predicted_refined),
        control="the mirror image itself, c_end = 1 − δ",
        control_values=off(1 - rows.excess),
    )


@judged_from("studies/landing")
def second_order(table: pd.DataFrame) -> Iterator[Claim]:
    """The coefficient of the second order, measured by two landings and extrapolated to ``δ = 0``."""
    near, far = SECOND_ORDER_EXCESSES
    key = ["experiment", "network", "minimizer"]
    small = _settling(admissible(table), far)
    small = small[small.refined.abs() * far <= SECOND_ORDER_REACH]
    one, two = (_at(small, excess).set_index(key) for excess in (near, far))
    rows = one[one.index.isin(two.index)]
    first, second = (
        0.75 * (1 - end.end_ratio - end.excess) / end.excess**2
        for end in (rows, two.loc[rows.index])
    )
    measured = (far * first - near * second) / (far - near)
    # The best of three: the mirror image, and the coefficient without one of its terms.
    others = [0 * rows.refined, rows.refined - 1.5, rows.coefficient + 1.5]
    yield judged(
        "C6.second_order",
        origin="ours",
        claim=(
            f"For |ã|δ ≤ {SECOND_ORDER_REACH:g} and all nonzero ηλ_k ≥ {SETTLED}δ at δ = {far:g}, landings "
            "are at 1 − c_end = δ + (4/3) ã δ² + O(δ³), ã = a + 3/2 − b."
        ),
        statistic=f"error of ã, measured at δ = {near:g} and {far:g}, extrapolated to 0",
        tolerance=SECOND_ORDER,
        rows=rows.reset_index(),
        values=(measured - rows.refined).abs(),
        control="the best of no second order, a − b and a + 3/2 for each minimizer",
        control_values=pd.concat([(measured - a).abs() for a in others], axis=1).min(
            axis=1, skipna=False
        ),
    )


@judged_from("studies/landing")
def coefficients_of_two_layers(table: pd.DataFrame) -> Iterator[Claim]:
    """The coefficients of the landing law for two layers and a scalar target, in closed form."""
    scalar = table[table.widths.str.startswith("1-") & table.widths.str.endswith("-1")]
    scalar = scalar.drop_duplicates(["experiment", "network", "minimizer"])
    rows, deeper = scalar[scalar.depth == 2], scalar[scalar.depth > 2]

    def off(rows: pd.DataFrame) -> pd.Series:
        """The larger error of ``a`` and ``ã``, over the sizes of the terms of ``ã``."""
        square = rows.sharpness_ratio**2
        a, b = -2 / (square - 1), (square + 1) / (2 * (square - 1))
        first, refined = rows.coefficient - a, rows.refined - (a + 1.5 - b)
        return np.maximum(first.abs(), refined.abs()) / (a.abs() + 1.5 + b)

    yield judged(
        "C6.two_layers",
        origin="ours",
        claim=(
            "For two layers and a scalar target the landing law has a = −2/(ρ² − 1) and "
            "ã = (ρ² − 4)/(ρ² − 1), ρ = λ_max/λ_flat."
        ),
        statistic="error of a and of ã over the sizes of the terms of ã",
        tolerance=LANDING_COEFFICIENT,
        rows=rows,
        values=off(rows),
        control="the same formulas for deeper scalar networks",
        control_values=off(deeper),
    )


@judged_from("studies/landing_momentum")
def landing_law_with_momentum(table: pd.DataFrame) -> Iterator[Claim]:
    """The landing law's second order for the heavy ball."""
    rows = _landings_with_momentum(table)
    finite_steps = 1.5 * ((1 + rows.momentum) / (1 - rows.momentum)) ** 2
    size = 4 / 3 * (rows.coefficient.abs() + finite_steps) * rows.excess
    yield judged(
        "C6.law_momentum",
        origin="ours",
        claim=(
            "With the heavy ball the landing law holds to second order with its term 3/2 multiplied by "
            f"((1 + β)/(1 − β))², for β of {_listed(rows.momentum)} and δ of {_listed(rows.excess)}."
        ),
        statistic="error of (1 − c_end − δ)/δ over the sum of the sizes of its terms",
        tolerance=MOMENTUM_ORDER,
        rows=rows,
        values=(rows.end_ratio - rows.predicted).abs() / rows.excess / size,
        control="the coefficient of plain gradient descent",
        control_values=(rows.end_ratio - rows.predicted_plain).abs() / rows.excess / size,
    )


@judged_from("studies/landing_momentum")
def peak_with_momentum(table: pd.DataFrame) -> Iterator[Claim]:
    """The largest displacement of the heavy ball on its way from one minimizer to another."""
    rows = _landings_with_momentum(table)
    rows = rows[rows.excess <= PEAK_EXCESS * (1 + 1e-9)]
    relative = rows.displaced / rows.amplitude
    yield judged(
        "C6.peak_momentum",
        origin="ours",
        claim=(
            "The largest displacement along v_1 on the way, √2 δλ/‖P_0 T[v,v,·]‖, does not depend on the "
            f"momentum, for β of {_listed(rows.momentum)} and δ of {_listed(rows.excess)}."
        ),
        statistic="relative error of the prediction",
        tolerance=PEAK,
        rows=rows,
        values=(relative - 1).abs(),
        control="the formula of plain descent with the heavy ball's step size, smaller by 1 + β",
        control_values=(relative * (1 + rows.momentum) - 1).abs(),
    )


@judged_from("studies/soft")
def soft_directions(table: pd.DataFrame) -> Iterator[Claim]:
    """The reduced map's prediction for runs on data, whose soft directions have not settled."""

    def off(predicted: pd.Series) -> pd.Series:
        """The relative error of ``1 − ηλ/2`` at the end, per ``δ``."""
        return ((1 - predicted) / (1 - table.end_ratio) - 1).abs() / table.excess

    yield judged(
        "C6.soft",
        origin="ours",
        claim=(
            "On the digits, where soft directions take longer than any run, the reduced map says where "
            f"it is, to first order in δ, for δ from {table.excess.min():.3g} to {table.excess.max():.3g}."
        ),
        statistic="relative error of 1 − ηλ/2 after the escape, over δ",
        tolerance=SOFT_ERROR,
        rows=table,
        values=off(table.predicted),
        control="the landing law, for which all directions have settled",
        control_values=off(table.settled),
    )


def admissible(table: pd.DataFrame) -> pd.DataFrame:
    """The runs of which the law speaks: one direction is unstable, and a stable minimizer exists."""
    return table[~(table.flat_ratio >= 1) & (table.second_ratio < 1)]


def _at(table: pd.DataFrame, excess: float) -> pd.DataFrame:
    return table[np.isclose(table.excess, excess)]


def _settling(table: pd.DataFrame, excess: float) -> pd.DataFrame:
    """The runs without soft directions, which at an excess would not settle within the time of an escape."""
    return table[table.slowest_rate >= SETTLED * excess]


def _landings_with_momentum(table: pd.DataFrame) -> pd.DataFrame:
    """The runs with momentum of which the law speaks."""
    return admissible(table[table.momentum > 0])


def _listed(values: pd.Series) -> str:
    return ", ".join(f"{value:.1g}" for value in sorted(values.round(9).unique()))
