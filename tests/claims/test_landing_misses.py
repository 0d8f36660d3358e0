"""The table of misses of the landing law."""

import pandas as pd
import pytest

from dmf_sharpness.claims.landing_misses import miss_rates, to_markdown

# At an excess of 0.01: right; off by 3 %, within reach and beyond; not landed; two that are not admissible.
ROWS = pd.DataFrame(
    {
        "excess": [0.01 + 1e-15, 0.01, 0.01, 0.01, 0.01, 0.01, 0.1],
        "refined": [-2.0, 2.0, -60.0, 3.0, 1.0, 1.0, 5.1],
        "flat_ratio": [0.8, float("nan"), 0.8, 0.8, 1.0, 0.8, 0.5],
        "second_ratio": [0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 0.5],
        "predicted_refined": [0.99, 1 - 1.03e-2, 1 - 0.97e-2, 0.99, 0.9, 0.9, 0.9],
        "end_ratio": [0.99, 0.99, 0.99, float("nan"), 0.99, 0.99, 0.9],
    }
)


def test_the_shares_are_of_the_runs_of_which_the_law_speaks_and_of_those_within_reach():
    one, two = miss_rates(ROWS).itertuples(index=False)
    assert (one.excess, one.admissible, one.within) == (0.01, 4, 3)
    assert (one.missed, one.missed_within) == (pytest.approx(3 / 4), pytest.approx(2 / 3))
    assert (two.excess, two.admissible, two.within, two.missed) == (0.1, 1, 0, 0)


def test_the_table_has_a_line_per_excess():
    lines = to_markdown(ROWS).splitlines()
    assert lines[2] == "| 0.01 | 4 | 75.0% | 3 | 66.7% |"
    assert lines[3].startswith("| 0.1 | 1 | 0.0% | 0 |")
