"""Values and controls of rows on tables of a few lines, by hand; a control fails with wrong formulas too."""

import math

import pytest

from dmf_sharpness.claims import (
    depth_2_and_scalars,
    escape,
    exactness,
    flatness,
    landing,
    norms,
    regularized,
)
from tests.claims.by_hand import numbers, rows, table


def test_limits_of_stability():
    frame = table(
        momentum=[0, 0, 0, 0.5, 0.5],
        threshold=[2.001, 1.9, 2.0, 3.1, 1.4],
        predicted=[2.0, 2.0, 2.0, 3.0, 1.5],
        sharpness_ratio=[1.0, 1.5, 2.0, 3.0, 3.0],
    )
    claim = rows(escape.threshold, frame)["C6.threshold"]
    control = (abs(1.9 / 3 - 1) + abs(2 / 4 - 1)) / 2
    assert numbers(claim) == pytest.approx((0.05, 3, control, 2))
    claim = rows(escape.threshold_with_momentum, frame)["C6.momentum"]
    assert numbers(claim) == pytest.approx((0.1 / 1.5, 2, (0.55 + 0.3) / 2, 2))


def test_runs_that_leave_and_runs_that_return():
    frame = table(
        step_ratio=[1.1, 1.2, 0.9, 0.8, 1.0],
        radius=[1e-3, 1e-9, 1e-3, 1e-9, 1.0],
        escaped=[True, False, False, True, False],
        outcome=["landed", "undecided", "returned", "landed", "undecided"],
    )
    leaves = rows(escape.leaves, frame)["C6.escape"]
    assert numbers(leaves) == (1.0, 2, 0.5, 2)
    assert leaves.control.share == 0.5
    returns = rows(escape.returns, frame)["C6.return"]
    assert numbers(returns) == (1.0, 2, 1.0, 2)
    assert "1.1 to 1.2" in leaves.claim
    assert "1e-09" in leaves.claim
    assert "0.8 to 0.9" in returns.claim
    assert "1e-03" in returns.claim


def test_starts_that_leave_before_rounding_can_have_grown():
    """A rounding error of 2⁻⁵² grows to a thousandth by the factor |1 − ηλ| = 2c − 1 per step."""
    frame = table(
        start=["random", "flattening", "stable", "stable", "orthogonal"],
        step_ratio=[1.5, 2.0, 1.5, 2.0, 1.5],
        escape_time=[10.0, 6.0, 90.0, float("nan"), 1.0],
        radius=[1e-9, 1e-3, 1e-1, 1e-1, 1e-1],
    )
    claim = rows(escape.other_starts, frame)["C6.starts"]
    span = math.log(1e-3) + 52 * math.log(2)
    late = [10 * math.log(2) / (0.9 * span), 6 * math.log(3) / (0.9 * span)]
    assert numbers(claim)[:2] == pytest.approx((max(late), 2))
    assert (claim.control.value, claim.control.n) == (math.inf, 2)
    assert "from 1e-09 to 1e-03," in claim.claim


SHARPNESS = {
    "sharpness": [2.0, 3.3, 5.0, 7.0],
    "oracle_sharpness": [2.0, 3.0, 4.0, 7.0],
    "control_sharpness": [2.0, 2.4, 6.0, 3.5],
    "flat_sharpness": [2.0, 2.0, 2.0, float("nan")],
    "excess": [0.0, 0.5, 1.0, float("nan")],
}


def test_the_closed_form_everywhere_and_where_it_is_not_flat():
    found = rows(exactness.closed_form, table(**SHARPNESS))
    assert numbers(found["C1.sharpness"]) == pytest.approx((0.25, 3, (0.2 + 0.5) / 2, 2))
    assert numbers(found["C1.any"]) == pytest.approx((0.25, 2, (0.2 + 0.5) / 2, 2))
    data = rows(exactness.closed_form_on_data, table(**SHARPNESS))["C1.data"]
    assert numbers(data) == pytest.approx((0.0, 1, 0.5, 1))


def test_the_closed_form_along_paths():
    claim = rows(exactness.along_paths, table(**SHARPNESS))["C1.paths"]
    assert numbers(claim) == pytest.approx((0.25, 4, (1 / 3 + 1 / 2) / 2, 2))


