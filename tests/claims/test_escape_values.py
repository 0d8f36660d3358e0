"""The rows on escapes and landings of single runs, with values and controls by hand."""

import math

import pandas as pd
import pytest

from dmf_sharpness.claims import escape, landing
from dmf_sharpness.claims.tolerances import PERIOD_TWO
from tests.claims.by_hand import numbers, rows, table

NAN = float("nan")


def test_the_rate():
    frame = table(
        growth=[1.25, 0.5, 1.75, NAN, 2.0, 1.5, 1.0],
        predicted_growth=[1.0, 1.0, 2.0, 1.0, 2.0, 1.5, 1.5],
        sharpness=[4.0, 8.0, 4.0, 8.0, 8.0, 4.02, 4.0],
        flat_sharpness=[4.0, 4.0, NAN, 4.0, 2.0, 4.0, 3.0],
        step_ratio=[1.5, 0.75, 1.5, 1.5, 1.5, 1.5, 1.5],
        step_size=[0.75, 0.1875, 0.75, 0.375, 0.375, 0.75, 0.75],
    )
    # Without λ_flat, below the limit, at flat ones and at nearly flat ones no other factor is expected. With
    # λ_flat it is 1/4 at the fifth, and 5/4, with the other sign of the displacement, at the last.
    claim = rows(escape.rate, frame)["C6.rate"]
    assert numbers(claim) == pytest.approx((0.5, 6, (7.0 + 0.2) / 2, 2))


def test_the_direction():
    frame = table(
        direction=["random", "random", "top", "random", "random", "random"],
        second_ratio=[0.5, 0.75, 0.5, 1.0, 0.5, 0.5],
        radius=[1e-11, 1e-10, 1e-9, 1e-9, 1e-9, 0.0],
        misalignment=[1e-8, 3e-8, 0.1, 0.1, NAN, 0.1],
        component=[0.5e-11, 0.25e-10, 1e-9, 1e-9, 1e-9, 0.0],
    )
    claim = rows(escape.direction, frame)["C6.direction"]
    assert numbers(claim) == pytest.approx((3e-8, 2, (0.5 + 0.75) / 2, 2))
    assert "within 1e-10 " in claim.claim


def test_starts_that_do_not_leave_before_rounding_has_grown():
    frame = table(
        start=["stable", "stable", "orthogonal", "random", "orthogonal"],
        step_ratio=[1.5, 2.0, 1.5, 1.5, 1.5],
        escape_time=[100.0, NAN, 10.0, 1.0, 20.0],
    )
    claim = rows(escape.stable_starts, frame)["C6.stable"]
    time = 0.9 * (math.log(1e-3) + 52 * math.log(2)) / math.log(2)
    assert numbers(claim) == pytest.approx((time / 100, 2, (time / 10 + time / 20) / 2, 2))


def test_landings_beyond_the_least_sharpness():
    frame = table(
        flat_ratio=[1.25, 1.5, 0.75, 0.75, 0.75, 0.5, 1.0],
        step_ratio=[2.0, 2.0, 1.5, 0.75, 1.5, 1.5, 1.5],
        second_ratio=[0.5, 1.5, 0.5, 0.5, 1.0, 0.75, 0.5],
        outcome=["bounded", "landed", "landed", "landed", "landed", "diverged", "landed"],
    )
    claim = rows(escape.lands_nowhere, frame)["C6.nowhere"]
    assert numbers(claim) == (1.0, 2, 0.5, 2)
    assert "up to 1.5)" in claim.claim


def orbits():
    """Runs with one unstable direction, below ``c = √5 − 1``, above and at it, and with two; seen twice."""
    ends = table(
        run=range(9),
        step=[9.0] * 9,
        flat_ratio=[1.125, 1.1875, 1.5, 1.25, 1.5, 0.75, 1.125, 1.125, PERIOD_TWO],
        second_ratio=[0.5, 0.75, 0.5, 1.5, 1.25, 0.5, 0.995, 1.005, 0.5],
        ended=[0, 2, 0, 0, 2, 0, 0, 0, 0],
        alternation=[1e-9, 3e-9, 0.5, 0.25, 9.0, 9.0, 9.0, 9.0, 9.0],
        in_top=[1.0, 0.75, 0.875, 0.5, 0.0, 0.0, 0.0, 0.0, 1.0],
        top_gap=[1e-12, 3e-12, 2e-12, 0.125, 9.0, 9.0, 9.0, 9.0, 1e-12],
    )
    before = ends.assign(step=1.0, alternation=7.0, in_top=-7.0, top_gap=7.0)
    return ends.iloc[:4], before, ends.iloc[4:]


def test_orbits():
    frame = pd.concat(orbits(), ignore_index=True)
    found = {
        name: claim
        for judge in (escape.period, escape.confined, escape.balancing)
        for name, claim in rows(judge, frame).items()
    }
    assert numbers(found["C6.period"]) == (3e-9, 2, 0.375, 2)
    assert numbers(found["C6.orbits"]) == (0.25, 4, 0.5, 1)
    assert numbers(found["C6.balancing"]) == (3e-12, 4, 0.125, 1)
    assert "(ηλ_flat/2 from 1.125 to 1.1875)" in found["C6.period"].claim
    assert "(ηλ_flat/2 from 1.125 to 1.5)" in found["C6.orbits"].claim


def test_where_runs_land():
    frame = table(
        outcome=["landed", "landed", "returned"],
        end_ratio=[0.75, 1.25, 2.0],
        step_ratio=[2.0, 1.5, 3.0],
    )
    claim = rows(landing.lands_stable, frame)["C6.flatter"]
    assert numbers(claim) == (0.25, 2, (2.0 + 1.8125) / 2, 2)


def test_landings_near_the_limit():
    frame = table(
        excess=[1e-4, 1e-4, 1e-2, 1e-3, 1e-4, 1e-4, 1e-2],
        end_ratio=[0.9999, 0.9998, 0.98, 0.5, 0.5, 0.5, 0.97],
        flat_ratio=[0.5, NAN, 0.5, 0.5, 1.0, 0.5, 0.5],
        second_ratio=[0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 0.5],
    )
    claim = rows(landing.lands_at_the_limit, frame)["C6.limit"]
    assert numbers(claim) == pytest.approx((2e-4, 2, 0.025, 2))
    assert claim.tolerance == 2e-4
