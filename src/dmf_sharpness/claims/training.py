"""C6, training from standard starts: how sharp the minimizers are that gradient descent finds."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import PROBLEM, Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import EXACT, FLOW_BALANCE

NEAR_FLAT = 0.95
"""From this ``ηλ_flat/2`` on, a run that converges has to end within about 5 % of ``λ_flat``."""
FINE = 0.05
"""Up to this ``ηλ_flat/2`` runs count as those of small steps."""
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
    problems = table.groupby(list(PROBLEM))
    # Where all starts are far sharper than the flat minimizers, large steps diverge at once.
    near = problems.flow_ratio.min() <= NEAR_FLOW
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
        values=1 - largest[near],
        control="small steps",
        control_values=1 - smallest[near],
    )


@judged_from("studies/training")
def flow(table: pd.DataFrame) -> Iterator[Claim]:
    """The gradient flow from the same starts, by what it keeps."""
    starts = table.drop_duplicates([*PROBLEM, "start", "repeat"])
    rows = starts[starts.flow_ratio.notna()]
    ended = table[(table.outcome == "converged") & (table.flat_ratio == table.flat_ratio.min())]
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
        control="gradient descent with the smallest step size",
        control_values=ended.drift,
    )