def test_both_bounds():
    """``λ_flat = 4`` at depth 2 and 6 at depth 3, with largest relative products and mean squares minus 1."""
    frame = table(
        flat_sharpness=[4.0, 6.0],
        depth=[2, 3],
        largest_product=[1.5, 2.0],
        balance_excess=[0.625, 1.0],
        oracle_sharpness=[4.0, 13.0],
        spectral_imbalance=[3.0, 4.0],
        widths=["2-3-2", "2-3-3-2"],
        kind=["random", "one_term"],
    )
    found = rows(exactness.bounds, frame)
    # The bounds are 4.5 and 6.5, 8 and 12: the first is violated below, the second above.
    violated = [4.5 / 4 - 1, 13 / 12 - 1]
    exchanged = [6.5 / 4 - 1, 13 / 8 - 1]
    both = found["C1.bounds"]
    assert numbers(both) == pytest.approx((max(violated), 2, sum(exchanged) / 2, 2))
    below, above = found["C1.bounds_upper"], found["C1.bounds_lower"]
    assert numbers(below) == pytest.approx((6.5 / 4 - 1, 1, 12 / 13 - 1, 1))
    assert numbers(above) == pytest.approx((13 / 8 - 1, 1, 4 / 4.5 - 1, 1))


def test_the_coefficients_of_two_layers():
    """At ρ = 2 they are a = −2/3 and ã = 0, at ρ = 3 a = −1/4 and ã = 5/8; b is 5/6 and 5/8."""
    frame = table(
        widths=["1-2-1", "1-1-1", "1-2-2-1", "2-2-2"],
        depth=[2, 2, 3, 2],
        minimizer=[0, 0, 0, 0],
        sharpness_ratio=[2.0, 3.0, 2.0, 2.0],
        coefficient=[-2 / 3 + 0.03, -0.25, -1.0, 9.0],
        refined=[0.01, 5 / 8 - 0.2, 1.0, 9.0],
    )
    frame["network"] = range(4)
    claim = rows(landing.coefficients_of_two_layers, frame)["C6.two_layers"]
    sizes = [2 / 3 + 1.5 + 5 / 6, 0.25 + 1.5 + 5 / 8]
    assert numbers(claim) == pytest.approx(
        (max(0.03 / sizes[0], 0.2 / sizes[1]), 2, 1 / sizes[0], 1)
    )


def test_runs_with_soft_directions():
    frame = table(
        predicted=[0.9, 0.8], settled=[0.8, 0.5], end_ratio=[0.9, 0.75], excess=[0.1, 0.25]
    )
    claim = rows(landing.soft_directions, frame)["C6.soft"]
    assert numbers(claim) == pytest.approx((0.2 / 0.25, 2, (1 / 0.1 + 1 / 0.25) / 2, 2))
    assert "from 0.1 to 0.25." in claim.claim


def test_the_heavy_ball(monkeypatch):
    monkeypatch.setattr(landing, "_landings_with_momentum", lambda rows: rows)
    frame = table(
        momentum=[0.5, 0.0],
        excess=[1e-6, 1e-6],
        displaced=[1.1, 2.0],
        amplitude=[1.0, 2.5],
        coefficient=[-3.0, 1.0],
        end_ratio=[0.9, 0.8],
        predicted=[0.91, 0.8],
        predicted_plain=[0.8, 0.4],
    )
    peak = rows(landing.peak_with_momentum, frame)["C6.peak_momentum"]
    assert numbers(peak) == pytest.approx((0.2, 2, (0.65 + 0.2) / 2, 2))
    law = rows(landing.landing_law_with_momentum, frame)["C6.law_momentum"]
    sizes = [4 / 3 * (3 + 1.5 * 9) * 1e-12, 4 / 3 * (1 + 1.5) * 1e-12]
    control = (0.1 / sizes[0] + 0.4 / sizes[1]) / 2
    assert numbers(law) == pytest.approx((0.01 / sizes[0], 2, control, 2))


