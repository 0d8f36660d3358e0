"""The rows of the ledger that the studies of the escape bear on: when, how fast, from where, where to."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from dmf_sharpness import flat_claims
from dmf_sharpness.ledger import Claim, Control, artifacts_of, experiments_of, judged

THRESHOLD = 1e-3
"""Deviation of the measured threshold from the predicted one."""
DIRECTION = 1e-6
"""``1 − |cos|`` with the top eigenvector in the linear phase."""
SLOPE = 1e-2
"""Relative error of the slope of the escape time."""
LANDING_EXCESS = 1e-3
"""``δ`` at which the landing law is judged."""
LANDING_ERROR, LANDING_MISSES = 0.02, 0.05
"""Relative error of ``1 − c_end``, and the share of the minimizers that may miss it."""
LANDING_REACH = 0.5
"""``|a|δ`` up to which the law is judged."""
SOFT_EXCESS = 0.01
"""``δ`` up to which the reduced map is judged: its error grows as ``δ``."""
CONFINED = 1e-6
"""Share of an orbit's variance outside the top singular subspace."""
BALANCED = 1e-10
"""Spread of the layers along the top path."""
ROUNDING_SPAN = np.log(1e-3 / 2**-52)
"""Logarithm of the growth from rounding to the level at which a run has left."""


def _threshold(table: pd.DataFrame) -> Iterator[Claim]:
    deviation = (table.relative - 1).abs()
    plain, other = table[table.momentum == 0], table[table.momentum > 0]
    informed = plain[plain.sharpness_ratio > 1.01]
    yield judged(
        "C6.threshold",
        "paper",
        "Gradient descent stops returning at ηλ_max = 2, found by bisection from random starts.",
        "relative deviation of the measured threshold",
        THRESHOLD,
        plain,
        deviation[plain.index],
        "λ_flat in place of λ_max",
        (informed.relative / informed.sharpness_ratio - 1).abs(),
    )
    yield judged(
        "C6.momentum",
        "ours",
        "With momentum β at ηλ_max = 2 + 2β, with Nesterov's at (2 + 2β)/(1 + 2β).",
        "relative deviation of the measured threshold",
        THRESHOLD,
        other,
        deviation[other.index],
        "the threshold 2 of plain gradient descent",
        (other.threshold / 2 - 1).abs(),
    )


def _timing(table: pd.DataFrame) -> Iterator[Claim]:
    table = table[table.second_ratio < 1]  # one unstable direction
    seen = table[(table.direction == "random") & table.misalignment.notna() & (table.radius > 0)]
    yield judged(
        "C6.direction",
        "ours",
        "It leaves along the top eigenvector, from random starts.",
        "1 − |cos| with v_1",
        DIRECTION,
        seen,
        seen.misalignment,
        "the direction of the starts",
        1 - seen.component / seen.radius,
    )
    # Along v_1 only: a random start of large radius lies above another minimizer, with another rate.
    rows = table[table.slope.notna() & (table.direction == "top")]
    rows = rows.drop_duplicates(["experiment", "network", "minimizer", "step_ratio"])
    ratios = sorted(rows.step_ratio.unique())
    swapped = 1 / np.log(2 * rows.step_ratio.map(dict(zip(ratios, ratios[::-1], strict=True))) - 1)
    yield judged(
        "C6.time",
        "ours",
        "The time to escape grows as log(1/radius) / log|1 − ηλ_max|, down to rounding.",
        "relative error of the slope",
        SLOPE,
        rows,
        (rows.slope / rows.predicted_slope - 1).abs(),
        "the slope of the other step ratio",
        (rows.slope / swapped - 1).abs(),
    )


