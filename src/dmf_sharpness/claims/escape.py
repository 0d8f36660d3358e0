"""C6, escape: with a step size above ``2/λ_max`` gradient descent leaves a minimizer; when, and how fast.

Where it lands is judged in :mod:`dmf_sharpness.claims.landing`.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import (
    BALANCED,
    CLOSED,
    CONFINED,
    DIRECTION,
    PERIOD_TWO,
    RATE,
    ROUNDING_SPAN,
    SECOND_MARGIN,
    SLOPE,
    THRESHOLD,
)

# The limit of stability: at which step sizes a run leaves.


@judged_from("escape")
def leaves(runs: pd.DataFrame) -> Iterator[Claim]:
    """Escape of all runs above the limit of stability."""
    unstable, stable = runs[runs.step_ratio > 1], runs[runs.step_ratio < 1]
    yield judged(
        "C6.escape",
        origin="paper",
        claim=(
            f"With η > 2/λ_max (ηλ_max/2 from {unstable.step_ratio.min():g} to "
            f"{unstable.step_ratio.max():g}) gradient descent escapes, from as close as "
            f"{unstable.radius.min():.0e} along v_1."
        ),
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
        claim=(
            f"With η < 2/λ_max (ηλ_max/2 from {stable.step_ratio.min():g} to "
            f"{stable.step_ratio.max():g}) it returns, from as far as {stable.radius.max():.0e}."
        ),
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
        origin="ours",
        claim=(
            "Our test of the limit: beside a minimizer, from random starts, gradient descent turns from "
            "return to escape at ηλ_max = 2."
        ),
        statistic="relative deviation of the limit found by bisection",
        tolerance=THRESHOLD,
        rows=rows,
        values=(rows.threshold / 2 - 1).abs(),
        control="the limit ηλ_flat = 2, at minimizers that are not flat",
        control_values=(sharper.threshold / sharper.sharpness_ratio / 2 - 1).abs(),
    )


@judged_from("studies/threshold")
def threshold_with_momentum(table: pd.DataFrame) -> Iterator[Claim]:
    """The limits of stability of the heavy ball and of Nesterov's method, as measured."""
    rows = table[table.momentum > 0]
    momenta = " and ".join(f"{momentum:g}" for momentum in sorted(rows.momentum.unique()))
    yield judged(
        "C6.momentum",
        origin="ours",
        claim=(
            f"With momentum β ({momenta}) at ηλ_max = 2 + 2β, with Nesterov's at (2 + 2β)/(1 + 2β)."
        ),
        statistic="relative deviation of the limit found by bisection",
        tolerance=THRESHOLD,
        rows=rows,
        values=(rows.threshold / rows.predicted - 1).abs(),
        control="the limit 2 of plain gradient descent",
        control_values=(rows.threshold / 2 - 1).abs(),
    )


# The speed and the direction of the escape.


