"""The rows on the least trace."""

import pandas as pd
import pytest

from dmf_sharpness.claims.judge import judge

ROWS = ["C2.trace_bound", "C2.trace_attained", "C2.trace_spectrum", "C2.trace_sharpness"]
GOOD = {
    "experiment": "t",
    "network": 0,
    "problem": 0,
    "kind": "random",
    "start_trace": 1.5,
    "least_trace": 1.0,
    "end_trace": 1.0,
    "start_sharpness": 2.0,
    "end_sharpness": 1.1,
    "predicted_sharpness": 1.1,
    "start_spectrum_difference": 0.1,
    "end_spectrum_difference": 1e-9,
}


def judged(**changes):
    built = {"kind": "trace_flat", "start_trace": 1.0, "start_spectrum_difference": 1e-15}
    table = pd.DataFrame([GOOD | changes, GOOD | built])
    return judge({"studies/trace": table})


def test_good_numbers_stand():
    rows = judged()
    assert [row.id for row in rows] == ROWS
    assert all(row.stands for row in rows)


@pytest.mark.parametrize(
    ("change", "fallen"),
    [
        ({"least_trace": 1 - 1e-9}, "C2.trace_bound"),
        ({"start_trace": 1 - 1e-9}, "C2.trace_bound"),
        ({"end_trace": 1 + 1e-3}, "C2.trace_attained"),
        ({"end_spectrum_difference": 1e-3}, "C2.trace_spectrum"),
        ({"end_sharpness": 1.2}, "C2.trace_sharpness"),
        ({"end_sharpness": 1.05}, "C2.trace_sharpness"),
    ],
)
def test_bad_numbers_fall(change, fallen):
    assert [row.id for row in judged(**change) if row.verdict == "fails"] == [fallen]
