"""Groups of minimizers by widths and products."""

import pytest

from dmf_sharpness.claims import minimizer_groups
from tests.claims.by_hand import table


@pytest.mark.parametrize(
    ("widths", "scalar", "settled"),
    [
        ("1-2-1", True, True), ("1-2-3-1", True, True), ("2-3-2", False, True), ("2-3-3-2", False, False),
        ("1-2-2-2", False, False), ("2-2-2-1", False, False), ("11-2-2-1", False, False),
        ("1-2-2-11", False, False),
    ],
)  # fmt: skip
def test_scalars_and_depth_2(widths, scalar, settled):
    frame = table(widths=[widths], depth=[widths.count("-")])
    assert minimizer_groups.is_scalar(frame).tolist() == [scalar]
    assert minimizer_groups.is_settled(frame).tolist() == [settled]


def test_products():
    frame = table(
        spectral_imbalance=[1e-10, 1.1e-10, 0.5, 0.5, 0.0],
        product_spread=[1e-9, 1e-10, 0.0, 1.1e-10, 0.0],
        flat_sharpness=[1.0, 1.0, float("nan"), 1.0, 0.5],
    )
    assert minimizer_groups.is_balanced(frame).tolist() == [True, False, False, False, True]
    assert minimizer_groups.has_wrong_value(frame).tolist() == [False, True, True, False, False]
    assert minimizer_groups.factorization(frame).index.tolist() == [0, 1, 3, 4]
