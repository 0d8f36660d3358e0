"""C6, training from standard starts: how sharp the minimizers are that gradient descent finds."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import PROBLEM, Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import (
    BELOW_LIMIT,
    EXACT,
    FLOW_BALANCE,
    FLOW_SHARPNESS,
    FOLLOWING,
    WIDTH_ERROR,
)

NEAR_FLAT = 0.95
"""From this ``ηλ_flat/2`` on, a run that converges has to end within about 5 % of ``λ_flat``."""
FINE = 0.05
"""Up to this ``ηλ_flat/2`` runs count as those of small steps."""
NETWORK = ["experiment", "network"]
"""These columns identify a network."""
GENTLE = 0.5
"""A start is gentle if its Gauss–Newton sharpness is up to this share of ``2/η``."""
ABOVE = 1e-3
"""A run ends above the gradient flow if it is sharper by this share, a thousand times the flow's error."""
WIDE = 0.75
"""The formula for wide networks is judged where its leading correction is at most this."""
NEAR_FLOW = 10
"""The limit is judged on problems on which the flow ends within so many ``λ_flat`` from some start."""


@judged_from("studies/training")
def ends(table: pd.DataFrame) -> Iterator[Claim]:
    """The two bounds on the sharpness at the end of training: the limit of stability, and ``λ_flat``."""
    rows = table[table.outcome == "converged"]
    # The control needs ends that are not near λ_flat, because the largest step size is near 2/λ_flat.
    fine = rows[(rows.flat_ratio <= FINE) & (rows.sharpness_ratio > 1.1)]
    largest = rows.flat_ratio.max()
    yield judged(
        "C6.trained_stable",
        origin="ours",
        claim="No run from a standard start that converges ends at a minimizer with λ_max > 2/η.",
        statistic="ηλ_end/2 − 1",
        tolerance=EXACT,
        rows=rows,
        values=rows.end_ratio - 1,
        control=f"ends of runs with small steps, at the step size ηλ_flat/2 = {largest:g}",
        control_values=fine.end_ratio / fine.flat_ratio * largest - 1,
    )
    coarse = rows[rows.flat_ratio >= NEAR_FLAT]
    yield judged(
        "C6.trained_flat",
        origin="ours",
        claim="None ends below λ_flat.",
        statistic="1 − λ_end/λ_flat",
        tolerance=EXACT,
        rows=rows,
        values=1 - rows.sharpness_ratio,
        control="a floor 10 % higher, at the largest step sizes",
        control_values=1 - coarse.sharpness_ratio / 1.1,
    )


@judged_from("studies/training")
def limit(table: pd.DataFrame) -> Iterator[Claim]:
    """The limit of convergence, as Crăciun and Ghoshdastidar (arXiv:2402.13108) have it."""
    beyond, fine = table[table.flat_ratio > 1], table[table.flat_ratio <= FINE]
    least, most = beyond.flat_ratio.min(), beyond.flat_ratio.max()
    yield judged(
        "C6.trained_limit",
        origin="ours",
        claim=f"None converges with η > 2/λ_flat (ηλ_flat/2 from {least:g} to {most:g}).",
        statistic="1 for a run that converged",
        tolerance=0.0,
        rows=beyond,
        values=(beyond.outcome == "converged").astype(float),
        control="step sizes far below, from starts other than the identity",
        control_values=(fine[fine.start != "identity"].outcome == "converged").astype(float),
    )


@judged_from("studies/training")
def limit_attained(table: pd.DataFrame) -> Iterator[Claim]:
    """The partner of the three rows above: the largest ``ηλ_end/2`` of the runs of each problem."""
    # Where all starts are far sharper than the flat minimizers, large steps diverge at once.
    near = table.groupby(list(PROBLEM)).flow_ratio.min() <= NEAR_FLOW
    near &= table.groupby(list(PROBLEM)).flat_ratio.max() > 1  # where large steps were taken
    largest = table[table.outcome == "converged"].groupby(list(PROBLEM)).end_ratio.max()
    smallest = table[table.flat_ratio <= FINE].groupby(list(PROBLEM)).end_ratio.max()
    yield judged(
        "C6.trained_attained",
        origin="ours",
        claim=(
            "Both bounds are attained: with steps near 2/λ_flat training ends near 2/η, on every "
            f"problem on which gradient flow from a start ends within {NEAR_FLOW:g} λ_flat."
        ),
        statistic="1 − ηλ_end/2, at the run of a problem where it is least",
        tolerance=1 - NEAR_FLAT,
        rows=near[near].reset_index(),
        values=1 - largest.reindex(near[near].index),
        control="small steps",
        control_values=1 - smallest.reindex(near[near].index),
    )


