"""The rows on training from standard starts, with values and controls by hand."""

import math

import pandas as pd
import pytest

from dmf_sharpness.claims import training
from tests.claims.by_hand import numbers, rows

NAN = math.nan
COLUMNS = [
    "problem", "widths", "depth", "start", "flat_ratio", "outcome", "sharpness_ratio", "flow_ratio",
    "start_ratio", "start_swing", "drift", "flow_drift", "kept_ratio",
]  # fmt: skip


def runs(*given):
    """Runs of one experiment; ``ηλ_end/2`` follows from the two ratios, and each problem is a network."""
    table = pd.DataFrame(given, columns=COLUMNS)
    return table.assign(
        experiment="e",
        network=table.problem,
        repeat=0,
        end_ratio=table.flat_ratio * table.sharpness_ratio,
        flat_sharpness=8.0,
    )


def run(
    ratio,
    end,
    flow=2.0,
    problem=0,
    widths="1-4-1",
    start="fan_in",
    start_ratio=0.25,
    swing=0.5,
    drift=0.125,
    flow_drift=1e-7,
    kept=NAN,
    outcome="converged",
):
    depth = widths.count("-")
    return (
        problem, widths, depth, start, ratio, outcome, end, flow, start_ratio, swing, drift,
        flow_drift, kept,
    )  # fmt: skip


SCALAR = runs(
    run(0.03125, 1.9375),
    run(0.0625, 1.75),
    run(0.5, 1.75),
    run(0.75, 1.25),
    run(0.96875, 1.015625),
    run(1.5, NAN, outcome="step_limit", drift=NAN),
)


def test_the_bounds_at_the_end_and_their_controls():
    found = rows(training.ends, SCALAR)
    # The end of the smallest step size, held against the largest one.
    stable = 0.96875 * 1.015625 - 1
    control = 1.9375 * 0.96875 - 1
    assert numbers(found["C6.trained_stable"]) == pytest.approx((stable, 5, control, 1))
    flat = (1 - 1.015625, 5, 1 - 1.015625 / 1.1, 1)
    assert numbers(found["C6.trained_flat"]) == pytest.approx(flat)


def test_an_end_above_the_limit_or_below_the_floor_is_seen():
    above = rows(training.ends, runs(run(0.5, 2.5), run(0.03125, 1.75)))
    assert above["C6.trained_stable"].value == 0.25
    assert above["C6.trained_stable"].verdict == "fails"
    below = rows(training.ends, runs(run(0.5, 0.75), run(0.03125, 1.75)))
    assert below["C6.trained_flat"].value == 0.25


def test_a_run_that_converges_beyond_the_limit_is_seen():
    claim = rows(training.limit, SCALAR)["C6.trained_limit"]
    assert numbers(claim) == (0, 1, 1, 1)
    wrong = runs(run(1.5, 1.25), run(0.03125, 1.5))
    assert rows(training.limit, wrong)["C6.trained_limit"].value == 1


def test_the_limit_is_attained_problem_by_problem():
    claim = rows(training.limit_attained, SCALAR)["C6.trained_attained"]
    expected = (1 - 0.96875 * 1.015625, 1, 1 - 0.03125 * 1.9375, 1)
    assert numbers(claim) == pytest.approx(expected)
    none = runs(*[run(c, NAN, outcome="diverged") for c in (0.03125, 1.5)])
    assert rows(training.limit_attained, none)["C6.trained_attained"].verdict == "fails"


def test_medians_of_gentle_starts_below_and_beyond_the_limit_of_the_flow():
    table = runs(
        run(0.25, 1.75),
        run(0.125, 1.5),
        run(0.0625, 1.875),
        run(0.125, 1.0, start_ratio=8.0),  # not gentle
        run(0.75, 1.25),
        run(1.0, 0.9375),
        run(0.25, NAN, outcome="diverged"),
        run(0.5, 1.5, flow=6.0),
    )
    found = rows(training.following, table)
    # The control has ends of the flow above 2, here 3; the median of one is itself.
    assert numbers(found["C6.trained_follows"]) == (0.125, 1, 0.75, 1)
    # Beyond: 1 − 0.9375, 1 − 0.9375 and 1 − 0.75. Far below: ends at 0.1875, 0.1171875.
    assert numbers(found["C6.trained_edge"]) == (0.0625, 1, pytest.approx(1 - 0.15234375), 1)


def test_scalars_and_matrices_against_the_flow():
    table = runs(
        run(0.75, 1.25),
        run(0.75, 3.0, swing=1.5),  # depth 2, and the first step raises the balance
        run(0.625, 1.875, widths="1-3-3-1", problem=1, swing=1.5),
        run(0.625, 2.25, widths="3-4-3", problem=2),
        run(0.75, 2.125, widths="3-4-3", problem=2),
        run(0.625, 3.0, widths="3-4-4-3", problem=3),
    )
    found = rows(training.against_flow, table)
    assert numbers(found["C6.trained_scalar"]) == pytest.approx(
        (-0.0625, 2, (2 / 1.25 + 2 / 1.875) / 2 - 1, 2)
    )
    above = found["C6.trained_above"]
    assert numbers(above) == pytest.approx((1e-3 - 0.125, 1, 1e-3 + (0.375 + 0.0625) / 2, 2))


def test_the_end_of_the_flow_by_what_it_keeps():
    table = runs(
        run(0.03125, 1.5, flow=2.0, kept=2.0),
        run(0.5, 1.5, flow=2.0, kept=2.0),
        run(0.5, 1.5, flow=2.0, widths="3-4-3", problem=1),
    )
    claim = rows(training.kept, table)["C6.flow_two_layers"]
    assert numbers(claim) == (0, 1, 0.25, 1)
    wrong = table.assign(kept_ratio=[1.0, 1.0, NAN])
    assert rows(training.kept, wrong)["C6.flow_two_layers"].value == 1


def test_wide_networks():
    # 8 · 8.25 = 66 = 2(1 + n/d_0) at n = 64, d_0 = 2; the correction is (1 + 1/4)² − 1 with d_L = 4.
    table = runs(
        run(0.03125, 1.0, flow=8.25, widths="2-64-4"),
        run(0.03125, 1.0, flow=9.0, widths="2-64-4", problem=1),
        run(0.03125, 1.0, flow=9.0, widths="2-4-4", problem=2),
    )
    claim = rows(training.width, table)["C6.trained_width"]
    off, correction = 9 / 8.25 - 1, 0.5625
    control = (3 + 4 * 9 / 8.25 - 1) / 2 / correction
    assert numbers(claim) == pytest.approx((off / correction, 2, control, 2))


def test_what_the_flow_keeps_and_descent_does_not():
    claim = rows(training.flow, SCALAR)["C6.flow"]
    assert numbers(claim) == (1e-7, 1, 0.125, 3)


def test_the_sharpness_along_runs():
    def path(ratio, *values):
        return [(ratio, step, value) for step, value in enumerate(values)]

    table = pd.DataFrame(
        [*path(0.125, 9.0, 1.5, 3.0), *path(0.5, 9.0, 3.0, 1.5), *path(0.25, 9.0, 2.5, 2.5)],
        columns=["flat_ratio", "step", "sharpness_ratio"],
    ).assign(experiment="e", network=0, problem=0)
    claim = rows(training.sharpening, table)["C6.sharpening"]
    # Ends at 0.375, 0.75 and 0.625; the flow's end times 0.5 is 1.5, and on the way 1.5 was reached.
    assert numbers(claim) == (-0.25, 3, 0.5, 1)
