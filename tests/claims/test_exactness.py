"""The rows on the bounds by spectral products, from real minimizers and from spoiled tables."""

from functools import partial

import pandas as pd
import pytest

from dmf_sharpness.claims.judge import judge
from dmf_sharpness.minimizers.basic import balanced_minimizer, random_minimizer
from dmf_sharpness.minimizers.counterexamples import one_term_minimizer
from dmf_sharpness.minimizers.targets import matrix_with_singular_values
from dmf_sharpness.studies.exactness import evaluate
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