@judged_from("studies/training")
def following(table: pd.DataFrame) -> Iterator[Claim]:
    """The end of training against that of gradient flow, while the latter is stable, and when it is not.

    A start that is itself near or above the limit of stability is left in a few large steps, and the run
    ends anywhere between the two bounds.
    """
    gentle = table[
        (table.outcome == "converged")
        & table.flow_ratio.notna()
        & (table.flat_ratio * table.start_ratio <= GENTLE)
    ]
    flow_end = gentle.flat_ratio * gentle.flow_ratio  # ηλ/2 at the end of the flow
    gap = (gentle.sharpness_ratio / gentle.flow_ratio - 1).abs()
    rows, far = gentle[flow_end < 1], gentle[flow_end > 1 / (1 - 2 * FOLLOWING)]
    yield judged(
        "C6.trained_follows",
        origin="ours",
        claim=(
            f"From starts of sharpness up to {GENTLE:g} · 2/η at least half of the runs of each network end "
            f"within {FOLLOWING:g} of the sharpness of gradient flow, as long as that is below 2/η."
        ),
        statistic="median over the runs of a network of the relative difference",
        tolerance=FOLLOWING,
        rows=rows.drop_duplicates(NETWORK),
        values=_medians(gap, rows),
        control="step sizes at which the flow's end is far above the limit",
        control_values=_medians(gap, far),
    )
    beyond, small = gentle[flow_end > 1], gentle[flow_end < 0.5]
    yield judged(
        "C6.trained_edge",
        origin="ours",
        claim=f"From there on half of them end within {BELOW_LIMIT:g} below 2/η.",
        statistic="median over the runs of a network of 1 − ηλ_end/2",
        tolerance=BELOW_LIMIT,
        rows=beyond.drop_duplicates(NETWORK),
        values=_medians(1 - gentle.end_ratio, beyond),
        control="step sizes at which the flow's end is below half of the limit",
        control_values=_medians(1 - gentle.end_ratio, small),
    )


def _medians(values: pd.Series, rows: pd.DataFrame) -> pd.Series:
    """The median over the runs of each network."""
    return values[rows.index].groupby([rows[key] for key in NETWORK]).median()


@judged_from("studies/training")
def against_flow(table: pd.DataFrame) -> Iterator[Claim]:
    """Whether training ends above the gradient-flow solution: not for scalars, but for matrices.

    For chains of single neurons it is a theorem of Kreisler et al. (arXiv:2305.13064).
    """
    known = table[(table.outcome == "converged") & table.flow_ratio.notna()]
    scalar = known.widths.str.match(r"1-.*-1$")
    # At depth 2 the balance grows in steps with η|∂f/∂p| > √2, see docs/training.md.
    rows = known[scalar & ((known.depth > 2) | (known.start_swing**2 <= 2))]
    unstable = rows[rows.flat_ratio * rows.flow_ratio > 1.05]
    yield judged(
        "C6.trained_scalar",
        origin="ours",
        claim=(
            "With scalar targets no run ends sharper than gradient flow from the same start, at depth 2 "
            "if η|∂f/∂p| ≤ √2 at the start, p the product of the factors."
        ),
        statistic="relative excess over the sharpness at the end of the flow",
        tolerance=FLOW_SHARPNESS,
        rows=rows,
        values=rows.sharpness_ratio / rows.flow_ratio - 1,
        control="the reverse, where the end of the flow is unstable",
        control_values=unstable.flow_ratio / unstable.sharpness_ratio - 1,
    )
    # The run of each problem that ends highest above the flow; at small steps none is far from it.
    known = known.assign(excess=known.sharpness_ratio / known.flow_ratio - 1)
    large = known[known.flat_ratio > 0.5]
    matrices = large[~scalar[large.index] & (large.depth == 2)]
    highest = matrices.groupby(list(PROBLEM)).excess.max()
    same = large.loc[rows.index.intersection(large.index)].groupby(list(PROBLEM)).excess.max()
    yield judged(
        "C6.trained_above",
        origin="ours",
        claim="With matrices some do: at depth 2, on every problem a run ends at least 0.1 % sharper.",
        statistic="1e-3 less the largest relative excess on a problem",
        tolerance=0.0,
        rows=highest.reset_index(),
        values=ABOVE - highest,
        control="the runs with scalar targets",
        control_values=ABOVE - same,
    )


