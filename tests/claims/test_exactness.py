"""The rows on the bounds by spectral products, from real minimizers and from spoiled tables."""

from functools import partial

import pandas as pd
import pytest

from dmf_sharpness.claims import exactness
from dmf_sharpness.claims.judge import judge
from dmf_sharpness.minimizers.basic import balanced_minimizer, random_minimizer
from dmf_sharpness.minimizers.counterexamples import one_term_minimizer
from dmf_sharpness.minimizers.targets import matrix_with_singular_values
from dmf_sharpness.studies.exactness import evaluate
from tests.claims import by_hand
from tests.claims.by_hand import numbers
from tests.helpers import ensemble_of

ROWS = ["C1.bounds", "C1.bounds_upper", "C1.bounds_lower"]


@pytest.fixture(scope="module")
def table():
    far = partial(random_minimizer, spread=1.0)
    networks = [((3, 4, 3), [far] * 2), ((1, 3, 3, 1), [far] * 2)]
    networks += [((3, 4, 4, 3), [balanced_minimizer, far, far])]
    made = [evaluate(ensemble_of(k, *network), None) for k, network in enumerate(networks)]
    return pd.concat([*made, narrow_table()], ignore_index=True).assign(experiment="e")


def narrow_table():
    """Minimizers that attain the lower bound, for a target of rank 1."""
    targets = [matrix_with_singular_values(3, 2, [1.5], k) for k in range(2)]
    made = ensemble_of(3, (2, 3, 2, 3), [one_term_minimizer] * 2, targets)
    return evaluate(made, None).assign(kind="one_term")


def rows(table):
    return {row.id: row for row in judge({"sharpness": table}) if row.id in ROWS}


def test_the_bounds_hold_and_are_attained(table):
    judged = rows(table)
    assert list(judged) == ROWS
    assert all(row.stands for row in judged.values())
    assert judged["C1.bounds_upper"].n == 5
    assert judged["C1.bounds_lower"].n == 2


@pytest.mark.parametrize(
    ("column", "factor", "fallen"),
    [
        ("largest_product", 2**0.5, ["C1.bounds"]),
        ("largest_product", 0.5**0.5, ["C1.bounds_lower"]),
        ("oracle_sharpness", 1 + 1e-9, ["C1.bounds", "C1.bounds_lower"]),
        ("oracle_sharpness", 1 - 1e-9, ["C1.bounds", "C1.bounds_upper"]),
    ],
)
def test_a_wrong_bound_is_seen(table, column, factor, fallen):
    """Also one that is only too weak, such as the lower bound without its factor 2."""
    judged = rows(table.assign(**{column: factor * table[column]}))
    assert [name for name, row in judged.items() if row.verdict == "fails"] == fallen


def test_fifty_digits():
    frame = by_hand.table(
        depth=[3, 2, 8],
        difference=[1e-70, 2e-60, 3e-65],
        control_difference=[0.5, 0.25, 0.125],
        float_difference=[1e-16, 2e-16, 3e-16],
    )
    claim = by_hand.rows(exactness.to_fifty_digits, frame)["C1.digits"]
    assert numbers(claim) == pytest.approx((2e-60, 3, (0.125 + 3e-16) / 2, 6), rel=1e-9)
    assert claim.claim.startswith("At depths 2 to 8,")


def test_the_controls_of_spectrum_and_eigenvector_are_other_minimizers_that_are_not_flat():
    frame = by_hand.table(
        excess=[0.0, 1e-7, 1.0, float("nan"), 2.0],
        spectrum_difference=[1e-15, 4e-15, 2e-15, 3e-15, 1e-16],
        control_spectrum_difference=[1e-14, 0.25, 0.5, 1.0, float("nan")],
        eigenvector_residual=[1e-15, 2e-15, 5e-15, 1e-15, 1e-15],
        control_eigenvector_residual=[float("nan"), 0.25, 0.5, 2.0, 3.0],
    )
    claim = by_hand.rows(exactness.spectrum, frame)["C1.spectrum"]
    assert numbers(claim) == (4e-15, 5, 0.75, 2)  # data has no excess, and counts
    claim = by_hand.rows(exactness.eigenvector, frame)["C1.eigenvector"]
    assert numbers(claim) == (5e-15, 5, 1.25, 4)


def test_the_upper_bound_has_its_control_where_nothing_makes_it_attained():
    frame = by_hand.table(
        widths=["2-3-2", "1-2-2-1", "2-2-2-2", "2-2-2-2", "2-2-2-2", "2-2-2-2"],
        depth=[2, 3, 3, 3, 3, 3],
        kind=["random", "random", "balanced", "equal_sharp", "equal_flat", "random"],
        flat_sharpness=[4.0] * 6,
        largest_product=[1.0] * 6,
        balance_excess=[1.0] * 6,
        oracle_sharpness=[8.0, 4.0, 8.0, 7.0, 6.0, 5.0],
        spectral_imbalance=[1.0, 1.0, 1e-11, 1.0, 1.0, 1.0],
    )
    found = by_hand.rows(exactness.bounds, frame)
    claim = found["C1.bounds_upper"]
    assert numbers(claim) == pytest.approx((1.0, 3, (8 / 6 + 8 / 5) / 2 - 1, 2))
    assert "C1.bounds_lower" not in found
