"""The rows on norms that are far apart, with values and controls by hand."""

import pytest

from dmf_sharpness.claims import norms
from tests.claims.by_hand import numbers, rows, table

ODD = float("nan")


def minimizers():
    """Flat and random ones, with Frobenius norms equal, somewhat apart and far apart, and one with data."""
    frame = table(
        kind=["flat", "balanced", "flat", "unequal_flat", "flat_live", "flat_live", *["random"] * 5, "flat"],
        frobenius_imbalance=[1.25, 1.0, 100.0, 300.0, 100.0, 50.0, 1.5, 1.1, 200.0, 4.0, 1.3, 500.0],
        spectral_imbalance=[1e-11, 0.0, 1e-11, 0.0, 0.5, 0.25, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0],
        excess=[1e-14, 9e-14, 2e-14, 3e-14, 4e-14, 8e-14, 0.5, 0.25, 4.0, 0.125, 6e-14, ODD],
        flat_sharpness=[1.0] * 11 + [ODD],
    )  # fmt: skip
    frame["experiment"] = ["far"] * 4 + ["live"] * 4 + ["far"] * 4
    return frame


def test_norms_that_are_apart():
    claim = rows(norms.frobenius, minimizers())["C5.frobenius"]
    assert numbers(claim) == (6e-14, 4, 0.5, 3)


def test_norms_a_factor_of_a_hundred_apart():
    found = rows(norms.hundred, minimizers())
    assert numbers(found["C5.hundred"]) == (3e-14, 2, 0.25, 3)
    # Its control is taken from the experiment that it comes from itself.
    assert numbers(found["C5.live"]) == (4e-14, 1, (0.5 + 0.25) / 2, 2)


@pytest.mark.parametrize(
    ("kept", "names"), [("flat", ["C5.hundred"]), ("flat_live", ["C5.live"]), ("random", [])]
)
def test_a_row_without_minimizers_is_left_out(kept, names):
    frame = minimizers()
    assert list(rows(norms.hundred, frame[frame.kind.isin([kept, "random"])])) == names