@judged_from("studies/training")
def kept(table: pd.DataFrame) -> Iterator[Claim]:
    """Two layers and a scalar target, where the start alone gives the end of gradient flow."""
    rows = table[table.kept_ratio.notna() & table.flow_ratio.notna()]
    rows = rows.drop_duplicates([*PROBLEM, "start", "repeat"])
    large = table[table.kept_ratio.notna() & (table.kept_ratio > 1.01)]
    large = large[(large.outcome == "converged") & (large.flat_ratio > 0.3)]
    yield judged(
        "C6.flow_two_layers",
        origin="ours",
        claim=(
            "With two layers and a scalar target gradient flow ends at the sharpness "
            "2((‖x‖² + ‖y‖²)² − 4(x·y)² + 4M²)^{1/2}, x and y the factors at the start."
        ),
        statistic="relative difference of the sharpness",
        tolerance=FLOW_SHARPNESS,
        rows=rows,
        values=(rows.flow_ratio / rows.kept_ratio - 1).abs(),
        control="gradient descent with ηλ_flat/2 above 0.3",
        control_values=(large.sharpness_ratio / large.kept_ratio - 1).abs(),
    )


@judged_from("studies/training")
def width(table: pd.DataFrame) -> Iterator[Claim]:
    """The sharpness that fan-in starts lead to in wide networks, by what it is at the start."""
    sizes = table.widths.str.split("-")
    n, ends = sizes.str[1].astype(int), sizes.map(lambda d: max(int(d[0]), int(d[-1])))
    predicted = 2 * (1 + (table.depth - 1) * n / sizes.str[0].astype(int))
    correction = (1 + (ends / n) ** 0.5) ** (2 * (table.depth - 1)) - 1
    ratio = table.flow_ratio * table.flat_sharpness / predicted
    wide = (table.start == "fan_in") & (correction <= WIDE) & (table.flat_ratio <= FINE)
    rows = table[wide & table.flow_ratio.notna()].drop_duplicates([*PROBLEM, "repeat"])
    # Four times the ratio is that to a quarter of the value.
    deviation, quarter = (ratio - 1).abs() / correction, (4 * ratio - 1).abs() / correction
    yield judged(
        "C6.trained_width",
        origin="ours",
        claim=(
            "From fan-in starts, gradient flow ends at λ_max ≈ 2(1 + (L − 1)n/d_0) in networks of width n, "
            f"from {n[rows.index].min()} to {n[rows.index].max()}, of depths {rows.depth.min()} to "
            f"{rows.depth.max()}."
        ),
        statistic="relative difference, in units of (1 + (d/n)^{1/2})^{2(L−1)} − 1, d = max(d_0, d_L)",
        tolerance=WIDTH_ERROR,
        rows=rows,
        values=deviation[rows.index],
        control="a quarter of the value",
        control_values=quarter[rows.index],
    )


@judged_from("studies/training")
def flow(table: pd.DataFrame) -> Iterator[Claim]:
    """The gradient flow from the same starts, by what it keeps."""
    starts = table.drop_duplicates([*PROBLEM, "start", "repeat"])
    rows = starts[starts.flow_ratio.notna()]
    large = table[(table.flat_ratio > 0.3) & (table.start != "identity")]
    yield judged(
        "C6.flow",
        origin="ours",
        claim=(
            "The end of gradient flow, extrapolated from step sizes that are halved, keeps what the "
            "flow keeps, W_{i+1}ᵀW_{i+1} − W_iW_iᵀ."
        ),
        statistic="change from the start to the end, over the squared norm of the factors",
        tolerance=FLOW_BALANCE,
        rows=rows,
        values=rows.flow_drift,
        control="gradient descent with ηλ_flat/2 above 0.3",
        control_values=large[large.outcome == "converged"].drift,
    )


@judged_from("studies/sharpening")
def sharpening(table: pd.DataFrame) -> Iterator[Claim]:
    """The sharpness at the ends of runs against the largest on the way."""
    run = [*PROBLEM, "flat_ratio"]
    last = table.sort_values("step").groupby(run).sharpness_ratio.last()
    most = table[table.step > 0].groupby(run).sharpness_ratio.max()
    ratio = last.index.get_level_values("flat_ratio").to_numpy()
    # The largest end over the step sizes is nearly that of gradient flow.
    flow = last.groupby(list(PROBLEM)).transform("max")
    beyond = flow * ratio > 1.2
    yield judged(
        "C6.sharpening",
        origin="ours",
        claim=(
            "The sharpness along training ends below 2/η, also where it has passed 2/η on the way, as it "
            "does if gradient flow ends beyond 1.2 · 2/η."
        ),
        statistic="ηλ/2 − 1 at the end of a run",
        tolerance=0.0,
        rows=table.drop_duplicates(run),
        values=last * ratio - 1,
        control="the largest sharpness after the first step, of runs with such step sizes",
        control_values=(most * ratio - 1)[beyond],
    )
