"""The rows on minima with a residual, with values and controls by hand."""

import pytest

from dmf_sharpness.claims import bottleneck
from tests.claims.by_hand import numbers, rows, table

KINDS = ["bottlenecked", "underestimated", "overestimated", "flat_bottlenecked"]


def minima(**changes):
    """Minima with one and two wide ends but the last, which is flat; ``q`` is 1/2, but 1 at the second."""
    columns = {
        "kind": KINDS,
        "tight_ends": [1, 0, 0, 2],
        "residual_ratio": [0.5, 1.0, 0.5, 0.5],
        "spectral_imbalance": [0.25, 1.0, 1.0, 1e-11],
        "expression": [4.0, 8.0, 16.0, 2.0],
        "oracle_sharpness": [5.0, 15.0, 12.25, 2.0],
        "flat_sharpness": [4.0, 4.0, 4.0, 2.0],
        "sharpness": [5.0, 15.0, 12.25, 2.125],
        "spectrum_difference": [1e-14, 3e-14, 1e-15, 2e-14],
        "control_spectrum_difference": [0.1, 0.2, 0.4, 0.5],
    }
    return table(**columns | changes)


def test_the_sharpness_with_a_residual_and_the_closed_form_without():
    claim = rows(bottleneck.with_residual, minima())["C1.bottleneck"]
    # The control is the closed form where an outer factor has a larger rank: off by 1/5, 7/15 and 3.75/12.25.
    assert numbers(claim) == pytest.approx((1 / 16, 4, 15 / 49, 3))
    below = minima(sharpness=[5.0, 15.0, 12.25, 1.75])
    claim = rows(bottleneck.with_residual, below)["C1.bottleneck"]
    assert claim.value == pytest.approx(1 / 8)


def test_the_spectrum():
    claim = rows(bottleneck.spectrum_with_residual, minima())["C1.bottleneck_spectrum"]
    assert numbers(claim) == pytest.approx((3e-14, 4, 0.3, 4))


def test_the_closed_form_where_both_outer_factors_are_narrow():
    frame = minima(tight_ends=[1, 0, 2, 2])
    claim = rows(bottleneck.with_narrow_ends, frame)["C1.bottleneck_exact"]
    # The third is too sharp to be flat and counts; the control has the first and the second.
    assert numbers(claim) == pytest.approx((15 / 49, 2, (1 / 5 + 7 / 15) / 2, 2))
    # A flat one, at which the closed form is right as well, is no control.
    flat = minima(tight_ends=[1, 0, 2, 1])
    assert rows(bottleneck.with_narrow_ends, flat)["C1.bottleneck_exact"].control.n == 2


def test_the_closed_form_where_one_outer_factor_is_narrow():
    claim = rows(bottleneck.with_one_narrow_end, minima())["C1.bottleneck_below"]
    assert numbers(claim) == pytest.approx((0.0, 2, 16 / 12.25 - 1, 1))
    assert rows(bottleneck.with_one_narrow_end, minima(kind=["bottlenecked"] * 4)) == {}


def test_the_bounds_and_the_families_that_come_near_to_them():
    """With ``q = 1/2`` the sharpness is between 3/4 and 3/2 of the closed form, with 1 between 2/3 and 2."""
    found = rows(bottleneck.bounds_with_residual, minima())
    # The third is the nearest to its lower bound, 12: none is outside.
    # With half of the residual the second is 15/12 of its bound, and the third, at least 13.3, is 160/147.
    both = ((15 / 12 - 1) + (16 * 5 / 6 / 12.25 - 1)) / 2
    assert numbers(found["C1.bottleneck_bounds"]) == pytest.approx((12 / 12.25 - 1, 4, both, 2))
    under, over = found["C1.bottleneck_high"], found["C1.bottleneck_low"]
    assert numbers(under) == pytest.approx((1 / 16, 1, 1 - 5 / 6, 1))
    assert numbers(over) == pytest.approx((12.25 / 12 - 1, 1, 5 / 3 - 1, 1))
    assert under.control.value == pytest.approx(1 / 6)
    high = rows(bottleneck.bounds_with_residual, minima(oracle_sharpness=[5.0, 17.0, 12.25, 2.0]))
    assert high["C1.bottleneck_bounds"].value == pytest.approx(1 / 16)
    low = rows(bottleneck.bounds_with_residual, minima(oracle_sharpness=[5.0, 15.0, 10.0, 2.0]))
    assert low["C1.bottleneck_bounds"].value == pytest.approx(1 / 5)


@pytest.mark.parametrize("missing", ["underestimated", "overestimated"])
def test_the_bounds_are_not_judged_without_both_families(missing):
    frame = minima(kind=["bottlenecked" if kind == missing else kind for kind in KINDS])
    assert rows(bottleneck.bounds_with_residual, frame) == {}


def test_searches_for_a_violation():
    """The control is the best search of each problem and direction, against the bounds with ``q/2``."""
    frame = table(
        residual_ratio=[1.0, 1.0, 1.0, 0.5],
        end_ratio=[1.5, 2.5, 0.5, 0.8],
        largest=[True, True, False, False],
    )
    frame["problem"] = [0, 0, 0, 1]
    claim = rows(bottleneck.searched_with_residual, frame)["C1.bottleneck_search"]
    # Outside by 3/4, 5/4, (2/3)/(1/2) and (3/4)/0.8, less 1; with q/2 the bounds are 3/2, 3/4 and 5/6.
    assert numbers(claim)[:2] == pytest.approx((1 / 3, 4))
    # Of 5/3, (3/4)/(1/2) and (5/6)/0.8, less 1, the median is the second.
    assert (claim.control.value, claim.control.n) == pytest.approx((1 / 2, 3))


def test_flat_minima_with_a_residual():
    found = rows(bottleneck.flat_with_residual, minima(oracle_sharpness=[5.0, 15.0, 12.25, 2.5]))
    flat, bound = found["C2.bottleneck"], found["C2.bottleneck_bound"]
    assert numbers(flat) == pytest.approx((1 / 4, 1, 12.25 / 4 - 1, 3))
    assert (bound.value, bound.n, bound.control.n) == (1 - 5 / 4, 4, 0)
    two = minima(
        oracle_sharpness=[3.0, 15.0, 3.0, 2.0],
        flat_sharpness=[4.0, 4.0, 3.0, 2.0],
        spectral_imbalance=[0.25, 1.0, 1e-11, 1e-11],
    )
    below = rows(bottleneck.flat_with_residual, two)["C2.bottleneck_bound"]
    # The bound of the first two is no control, because neither is flat.
    assert numbers(below) == pytest.approx((1 / 4, 4, 1 - 2 / 3, 1))
    assert rows(bottleneck.flat_with_residual, minima(spectral_imbalance=[1.0] * 4)) == {}