def _landing(table: pd.DataFrame) -> Iterator[Claim]:
    rows = table[
        np.isclose(table.excess, LANDING_EXCESS)
        & ~(table.flat_ratio >= 1)
        & (table.second_ratio < 1)
        & (table.coefficient.abs() * table.excess <= LANDING_REACH)
    ]
    measured = 1 - rows.end_ratio
    missed = ~(((1 - rows.predicted_refined) / measured - 1).abs() <= LANDING_ERROR)
    mirror = ~((rows.excess / measured - 1).abs() <= LANDING_ERROR)
    share, control = (float(x.mean()) if len(x) else float("nan") for x in (missed, mirror))
    yield Claim(
        id="C6.law",
        origin="ours",
        claim="The landing law, with nothing fitted, says where it lands.",
        statistic=f"share of minimizers with 1 − c_end off by more than {LANDING_ERROR:.0%}",
        value=share,
        tolerance=LANDING_MISSES,
        n=len(rows),
        experiment=experiments_of(rows),
        verdict="holds" if share <= LANDING_MISSES else "fails",
        control=Control(
            "the mirror image, c_end = 1 − δ",
            control,
            "holds" if control <= LANDING_MISSES else "fails",
        ),
        artifacts=artifacts_of(rows),
    )


def _soft(table: pd.DataFrame) -> Iterator[Claim]:
    rows = table[table.excess <= SOFT_EXCESS * (1 + 1e-9)]
    measured = 1 - rows.end_ratio

    def off(predicted: pd.Series) -> pd.Series:
        return ((1 - predicted) / measured - 1).abs()

    yield judged(
        "C6.soft",
        "ours",
        "On the digits, where soft directions take longer than any run, the reduced map says where it is.",
        "relative error of 1 − ηλ/2 after the escape",
        LANDING_ERROR,
        rows,
        off(rows.predicted),
        "the landing law, for which all directions have settled",
        off(rows.settled),
    )


def _starts(table: pd.DataFrame) -> Iterator[Claim]:
    least = 0.9 * ROUNDING_SPAN / np.log(2 * table.step_ratio - 1)
    early = (least / table.escape_time).fillna(0.0)  # NaN has never left
    rows, control = table[table.start == "stable"], table[(table.start == "orthogonal")]
    yield judged(
        "C6.stable",
        "ours",
        "Starts on the computed stable manifold stay, or leave when rounding has grown.",
        "time that rounding needs at least, over the time to escape",
        1.0,
        rows,
        early[rows.index],
        "starts orthogonal to v_1 instead",
        early[control.index],
    )


def _phase(table: pd.DataFrame) -> Iterator[Claim]:
    landed = (table.outcome == "landed").astype(float)
    beyond, before = (
        table[table.flat_ratio > 1],
        table[(table.flat_ratio < 1) & (table.step_ratio > 1)],
    )
    yield judged(
        "C6.nowhere",
        "ours",
        "With η > 2/λ_flat no run lands at a minimizer: none is stable.",
        "1 for a run that landed",
        0.0,
        beyond,
        landed[beyond.index],
        "step sizes with 2/λ_max < η < 2/λ_flat",
        landed[before.index],
    )


def _orbits(table: pd.DataFrame) -> Iterator[Claim]:
    # The end of each run.
    key = ["experiment", "network", "run"]
    runs = table.sort_values("step").drop_duplicates(key, keep="last")
    low = runs.flat_ratio[runs.flat_ratio > 1].min()
    rows, wider = runs[runs.flat_ratio == low], runs[(runs.flat_ratio > low) & (runs.ended == 0)]
    yield judged(
        "C6.orbits",
        "ours",
        "Just beyond 2/λ_flat it oscillates in the target's top singular subspace, as Ghosh et al. saw.",
        "share of the variance outside that subspace",
        CONFINED,
        rows,
        1 - rows.in_top,
        "step sizes at which the second direction is unstable, too",
        1 - wider.in_top,
    )
    yield judged(
        "C6.balancing",
        "ours",
        "On these orbits the layers balance along the top path, wherever they started.",
        "spread of the layers along the top path, at the end",
        BALANCED,
        rows,
        rows.top_gap,
        "step sizes at which the second direction is unstable, too",
        wider.top_gap,
    )


_JUDGES = {
    **flat_claims.JUDGES,
    "threshold": _threshold,
    "timing": _timing,
    "landing": _landing,
    "soft": _soft,
    "starts": _starts,
    "phase": _phase,
    "orbits": _orbits,
}


def judge_studies(studies: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """The rows of the ledger for the studies that were made.

    Args:
        studies: The tables of each study, one below the other, with a column ``experiment``.
    """
    return [
        row
        for name, judge in _JUDGES.items()
        if name in studies
        for row in judge(studies[name].reset_index(drop=True))
    ]
