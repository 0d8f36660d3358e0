"""Minimizers with the least trace of the Hessian: the construction, and the search."""

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers import trace_flat
from dmf_sharpness.minimizers.targets import gaussian_matrix, matrix_with_singular_values
from dmf_sharpness.minimizers.trace_flat import hessian_trace_of, minimize_trace
from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.network.trace import flat_trace, trace_flat_spectrum
from dmf_sharpness.oracles import dense_spectrum


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.integers(0, 999),
)
def test_the_construction_has_the_least_trace_and_its_spectrum(shape, extra, seed):
    rank = 1 + seed % min(shape)
    target = matrix_with_singular_values(*shape, [2.0 / (j + 1) for j in range(rank)], seed)
    factors = dmf.trace_flat_minimizer(target, [rank + e for e in extra], seed)
    depth, dense = len(factors), dense_spectrum(factors, target)
    expected = trace_flat_spectrum(target, depth)
    assert float(dense.sum()) == pytest.approx(flat_trace(target, depth), rel=1e-12)
    count = min(len(dense), len(expected))
    assert torch.allclose(dense[:count], expected[:count], rtol=0, atol=1e-12 * float(dense[0]))
    ratio = float(dense[0]) / dmf.flat_sharpness(target, depth)
    assert ratio == pytest.approx(dmf.trace_flat_ratio(target, depth), rel=1e-12)


def test_unused_dimensions_carry_blocks_that_change_nothing():
    target = gaussian_matrix(2, 2, 0)
    W = dmf.trace_flat_minimizer(target, [4, 5], 1)
    values = torch.linalg.svdvals(W[1])
    assert int((values > 1e-9).sum()) == 4
    assert torch.linalg.matrix_rank(W[0]) == torch.linalg.matrix_rank(W[2]) == 2


@given(st.sampled_from([(2, 3, 3), (3, 4, 2), (2, 2, 3, 2), (1, 2, 2, 1)]), st.integers(0, 99))
def test_the_search_ends_at_the_least_trace(widths, seed):
    target = gaussian_matrix(widths[-1], widths[0], seed)
    start = dmf.random_minimizer(target, widths[1:-1], seed)
    search = minimize_trace(start)
    assert search.start == pytest.approx(float(dense_spectrum(start, target).sum()), rel=1e-12)
    assert search.value == pytest.approx(flat_trace(target, len(start)), rel=1e-9)
    assert search.least <= search.value < search.start
    assert search.evaluations > 1
    assert [W.shape for W in search.factors] == [W.shape for W in start]
    assert torch.allclose(end_to_end(search.factors), target, rtol=0, atol=1e-10)
    found = float(hessian_trace_of(search.factors))
    assert found == pytest.approx(search.value, rel=1e-12)


def test_the_search_needs_a_target_of_full_rank():
    target = matrix_with_singular_values(3, 3, [2, 1], 0)
    with pytest.raises(ValueError, match="factors: expected a product of full rank 3, got 2"):
        minimize_trace(dmf.random_minimizer(target, [3, 3], 0))


def test_the_search_minimizes_the_logarithm_of_the_trace_with_its_gradient(monkeypatch):
    target = gaussian_matrix(3, 2, 0)
    start = dmf.random_minimizer(target, [3, 3], 1)
    step = np.random.default_rng(2).standard_normal(sum(W.numel() for W in start))

    def checked(objective, x, **options):
        value, slope = objective(x)
        assert value == pytest.approx(float(dense_spectrum(start, target).sum().log()), rel=1e-13)
        ahead, behind = (objective(x + side * 1e-5 * step)[0] for side in (1, -1))
        assert slope @ step == pytest.approx((ahead - behind) / 2e-5, rel=1e-7)
        return scipy.optimize.OptimizeResult(x=x)

    monkeypatch.setattr(trace_flat.scipy.optimize, "minimize", checked)
    search = minimize_trace(start)
    assert search.evaluations == 3
    assert search.value == pytest.approx(search.start, rel=1e-13)