def test_only_flat_ends_of_searches_are_judged():
    """The excess decides: at most 1e-12, whatever the balance."""
    frame = table(
        widths=["2-3-2", "2-3-2", "1-2-2-2-1", "2-2-2-2-2-2", "2-2-2-2", "1-2-2-2-2-1"],
        depth=[2, 2, 4, 5, 3, 5],
        end_ratio=[1 + 1e-13, 1.5, 1.0, 1.0, 1.0, 1.0],
        imbalance=[1e-9, 0.5, 2e-9, 0.25, 0.75, 1e-9],
        path_defect=[3e-9, 0.5, 1e-9, 4e-9, 2e-9, 1e-9],
        start_path_defect=[0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
    )
    balanced = rows(norms.spectral, frame)["C5.spectral"]
    assert numbers(balanced) == pytest.approx((2e-9, 3, 0.25, 1))
    path = rows(norms.top_path, frame)["C5.path"]
    assert path.value == pytest.approx(4e-9)
    assert path.n == 5


def test_the_control_of_the_scalars_is_taken_from_deep_scalars_alone():
    """Equal products of a wrong value at depth 2 belong to C3, those of deep scalars to C4."""
    frame = table(
        widths=["2-3-2", "1-2-1", "1-2-2-1", "2-2-2-2"],
        depth=[2, 2, 3, 3],
        kind=["random"] * 4,
        flat_sharpness=[4.0] * 4,
        excess=[1.0, 2.0, 3.0, 4.0],
        spectral_imbalance=[1.0] * 4,
        product_spread=[0.0] * 4,
        balance_excess=[0.0] * 4,
        least_excess=[0.0] * 4,
    )
    two = rows(depth_2_and_scalars.depth_2, frame)["C3.sufficient"].control
    deep = rows(depth_2_and_scalars.scalars, frame)["C4.sufficient"].control
    assert (two.n, two.value) == (2, 1.5)
    assert (deep.n, deep.value) == (1, 3.0)


def test_the_collapse_is_judged_at_its_threshold():
    """Above the share 1 zero is the minimizer; below the vanishing share another minimum remains."""
    frame = table(
        source=["descent"] * 4 + ["closed form", "descent"],
        share=[0.5, 1.05, 1.05, 1.3, 1.05, 1.0],
        vanishing_share=[1.1] * 6,
        collapsed=[False, True, False, True, False, False],
    )
    claim = rows(regularized.collapse, frame)["E.collapse"]
    assert (claim.value, claim.n) == (1.0, 5)  # one has not collapsed
    # That one is what the wrong threshold would expect.
    assert (claim.control.n, claim.control.share) == (2, 0.5)


def test_convexity_is_judged_where_the_product_is_not_lost_in_rounding():
    frame = table(
        pair=["random", "random", "flat", "random", "flat"],
        mean=["geodesic", "gauges", "geodesic", "geodesic", "geodesic"],
        start_ratio=[30.0, 30.0, 2e4, 1e7, 1e7],
        defect=[-0.5, 0.25, -1e-9, 1.0, 2.0],
    )
    found = rows(flatness.convex, frame)
    assert numbers(found["C2.convex"]) == (-1e-9, 2, 0.25, 1)
    assert numbers(found["C2.convex_attained"]) == (1e-9, 1, 0.5, 1)
    assert "up to 2e+04 λ_flat" in found["C2.convex"].claim


def test_common_values_that_are_flat_and_those_that_are_sharp():
    """At depth 8 flat minimizers have common values up to 2; at depth 2 none but 1."""
    frame = table(
        widths=["2-3-2"] * 5,
        depth=[8, 8, 8, 2, 8],
        kind=["explicit", "explicit", "equal_sharp", "random", "random"],
        flat_sharpness=[4.0] * 5,
        spectral_imbalance=[0.125, 0.5, 0.5, 1.0, 1.0],
        product_spread=[0.0, 0.0, 0.0, 0.0, 0.3],
        excess=[1e-14, 3e-14, 1.25, 2.5, 0.5],
    )
    found = rows(flatness.right_value, frame)
    assert numbers(found["C2.another_value"]) == (3e-14, 2, 1.25, 1)
    assert "from 1.12 p* to 1.5 p*." in found["C2.another_value"].claim
    constant = found["C2.constant"]
    assert numbers(constant) == pytest.approx((1 - 3.5 / 4, 2, 1 - 1.5 / 4, 1))


def test_the_slope_of_the_escape_time():
    frame = table(
        network=[0, 0, 0, 1, 2, 3],
        minimizer=[0] * 6,
        direction=["top", "top", "random", "top", "top", "top"],
        second_ratio=[0.5, 0.5, 0.5, 0.5, 1.5, 0.5],
        step_ratio=[1.5, 1.5, 1.5, 2.0, 1.5, 2.0],
        radius=[1e-11, 1e-15, 1e-14, 1e-9, 1e-13, 1e-15],
        counted=[True, False, True, True, True, True],
        slope=[1.1, 1.1, 9.0, 0.8, 9.0, float("nan")],
        predicted_slope=[1.0] * 6,
    )
    claim = rows(escape.time, frame)["C6.time"]
    others = (abs(1.1 * math.log(3) - 1) + abs(0.8 * math.log(2) - 1)) / 2
    assert numbers(claim) == pytest.approx((0.2, 2, others, 2))
    assert "down to a radius of 1e-11." in claim.claim
