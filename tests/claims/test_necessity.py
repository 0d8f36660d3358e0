"""The rows on the theorem of necessity, with values and controls by hand."""

import math

from dmf_sharpness.claims import necessity
from tests.claims.by_hand import numbers, rows, table


def grid():
    return table(
        necessary=[True, True, True, False, False, False],
        product=[0.5, 1.25, 1.001, 1.5, 0.75, 1.015625],
        unbalanced_excess=[0.25, 0.5, 9.0, 1e-14, 3e-14, 2e-14],
        forced_excess=[0.25, 0.125, 0.5, 0.75, 1.0, 3.0],
        found_excess=[0.375, 0.0625, 0.5, 0.25, 0.0, 0.0],
        end_excess=[0.5, 0.25, 0.5, 8.0, 8.0, 8.0],
        start_excess=[1.25, 2.125, 4.5, 9.0, 9.0, 9.0],
    )


def test_both_directions():
    found = rows(necessity.theorem, grid())
    # A product below 1 is off balance as well; the third is too near to 1, and counts as infinite.
    assert numbers(found["C2.not_necessary"]) == (3e-14, 3, 0.5, 3)
    assert numbers(found["C2.necessary"]) == (0.0625, 3, 1.0, 3)
    assert numbers(found["C2.forced"]) == (0.25, 3, 2.0, 3)


def test_a_minimizer_that_is_not_off_balance_is_no_example():
    frame = grid().assign(product=[0.5, 1.25, 1.5, 1.5, 1.001, 0.999])
    claim = rows(necessity.theorem, frame)["C2.not_necessary"]
    assert claim.value == math.inf
    assert claim.control.value == 0.5
