"""The rows on the least trace."""

import pandas as pd
import pytest

from dmf_sharpness.claims import trace
from dmf_sharpness.claims.judge import judge
from tests.claims import by_hand
from tests.claims.by_hand import numbers

ROWS = ["C2.trace_bound", "C2.trace_attained", "C2.trace_spectrum", "C2.trace_sharpness"]
GOOD = {
    "experiment": "t",
    "network": 0,
    "problem": 0,
    "kind": "random",
    "flat_trace": 8.0,
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
    larger = {"problem": 1, "flat_trace": 9.0}
    table = pd.DataFrame([GOOD | changes, GOOD | built, GOOD | built | larger])
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


def test_values_and_controls():
    """Only searches from minimizers that were not built so count, but for the bound, and sharper ones alone
    are a control for the factor. The first and the second are below the bound of the third and the fourth."""
    frame = by_hand.table(
        flat_trace=[6.0, 8.0, 16.0, 16.0],
        kind=["random", "random", "flat", "trace_flat"],
        start_trace=[1.5, 2.0, 1.25, 1 - 1e-9],
        least_trace=[1.0, 1 - 1e-10, 1.125, 1.0],
        end_trace=[1.0, 1.0, 1.125, 3.0],
        start_spectrum_difference=[0.25, 0.125, 0.5, 9.0],
        end_spectrum_difference=[1e-9, 3e-9, 2e-9, 9.0],
        end_sharpness=[1.5, 0.75, 1.25, 9.0],
        predicted_sharpness=[1.25, 1.0, 1.0 + 1e-7, 3.0],
    )
    bound, *_ = found = list(by_hand.rows(trace.trace_bound, frame).values())
    assert numbers(bound) == pytest.approx((1e-9, 4, 1 - (6 / 8 + 8 / 16) / 2, 2), rel=1e-6)
    assert numbers(found[1]) == (0.125, 3, 0.5, 3)
    spectrum, sharpness = by_hand.rows(trace.trace_flat_spectrum, frame).values()
    assert numbers(spectrum) == (3e-9, 3, 0.25, 3)
    assert numbers(sharpness) == pytest.approx((0.25, 3, 0.5, 1), rel=1e-6)
