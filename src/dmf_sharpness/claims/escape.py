"""C6, escape: with a step size above ``2/λ_max`` gradient descent leaves a minimizer and lands elsewhere."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import (
    BALANCED,
    CONFINED,
    DIRECTION,
    LANDING_COEFFICIENT,
    LANDING_ERROR,
    LANDING_EXCESS,
    LANDING_MISSES,
    LANDING_REACH,
    MOMENTUM_ORDER,
    PEAK,
    PEAK_EXCESS,
    RATE,
    ROUNDING_SPAN,
    SLOPE,
    SOFT_EXCESS,
    THRESHOLD,
)

# The limit of stability: at which step sizes a run leaves.


@judged_from("escape")
def leaves(runs: pd.DataFrame) -> Iterator[Claim]:
    """Escape of all runs above the limit of stability."""
    unstable, stable = runs[runs.step_ratio > 1], runs[runs.step_ratio < 1]
    closest = runs.radius.min()
    yield judged(
        "C6.escape",
        origin="paper",
        claim=f"With η > 2/λ_max gradient descent escapes, from as close as {closest:.0e} along v_1.",
        statistic="1 for a run that did not escape",
        tolerance=0.0,
        rows=unstable,
        values=(~unstable.escaped).astype(float),
        control="step sizes below 2/λ_max",
        control_values=(~stable.escaped).astype(float),
    )


@judged_from("escape")
def returns(runs: pd.DataFrame) -> Iterator[Claim]:
    """Return of all runs below the limit of stability."""
    unstable, stable = runs[runs.step_ratio > 1], runs[runs.step_ratio < 1]
    yield judged(
        "C6.return",
        origin="paper",
        claim="With η < 2/λ_max it returns to the minimizer.",
        statistic="1 for a run that did not return",
        tolerance=0.0,
        rows=stable,
        values=(stable.outcome != "returned").astype(float),
        control="step sizes above 2/λ_max",
        control_values=(unstable.outcome != "returned").astype(float),
    )


@judged_from("studies/threshold")
def threshold(table: pd.DataFrame) -> Iterator[Claim]:
    """The limit of stability of gradient descent, as measured."""
    rows = table[table.momentum == 0]
    sharper = rows[rows.sharpness_ratio > 1.01]
    yield judged(
        "C6.threshold",
        origin="paper",
        claim="Gradient descent stops returning at ηλ_max = 2, found by bisection from random starts.",
        statistic="relative deviation of the measured threshold",
        tolerance=THRESHOLD,
        rows=rows,
        values=(rows.relative - 1).abs(),
        control="λ_flat in place of λ_max",
        control_values=(sharper.relative / sharper.sharpness_ratio - 1).abs(),
    )


@judged_from("studies/threshold")
def threshold_with_momentum(table: pd.DataFrame) -> Iterator[Claim]:
    """The limits of stability of the heavy ball and of Nesterov's method, as measured."""
    rows = table[table.momentum > 0]
    yield judged(
        "C6.momentum",
        origin="ours",
        claim="With momentum β at ηλ_max = 2 + 2β, with Nesterov's at (2 + 2β)/(1 + 2β).",
        statistic="relative deviation of the measured threshold",
        tolerance=THRESHOLD,
        rows=rows,
        values=(rows.relative - 1).abs(),
        control="the threshold 2 of plain gradient descent",
        control_values=(rows.threshold / 2 - 1).abs(),
    )


# The speed and the direction of the escape.


@judged_from("escape")
def rate(runs: pd.DataFrame) -> Iterator[Claim]:
    """The growth of the displacement per step while the run is near the minimizer."""
    rows = runs[runs.growth.notna()]
    known = rows[rows.flat_sharpness.notna() & (rows.step_ratio > 1)]
    growth_if_flat = (1 - known.step_size * known.flat_sharpness).abs()
    yield judged(
        "C6.rate",
        origin="ours",
        claim="In the linear phase the displacement along v_1 changes by |1 − ηλ_max| per step.",
        statistic="relative error of the measured factor",
        tolerance=RATE,
        rows=rows,
        values=(rows.growth / rows.predicted_growth - 1).abs(),
        control="the factor with λ_flat in place of λ_max",
        control_values=(known.growth / growth_if_flat - 1).abs(),
    )


