"""The rows on flat minimizers and on searches for flatter ones, with values and controls by hand."""

import pytest

from dmf_sharpness.claims import flatness
from tests.claims.by_hand import numbers, rows, table

NAN = float("nan")


def test_equal_products_of_the_right_value():
    frame = table(
        flat_sharpness=[4.0, 4.0, 4.0, 4.0, NAN],
        spectral_imbalance=[1e-11, 0.0, 0.5, 0.5, 0.0],
        product_spread=[1e-11, 0.0, 0.0, 0.25, 0.0],
        excess=[1e-14, 3e-14, 1.25, 9.0, NAN],
    )
    assert numbers(rows(flatness.sufficient, frame)["C2"]) == (3e-14, 2, 1.25, 1)


def test_flat_without_equal_products():
    """A product off by a hundredth counts; data, depth 2, scalars and equal products do not."""
    frame = table(
        kind=[
            "unequal_flat", "flat_unbalanced", "explicit", "explicit", "explicit", "unequal_flat", "flat",
            "random", "random", "random",
        ],
        widths=["2-3-3-2"] * 3 + ["2-3-2", "1-2-2-1"] + ["2-3-3-2"] * 5,
        depth=[3, 3, 3, 2, 3, 3, 3, 3, 3, 3],
        flat_sharpness=[4.0] * 10,
        spectral_imbalance=[0.01, 0.25, 0.5, 0.5, 0.5, 0.005, 0.5, 0.5, 0.25, 0.0],
        product_spread=[0.01, 0.25, 0.0, 0.5, 0.5, 0.005, 0.5, 0.5, 0.25, 0.0],
        excess=[1e-14, 2e-14, 4.0, 5.0, 6.0, 7.0, 8.0, 0.5, 0.25, 0.0],
    )  # fmt: skip
    claim = rows(flatness.not_necessary, frame)["C2.necessity"]
    assert numbers(claim) == (2e-14, 2, 0.375, 2)


def test_searches_for_flatter_minimizers():
    frame = table(
        flat_sharpness=[4.0, 5.0, 8.0],
        least_ratio=[1.0, 1 - 1e-9, 1.25],
        end_ratio=[1.0, 1.5, 1.25],
        start_ratio=[2.0, 1.75, 4.0],
    )
    bound = rows(flatness.least, frame)["C2.bound"]
    assert numbers(bound) == pytest.approx((1e-9, 3, 1 - (4 / 5 + 5 / 8) / 2, 2), rel=1e-6)
    high = rows(flatness.least, frame.assign(least_ratio=[1.0, 1.75, 1.25]))["C2.bound"]
    assert high.control.share == 1 / 2  # a search that stays above the other target's bound
    assert numbers(rows(flatness.attained, frame)["C2.attained"]) == (0.5, 3, 1.0, 3)
