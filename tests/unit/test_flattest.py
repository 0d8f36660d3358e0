import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.factors import end_to_end
from dmf_sharpness.flat_set import path_defect
from dmf_sharpness.flattest import gauged, minimize_sharpness
from dmf_sharpness.targets import gaussian_matrix
from tests.helpers import random_problem


@pytest.mark.parametrize("network", [(3, 4, 3), (2, 4, 4, 3), (1, 3, 3, 3, 1)])
@given(seed=st.integers(0, 999))
@settings(max_examples=5)
def test_the_least_sharpness_is_the_bound(network, seed):
    target, factors = random_problem(network, seed)
    least = dmf.flat_sharpness(target, len(factors))
    search = minimize_sharpness(factors)
    assert search.start == pytest.approx(dmf.sharpness(factors).value, rel=1e-12)
    assert search.value == pytest.approx(least, rel=1e-6)
    assert search.least >= least * (1 - 1e-12)
    assert float((end_to_end(search.factors) - target).norm() / target.norm()) < 1e-10
    # What it found, and not what it was built to have: the layers pass the top vector on.
    assert path_defect(search.factors) < 1e-4 < path_defect(factors)


def test_gauges_keep_the_product():
    target, factors = random_problem((3, 5, 4, 2), 1)
    moved = gauged(factors, [0.3 * gaussian_matrix(5, 5, 2), 0.3 * gaussian_matrix(4, 4, 3)])
    torch.testing.assert_close(end_to_end(moved), target, rtol=1e-11, atol=1e-12)


def test_flat_minimizers_by_construction_share_the_path():
    target = gaussian_matrix(4, 3, 0)
    assert path_defect(dmf.flat_minimizer(target, [6, 5], 1, frobenius_imbalance=30)) < 1e-12
    assert path_defect(dmf.minimizer_with_sharpness(target, [6], 100.0, 1)) > 0.1
