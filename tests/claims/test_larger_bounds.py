"""The next larger bound of another problem."""

import math

from dmf_sharpness.claims.larger_bounds import next_larger
from tests.claims.by_hand import table


def test_it_is_that_of_the_next_problem_of_the_same_network():
    """Rows of one problem have one bound; the third network has one problem."""
    frame = table(bound=[4.0, 2.0, 2.0, 3.0, 5.0, 9.0, 7.0])
    frame["network"] = [0, 0, 0, 0, 1, 1, 2]
    frame.index = range(10, 80, 10)
    found = next_larger(frame, "bound")
    assert found.index.tolist() == frame.index.tolist()
    assert found.dropna().to_dict() == {20: 3.0, 30: 3.0, 40: 4.0, 50: 9.0}
    assert [k for k, value in found.items() if math.isnan(value)] == [10, 60, 70]


def test_bounds_that_differ_by_rounding_are_one():
    found = next_larger(table(bound=[1.0, 1 + 4e-16, 1.5, 1.5 * (1 + 2e-12)]), "bound")
    assert found.dropna().tolist() == [1.5, 1.5, 1.5 * (1 + 2e-12)]


def test_problems_of_one_shape_may_be_named_by_other_columns():
    frame = table(bound=[1.0, 2.0, 3.0], widths=["2-2-2", "2-3-2", "2-2-2"])
    frame["network"] = [0, 1, 2]
    assert next_larger(frame, "bound").isna().all()
    found = next_larger(frame, "bound", ["experiment", "widths"])
    assert found.dropna().to_dict() == {0: 3.0}
