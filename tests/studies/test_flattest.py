"""The columns of the study of searches for a smaller sharpness, and of the one of convexity."""

import math

import numpy as np
import pytest
import torch

from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.search import Search
from dmf_sharpness.studies import convexity, flattest


def diagonal(*entries):
    return torch.diag(torch.tensor(entries, dtype=torch.float64))


START = [diagonal(3, 1), diagonal(4 / 3, 1)]
"""A minimizer of ``diag(4, 1)``, with the relative products 2/3 and 3/2; ``λ_flat`` is 16."""
ENSEMBLE = Ensemble(
    0, (2, 2, 2), ("explicit",), [W[None] for W in START], diagonal(4, 1)[None], None
)


def test_a_search_from_a_minimizer_whose_numbers_are_known():
    (row,) = (row for _, row in flattest.study(ENSEMBLE, StudySpec(steps=300)).iterrows())
    assert row.flat_sharpness == pytest.approx(16)
    assert row.start_ratio == pytest.approx(194 / 144)
    assert (row.end_ratio, row.least_ratio) == pytest.approx((1, 1), rel=1e-12)
    assert row.start_imbalance == pytest.approx(1 / 2)
    assert row.start_path_defect == pytest.approx(1 / 2)
    assert row.imbalance < 1e-6
    assert row.path_defect < 1e-6
    assert row.residual < 1e-14


def test_every_column_is_of_the_point_that_it_says(monkeypatch):
    """The end of the search is off in a way that every column shows."""
    end = [diagonal(1.5, 1), diagonal(8 / 3, 1.5)]  # diag(4, 1.5): relative products 4/3, 3/4
    search = Search(end, start=48.0, value=32.0, least=20.0, evaluations=7)
    monkeypatch.setattr(flattest, "minimize_sharpness", lambda factors, steps: search)
    (row,) = (row for _, row in flattest.study(ENSEMBLE, StudySpec(steps=1)).iterrows())
    assert (row.start_ratio, row.end_ratio, row.least_ratio) == pytest.approx((3, 2, 1.25))
    assert row.residual == pytest.approx(0.5 / math.sqrt(17))
    assert row.imbalance == pytest.approx(1 / 3)
    assert row.path_defect == pytest.approx(1 / 3)
    assert row.start_imbalance == pytest.approx(1 / 2)
    assert row.start_path_defect == pytest.approx(1 / 2)


def test_the_largest_imbalance_may_be_below_balance():
    number = [torch.tensor([[w]], dtype=torch.float64) for w in (2.0, 0.5**0.5, 0.5**0.5)]
    assert flattest._imbalance(number) == pytest.approx(1 / 2)  # the products are 1/2, √2, √2


def test_means_of_pairs_of_scalars(monkeypatch):
    """With ``W_1 = x``, ``W_2 = 1/x`` the sharpness is ``4 cosh(2 log x)``, and a gauge adds to ``log x``."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    ensemble = Ensemble(0, (1, 1, 1), ("explicit",), [2 * one, one / 2], one, None)
    gauge = torch.full(
        (1, 1), -8.0, dtype=torch.float64
    )  # a reflection, and log 8 along the geodesic
    monkeypatch.setattr(convexity, "random_gauges", lambda widths, rng: [gauge])
    table = convexity.study(ensemble, StudySpec(steps=300, repeats=2))
    assert table.pair.tolist() == ["random", "random", "flat"] * 2
    assert table["mean"].tolist() == ["geodesic", "gauges", "geodesic"] * 2
    start, end = math.log(2), math.log(16)
    ends = [math.log(4 * math.cosh(2 * x)) for x in (start, end)]
    for row, middle in ((0, (start + end) / 2), (1, math.log(2 * 3.5))):
        expected = math.log(4 * math.cosh(2 * middle)) - np.mean(ends)
        assert table.defect[row] == pytest.approx(expected, rel=1e-12)
        assert table.distance[row] == pytest.approx(2 * math.log(8))
    assert table.start_ratio.tolist() == pytest.approx([math.cosh(2 * end)] * 6)  # λ_flat is 4
    assert table.defect[2] == pytest.approx(0, abs=1e-12)
    assert table.distance[2] == pytest.approx(0, abs=1e-6)  # there is one flat one, up to its sign
