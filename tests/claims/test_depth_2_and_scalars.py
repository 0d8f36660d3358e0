"""The rows of C3 and C4, with values and controls by hand."""

import pytest

from dmf_sharpness.claims import depth_2_and_scalars
from tests.claims.by_hand import numbers, rows, table


def minimizers():
    """Two of depth 2, of which one is a scalar, two deep scalars, and five of deep matrices."""
    return table(
        widths=[
            "2-3-2", "1-2-1", "1-2-2-1", "1-3-3-1", "2-2-2-2", "2-2-2-2", "2-2-2-2", "2-2-2-2", "12-2-2-1",
        ],
        depth=[2, 2, 3, 3, 3, 3, 3, 3, 3],
        flat_sharpness=[4.0] * 9,
        spectral_imbalance=[1e-11, 0.5, 1e-11, 1.0, 0.01, 0.5, 0.005, 1.0, 0.125],
        product_spread=[1e-11, 0.5, 1e-11, 0.0, 0.5, 0.5, 0.005, 0.0, 0.125],
        excess=[1e-14, 0.75, 3e-14, 3.0, 1e-12, 1e-11, 0.0, 2.0, 0.5],
        balance_excess=[0.0, 1.625, 0.0, 2.0, 0.5, 0.25, 0.125, 9.0, 1.0],
        least_excess=[0.0, 0.875, 0.0, 3.5, 0.5, 0.25, 0.125, 9.0, 1.0],
    )  # fmt: skip


def test_at_depth_2():
    found = rows(depth_2_and_scalars.depth_2, minimizers())
    # No minimizer of depth 2 here has equal products of another value.
    enough = found["C3.sufficient"]
    assert (enough.value, enough.n, enough.control.n) == (1e-14, 1, 0)
    # The violation of the second is 1/8. The flat ones with a product far off are one of the deep matrices,
    # whose excess is 1e-12 and not more: with 1e-11 it is not flat, with 0.005 it is not far off.
    assert numbers(found["C3.necessary"]) == pytest.approx((1 / 8, 2, 0.5, 1))
    # The difference 7/8 is in units of 1 + 3/4; equal products of another value are no control.
    control = sorted([0.5, 0.25, 0.125, 0.5 / 1.5])
    assert numbers(found["C3.exact"]) == pytest.approx((0.5, 2, sum(control[1:3]) / 2, 4), rel=1e-9)


def test_of_scalars():
    found = rows(depth_2_and_scalars.scalars, minimizers())
    assert numbers(found["C4.sufficient"]) == (3e-14, 1, 3.0, 1)
    assert numbers(found["C4.necessary"]) == pytest.approx((0.5, 3, 0.5, 1))
    assert numbers(found["C4.exact"])[:2] == pytest.approx((0.5, 3))


def test_data_is_left_out():
    frame = minimizers()
    frame.loc[0, "flat_sharpness"] = float("nan")
    assert rows(depth_2_and_scalars.depth_2, frame)["C3.necessary"].n == 1


def test_searches_for_a_counterexample():
    frame = table(
        widths=["2-3-2", "1-2-1", "1-2-2-1", "2-2-2-2", "2-2-2-2-2"],
        depth=[2, 2, 3, 3, 4],
        least_excess=[0.5, 0.25, 0.125, 1.0, 2.0],
        found_excess=[0.25, 0.75, 0.375, 0.5, 0.25],
        end_excess=[0.75, 1.0, 0.1875, 3.0, 4.0],
        start_excess=[1.5, 2.25, 4.125, 5.0, 6.0],
    )
    two = rows(depth_2_and_scalars.depth_2_searched, frame)
    assert numbers(two["C3.search"]) == (0.25, 2, 1.125, 2)
    assert numbers(two["C3.tight"]) == (0.75, 2, 1.5, 2)
    deep = rows(depth_2_and_scalars.scalars_searched, frame)
    assert numbers(deep["C4.search"]) == (-0.25, 1, 1.125, 2)
    assert numbers(deep["C4.tight"]) == (0.0625, 1, 4.0, 1)
