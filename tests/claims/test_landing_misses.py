"""The table of misses of the landing law."""

import pandas as pd
import pytest

from dmf_sharpness.artifacts.store import write_table
from dmf_sharpness.claims.landing_misses import miss_rates, to_markdown
from tests.claims.test_ledger import README, ledger_at
from tests.scripts import run_script

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


@pytest.mark.parametrize("there", [True, False], ids=["a table", "no table"])
def test_the_page_gets_the_table_if_there_is_one(tmp_path, there):
    readme, page, table = (tmp_path / name for name in ("README.md", "page.md", "landing.parquet"))
    readme.write_text(README)
    page.write_text("# A page\n\n<!-- misses -->\nold\n<!-- /misses -->\n")
    if there:
        write_table(table, "study_landing", ROWS, {})
    said = run_script("update_readme", ledger_at(tmp_path), readme, "--landings", table, page)
    assert said.status == 0
    assert ("| 0.01 | 4 | 75.0% |" in page.read_text()) == there
    assert ("old" in page.read_text()) != there
