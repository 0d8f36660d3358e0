"""The rows on real data."""

import pandas as pd
import pytest

from dmf_sharpness.claims.judge import judge

ROW = {
    "experiment": "t", "problem": 0, "minimizer": 0, "widths": "784-64-10", "depth": 2, "data": "digits",
    "centred": False, "largest_share": float("nan"), "explained": 1.0, "condition": 1.0, "samples": 10,
    "distance": 1e-6, "flat_sharpness": 10.0, "flat_made": 10.0,
    "made_sharpness": 10.0, "sharpness": 15.0, "lanczos_sharpness": 15.0, "control_sharpness": 1.0,
}  # fmt: skip
OTHER = ROW | {
    "condition": 4.0,
    "made_sharpness": 14.0,
    "flat_limit": 11.0,
    "balanced_sharpness": 10.5,
}
NONE = ROW | {"data": "none", "control_sharpness": 10.0}


def shared(share, centred, value):
    """On whitened data a class with this share; 40 is 2Ln."""
    least = 40 * value**0.5
    return ROW | {
        "largest_share": share, "centred": centred, "made_sharpness": least, "flat_sharpness": least,
        "flat_made": least, "sharpness": 50.0, "lanczos_sharpness": 50.0,
    }  # fmt: skip


TABLE = [
    ROW, OTHER, NONE,
    *(shared(p, False, p) for p in (0.3, 0.5, 0.7)),
    *(shared(p, True, p * (1 - p)) for p in (0.3, 0.5, 0.7)),
]  # fmt: skip


def judged(*changes):
    rows = [dict(row, network=k) for k, row in enumerate(TABLE)]
    for number, change in changes:
        rows[number] |= change
    return judge({"studies/trained": pd.DataFrame(rows)})


def test_good_numbers_stand():
    rows = judged()
    assert [row.id for row in rows] == [
        "C1.trained", "C2.data_bound", "C2.data_attained", "C2.class_share",
        "C2.class_means",
    ]  # fmt: skip
    assert all(row.stands for row in rows)
    by_name = {row.id: row for row in rows}
    assert "784-64-10 with 50,816 parameters" in by_name["C1.trained"].claim
    assert by_name["C1.trained"].n == 9
    assert (by_name["C2.data_bound"].n, by_name["C2.data_bound"].problems) == (16, 8)
    # Of the seven whitened problems the one with the share 0.7 and the means kept has the largest bound.
    assert by_name["C2.data_bound"].control.n == 6
    assert (by_name["C2.data_attained"].n, by_name["C2.data_attained"].control.n) == (8, 1)


@pytest.mark.parametrize(
    ("number", "change", "fallen"),
    [
        (0, {"lanczos_sharpness": 15.0 * (1 + 1e-9)}, "C1.trained"),
        (1, {"sharpness": 10 * (1 - 1e-9)}, "C2.data_bound"),
        (1, {"made_sharpness": 10 * (1 - 1e-9)}, "C2.data_bound"),
        (0, {"flat_made": 10 * (1 + 1e-9)}, "C2.data_attained"),
        (3, {"flat_sharpness": 40 * 0.3**0.5 * (1 + 1e-9)}, "C2.class_share"),
        (3, {"flat_sharpness": 40 * 0.3**0.5 * (1 - 1e-9)}, "C2.class_share"),
        (8, {"flat_sharpness": 20.1}, "C2.class_means"),
    ],
)
def test_bad_numbers_fall(number, change, fallen):
    rows = {row.id: row for row in judged((number, change))}
    assert rows[fallen].verdict == "fails"


def test_networks_that_ended_far_away_are_no_evidence():
    rows = {row.id: row for row in judged((0, {"distance": 0.5}), (1, {"distance": float("nan")}))}
    assert rows["C1.trained"].n == 7


def test_without_data_there_is_one_row():
    (row,) = judge({"studies/trained": pd.DataFrame([NONE | {"network": 0}])})
    assert row.id == "C1.trained"