@judged_from("escape")
def rate(runs: pd.DataFrame) -> Iterator[Claim]:
    """The growth of the displacement per step while the run is near the minimizer."""
    rows = runs[runs.growth.notna()]
    # Only minimizers that are not flat can tell the two factors apart, and targets with a known λ_flat.
    known = rows[(rows.sharpness > 1.01 * rows.flat_sharpness) & (rows.step_ratio > 1)]
    growth_if_flat = (1 - known.step_size * known.flat_sharpness).abs()
    yield judged(
        "C6.rate",
        origin="ours",
        claim="In the linear phase the displacement along v_1 changes by |1 − ηλ_max| per step.",
        statistic="relative error of the measured factor",
        tolerance=RATE,
        rows=rows,
        values=(rows.growth / rows.predicted_growth - 1).abs(),
        control="the factor with λ_flat in place of λ_max, at minimizers that are not flat",
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
        claim=(
            f"From random starts within {rows.radius.max():.0e} it leaves along the top eigenvector, where "
            "no other direction is unstable."
        ),
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
    least = table[fitted & table.counted].radius.min()
    rows = table[fitted].drop_duplicates(key)
    ratios = sorted(rows.step_ratio.unique())
    swapped = rows.step_ratio.map(dict(zip(ratios, ratios[::-1], strict=True)))
    yield judged(
        "C6.time",
        origin="ours",
        claim=(
            "From starts along v_1 the time to escape grows as log(1/radius) / log|1 − ηλ_max|, down to "
            f"a radius of {least:.0e}."
        ),
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
    early = (_rounding_time(table) / table.escape_time).fillna(0.0)  # NaN if the run never left
    rows = table[table.start == "stable"]
    yield judged(
        "C6.stable",
        origin="ours",
        claim="Starts on the computed stable manifold do not leave, or not before rounding has grown.",
        statistic="time that rounding needs at least, over the time to escape",
        tolerance=1.0,
        rows=rows,
        values=early[rows.index],
        control="starts orthogonal to v_1 instead",
        control_values=early[table.start == "orthogonal"],
    )


@judged_from("studies/starts")
def other_starts(table: pd.DataFrame) -> Iterator[Claim]:
    """Starts that are neither along ``v_1`` nor on the stable manifold."""
    late = (table.escape_time / _rounding_time(table)).fillna(np.inf)  # NaN if the run never left
    rows = table[table.start.isin(["random", "flattening"])]
    yield judged(
        "C6.starts",
        origin="ours",
        claim=(
            f"Starts in random directions and along v_N, at distances from {rows.radius.min():.0e} to "
            f"{rows.radius.max():.0e}, escape before rounding can have grown."
        ),
        statistic="time to escape, over the time that rounding needs at least",
        tolerance=1.0,
        rows=rows,
        values=late[rows.index],
        control="starts on the computed stable manifold instead",
        control_values=late[table.start == "stable"],
    )


def _rounding_time(table: pd.DataFrame) -> pd.Series:
    """The number of steps in which a rounding error cannot have become an escape yet."""
    return 0.9 * ROUNDING_SPAN / np.log(2 * table.step_ratio - 1)


# Step sizes beyond 2/λ_flat, at which no minimizer is stable.


@judged_from("studies/phase")
def lands_nowhere(table: pd.DataFrame) -> Iterator[Claim]:
    """Absence of landings at step sizes at which no minimizer is stable."""
    rows = table[table.flat_ratio > 1]
    # With a second unstable direction many runs diverge, so the control has one alone.
    before = table[(table.flat_ratio < 1) & (table.step_ratio > 1) & (table.second_ratio < 1)]
    yield judged(
        "C6.nowhere",
        origin="ours",
        claim=(
            f"With η > 2/λ_flat (ηλ_flat/2 up to {rows.flat_ratio.max():.3g}) no run lands at a "
            "minimizer: none is stable."
        ),
        statistic="1 for a run that landed",
        tolerance=0.0,
        rows=rows,
        values=(rows.outcome == "landed").astype(float),
        control="step sizes with 2/λ_max < η < 2/λ_flat and one unstable direction",
        control_values=(before.outcome == "landed").astype(float),
    )


@judged_from("studies/orbits")
def period(table: pd.DataFrame) -> Iterator[Claim]:
    """The period of the orbits."""
    alone, both = _orbits(table)
    rows = alone[alone.flat_ratio < PERIOD_TWO]
    yield judged(
        "C6.period",
        origin="ours",
        claim=f"{_beyond(rows)}, runs end in an orbit of period two, as Ghosh et al. saw.",
        statistic="change of the product over two steps, over that in one",
        tolerance=CLOSED,
        rows=rows,
        values=rows.alternation,
        control=f"ηλ_flat/2 above {PERIOD_TWO:.3f}, or the second direction unstable, too",
        control_values=pd.concat([alone[alone.flat_ratio > PERIOD_TWO], both]).alternation,
    )


@judged_from("studies/orbits")
def confined(table: pd.DataFrame) -> Iterator[Claim]:
    """The subspace in which a run oscillates."""
    alone, both = _orbits(table)
    yield judged(
        "C6.orbits",
        origin="ours",
        claim=f"{_beyond(alone)}, they oscillate in the target's top singular subspace.",
        statistic="share of the product's variance outside that subspace",
        tolerance=CONFINED,
        rows=alone,
        values=1 - alone.in_top,
        control="step sizes at which the second direction is unstable, too",
        control_values=1 - both.in_top,
    )


@judged_from("studies/orbits")
def balancing(table: pd.DataFrame) -> Iterator[Claim]:
    """The balance of the layers of a run that oscillates."""
    alone, both = _orbits(table)
    yield judged(
        "C6.balancing",
        origin="ours",
        claim=f"{_beyond(alone)}, the layers balance along the top path, wherever they started.",
        statistic="spread of the layers along the top path, at the end",
        tolerance=BALANCED,
        rows=alone,
        values=alone.top_gap,
        control="step sizes at which the second direction is unstable, too",
        control_values=both.top_gap,
    )


def _orbits(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The last rows of runs beyond ``2/λ_flat``: balanced minimizers have one unstable direction, or two.

    Runs close to the second limit are in neither. Of the second kind only those that stay bounded are taken.
    """
    ends = table.sort_values("step").drop_duplicates(["experiment", "network", "run"], keep="last")
    beyond = ends[ends.flat_ratio > 1]
    alone = beyond[beyond.second_ratio < 1 - SECOND_MARGIN]
    return alone, beyond[(beyond.second_ratio > 1 + SECOND_MARGIN) & (beyond.ended == 0)]


def _beyond(rows: pd.DataFrame) -> str:
    """The range of step sizes of some orbits, as the beginning of a sentence."""
    low, high = rows.flat_ratio.min(), rows.flat_ratio.max()
    return f"Beyond 2/λ_flat (ηλ_flat/2 from {low:g} to {high:g}), while ηλ_2/2 < 1 at balanced minimizers"