@judged_from("studies/timing")
def direction(table: pd.DataFrame) -> Iterator[Claim]:
    """The direction in which a run leaves after a start in a random direction."""
    table = table[table.second_ratio < 1]  # where one direction alone is unstable
    rows = table[(table.direction == "random") & table.misalignment.notna() & (table.radius > 0)]
    yield judged(
        "C6.direction",
        origin="ours",
        claim="It leaves along the top eigenvector, from random starts.",
        statistic="1 − |cos| with v_1",
        tolerance=DIRECTION,
        rows=rows,
        values=rows.misalignment,
        control="the direction of the starts",
        control_values=1 - rows.component / rows.radius,
    )


@judged_from("studies/timing")
def time(table: pd.DataFrame) -> Iterator[Claim]:
    """The time to escape as a function of the radius of the start."""
    # Starts along v_1 only, because near a random start of large radius the minimizer, and its rate, differ.
    fitted = table.slope.notna() & (table.direction == "top") & (table.second_ratio < 1)
    key = ["experiment", "network", "minimizer", "step_ratio"]
    rows = table[fitted].drop_duplicates(key)
    ratios = sorted(rows.step_ratio.unique())
    swapped = rows.step_ratio.map(dict(zip(ratios, ratios[::-1], strict=True)))
    yield judged(
        "C6.time",
        origin="ours",
        claim="The time to escape grows as log(1/radius) / log|1 − ηλ_max|, down to rounding.",
        statistic="relative error of the slope",
        tolerance=SLOPE,
        rows=rows,
        values=(rows.slope / rows.predicted_slope - 1).abs(),
        control="the slope of the other step ratio",
        control_values=(rows.slope * np.log(2 * swapped - 1) - 1).abs(),
    )


# Starts from which runs need not leave.


@judged_from("studies/starts")
def stable_starts(table: pd.DataFrame) -> Iterator[Claim]:
    """Starts on the stable manifold, from which exact gradient descent would not leave."""
    least = 0.9 * ROUNDING_SPAN / np.log(2 * table.step_ratio - 1)
    early = (least / table.escape_time).fillna(0.0)  # NaN if the run never left
    rows = table[table.start == "stable"]
    yield judged(
        "C6.stable",
        origin="ours",
        claim="Starts on the computed stable manifold stay, or leave when rounding has grown.",
        statistic="time that rounding needs at least, over the time to escape",
        tolerance=1.0,
        rows=rows,
        values=early[rows.index],
        control="starts orthogonal to v_1 instead",
        control_values=early[table.start == "orthogonal"],
    )


# The minimizers at which runs land.


@judged_from("escape")
def lands_flatter(runs: pd.DataFrame) -> Iterator[Claim]:
    """The sharpness of the minimizers at which runs land."""
    rows = runs[runs.outcome == "landed"]
    yield judged(
        "C6.flatter",
        origin="ours",
        claim="Where it lands after an escape, the minimizer is flatter than stability asks: ηλ/2 ≤ 1.",
        statistic="ηλ/2 − 1 at the end",
        tolerance=0.0,
        rows=rows,
        values=rows.end_ratio - 1,
        control="the minimizers that the same runs left",
        control_values=rows.step_ratio - 1,
    )


