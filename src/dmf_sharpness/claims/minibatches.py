"""C6 with minibatches: the two thresholds of stochastic gradient descent, its runs, and their ends."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import EXACT, RATE


@judged_from("studies/minibatches")
def mean_square(table: pd.DataFrame) -> Iterator[Claim]:
    """The growth of second moments by the formula of Mulayoff and Michaeli, and its threshold."""
    partial = table[table.batch_size < table.samples]
    yield judged(
        "C6.sgd_growth",
        origin="ours",
        claim=(
            "Beside a minimizer that fits every sample, second moments of minibatch steps grow as the "
            "formula of Mulayoff and Michaeli says, also at η = 2/λ_max."
        ),
        statistic="relative error of the growth per step, over all sequences of batches",
        tolerance=RATE,
        rows=table,
        values=(table.growth / table.predicted - 1).abs(),
        control="the growth on all data, (1 − ηλ_max)²",
        control_values=(partial.growth / partial.full_growth - 1).abs(),
    )
    at_threshold, at_full = (partial[partial["at"] == place] for place in ("mean_square", "full"))
    yield judged(
        "C6.sgd_mean_square",
        origin="ours",
        claim="At their threshold 2/λ_max(C⁺D) second moments neither grow nor decay.",
        statistic="|growth per step − 1|, batches smaller than the data",
        tolerance=RATE,
        rows=at_threshold,
        values=(at_threshold.growth - 1).abs(),
        control="2/λ_max in place of this threshold",
        control_values=(at_full.growth - 1).abs(),
    )
    whole = table[table.batch_size == table.samples]
    yield judged(
        "C6.sgd_whole",
        origin="ours",
        claim="With all data in a batch this threshold is 2/λ_max.",
        statistic="relative difference of the two",
        tolerance=EXACT,
        rows=whole,
        values=(whole.mean_square - 1).abs(),
        control="smaller batches",
        control_values=(partial.mean_square - 1).abs(),
    )


@judged_from("studies/minibatch_runs")
def almost_sure(table: pd.DataFrame) -> Iterator[Claim]:
    """Runs of stochastic gradient descent on both sides of the almost sure threshold."""
    runs = table[table.method == "minibatch"]
    below, above = runs[runs.step_ratio < 1], runs[runs.step_ratio > 1]
    if below.empty or above.empty:
        return
    left = runs.left.astype(float)
    yield judged(
        "C6.sgd_return",
        origin="ours",
        claim=(
            f"At {below.step_ratio.max():g} times the almost sure threshold no run leaves a minimizer "
            f"that fits every sample, though that is up to {below.mean_square_ratio.max():.2g} times "
            "the mean-square threshold."
        ),
        statistic="1 if a run leaves, else 0",
        tolerance=0.0,
        rows=below,
        values=left[below.index],
        control="runs above the threshold",
        control_values=left[above.index],
    )
    yield judged(
        "C6.sgd_escape",
        origin="ours",
        claim=(
            f"At {above.step_ratio.min():g} times the almost sure threshold every run leaves, also where "
            f"that is {above.full_ratio.min():.2g} times 2/λ_max."
        ),
        statistic="1 if a run does not leave, else 0",
        tolerance=0.0,
        rows=above,
        values=1 - left[above.index],
        control="runs below the threshold",
        control_values=1 - left[below.index],
    )
    ended = table[(table.step_ratio > 1) & (table.outcome == "converged")]
    landed = ended[(ended.method == "minibatch") & ended.left]
    stayed = ended[(ended.method == "full") & ~ended.left]
    yield judged(
        "C6.sgd_end",
        origin="ours",
        claim="A run that left and converges ends at a minimizer whose Lyapunov exponent is not positive.",
        statistic="the exponent there, at the step size and batch size of the run",
        tolerance=0.0,
        rows=landed,
        values=landed.exponent,
        control="the ends of runs on all data with the same starts and steps, which did not leave",
        control_values=stayed.exponent,
    )
