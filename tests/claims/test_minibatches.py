"""The rows on minibatches."""

import pandas as pd
import pytest

from dmf_sharpness.claims.judge import judge

SITE = {"experiment": "t", "network": 0, "problem": 0, "minimizer": 0, "samples": 5}
PART = {"batch_size": 2, "mean_square": 0.6, "growth": 1.0, "predicted": 1.0, "full_growth": 0.04}
FULL = {"batch_size": 2, "mean_square": 0.6, "growth": 3.0, "predicted": 3.0, "full_growth": 1.0}
WHOLE = {"batch_size": 5, "mean_square": 1.0, "growth": 1.0, "predicted": 1.0, "full_growth": 1.0}
GROWTH = [PART | {"at": "mean_square"}, FULL | {"at": "full"}, WHOLE | {"at": "full"}]
RUN = {"mean_square_ratio": 1.2, "full_ratio": 0.7, "outcome": "converged"}
BELOW = RUN | {"method": "minibatch", "step_ratio": 0.9, "left": False, "exponent": float("nan")}
ABOVE = RUN | {"method": "minibatch", "step_ratio": 1.1, "left": True, "exponent": -0.1}
STAYED = RUN | {"method": "full", "step_ratio": 1.1, "left": False, "exponent": 0.1}


def judged(*changes):
    """All rows, after the rows of the tables with the given numbers were changed."""
    tables = [[dict(row) for row in rows] for rows in (GROWTH, [BELOW, ABOVE, STAYED])]
    for which, number, change in changes:
        tables[which][number] |= change
    growth, runs = (pd.DataFrame([SITE | row for row in rows]) for rows in tables)
    return judge({"studies/minibatches": growth, "studies/minibatch_runs": runs})


def test_good_numbers_stand():
    rows = judged()
    assert [row.id.removeprefix("C6.sgd_") for row in rows] == [
        "growth", "mean_square", "whole", "return", "escape", "end",
    ]  # fmt: skip
    assert all(row.stands for row in rows)


@pytest.mark.parametrize(
    ("which", "number", "change", "fallen"),
    [
        (0, 1, {"growth": 3.01}, "C6.sgd_growth"),
        (0, 1, {"predicted": 2.99}, "C6.sgd_growth"),
        (0, 0, {"growth": 1.01, "predicted": 1.01}, "C6.sgd_mean_square"),
        (0, 2, {"mean_square": 1 - 1e-9}, "C6.sgd_whole"),
        (1, 0, {"left": True}, "C6.sgd_return"),
        (1, 1, {"left": False}, "C6.sgd_escape"),
        (1, 1, {"exponent": 0.01}, "C6.sgd_end"),
    ],
)
def test_bad_numbers_fall(which, number, change, fallen):
    rows = {row.id: row for row in judged((which, number, change))}
    assert rows[fallen].verdict == "fails"


def test_without_runs_on_both_sides_there_is_no_row():
    table = pd.DataFrame([SITE | ABOVE, SITE | STAYED])
    assert judge({"studies/minibatch_runs": table}) == []