@judged_from("studies/landing")
def landing_law(table: pd.DataFrame) -> Iterator[Claim]:
    """The landing law's prediction of the sharpness there."""
    rows = table[
        np.isclose(table.excess, LANDING_EXCESS)
        & ~(table.flat_ratio >= 1)
        & (table.second_ratio < 1)
        & (table.coefficient.abs() * table.excess <= LANDING_REACH)
    ]

    def share_missed(predicted: pd.Series) -> pd.Series:
        """The share of landings for which a prediction of ``1 − c_end`` misses, as a series of one value."""
        hit = (predicted / (1 - rows.end_ratio) - 1).abs() <= LANDING_ERROR
        return pd.Series([float((~hit).mean()) if len(hit) else math.nan])

    yield judged(
        "C6.law",
        origin="ours",
        claim="The landing law, with nothing fitted, says where it lands.",
        statistic=f"share of minimizers with 1 − c_end off by more than {LANDING_ERROR:.0%}",
        tolerance=LANDING_MISSES,
        rows=rows,
        values=share_missed(1 - rows.predicted_refined),
        control="the mirror image, c_end = 1 − δ",
        control_values=share_missed(rows.excess),
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


def _landings_with_momentum(table: pd.DataFrame) -> pd.DataFrame:
    """The runs with momentum from minimizers of which only the top direction is unstable."""
    return table[(table.momentum > 0) & ~(table.flat_ratio >= 1) & (table.second_ratio < 1)]


def _listed(values: pd.Series) -> str:
    return ", ".join(f"{value:.1g}" for value in sorted(values.round(9).unique()))


@judged_from("studies/soft")
def soft_directions(table: pd.DataFrame) -> Iterator[Claim]:
    """The reduced map's prediction for runs on data, whose soft directions have not settled."""
    rows = table[table.excess <= SOFT_EXCESS * (1 + 1e-9)]

    def off(predicted: pd.Series) -> pd.Series:
        return ((1 - predicted) / (1 - rows.end_ratio) - 1).abs()

    yield judged(
        "C6.soft",
        origin="ours",
        claim=(
            "On the digits, where soft directions take longer than any run, the "
            "reduced map says where it is."
        ),
        statistic="relative error of 1 − ηλ/2 after the escape",
        tolerance=LANDING_ERROR,
        rows=rows,
        values=off(rows.predicted),
        control="the landing law, for which all directions have settled",
        control_values=off(rows.settled),
    )


# Step sizes beyond 2/λ_flat, at which no minimizer is stable.


@judged_from("studies/phase")
def lands_nowhere(table: pd.DataFrame) -> Iterator[Claim]:
    """Absence of landings at step sizes at which no minimizer is stable."""
    rows = table[table.flat_ratio > 1]
    before = table[(table.flat_ratio < 1) & (table.step_ratio > 1)]
    yield judged(
        "C6.nowhere",
        origin="ours",
        claim="With η > 2/λ_flat no run lands at a minimizer: none is stable.",
        statistic="1 for a run that landed",
        tolerance=0.0,
        rows=rows,
        values=(rows.outcome == "landed").astype(float),
        control="step sizes with 2/λ_max < η < 2/λ_flat",
        control_values=(before.outcome == "landed").astype(float),
    )


@judged_from("studies/orbits")
def confined(table: pd.DataFrame) -> Iterator[Claim]:
    """The subspace in which a run oscillates."""
    rows, wider = _orbits(table)
    yield judged(
        "C6.orbits",
        origin="ours",
        claim=(
            "Just beyond 2/λ_flat it oscillates in the target's top singular "
            "subspace, as Ghosh et al. saw."
        ),
        statistic="share of the variance outside that subspace",
        tolerance=CONFINED,
        rows=rows,
        values=1 - rows.in_top,
        control="step sizes at which the second direction is unstable, too",
        control_values=1 - wider.in_top,
    )


@judged_from("studies/orbits")
def balancing(table: pd.DataFrame) -> Iterator[Claim]:
    """The balance of the layers of a run that oscillates."""
    rows, wider = _orbits(table)
    yield judged(
        "C6.balancing",
        origin="ours",
        claim="On these orbits the layers balance along the top path, wherever they started.",
        statistic="spread of the layers along the top path, at the end",
        tolerance=BALANCED,
        rows=rows,
        values=rows.top_gap,
        control="step sizes at which the second direction is unstable, too",
        control_values=wider.top_gap,
    )


def _orbits(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The last rows of the runs just beyond ``2/λ_flat``, and of the farther ones that have not diverged."""
    key = ["experiment", "network", "run"]
    ends = table.sort_values("step").drop_duplicates(key, keep="last")
    low = ends.flat_ratio[ends.flat_ratio > 1].min()
    return ends[ends.flat_ratio == low], ends[(ends.flat_ratio > low) & (ends.ended == 0)]
