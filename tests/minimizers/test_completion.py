"""Completions with the least trace and the least sharpness, against bounds and searches of another kind."""

import numpy as np
import pytest
import torch

from dmf_sharpness import hessian_trace, sharpness
from dmf_sharpness.minimizers.completion import (
    balanced_factors,
    flat_completion,
    least_nuclear_norm,
    trace_flat_completion,
)


def tensors(factors):
    return [torch.from_numpy(np.ascontiguousarray(W)) for W in factors]


@pytest.fixture(params=range(3))
def problem(request):
    rng = np.random.default_rng(request.param)
    M, weights = rng.standard_normal((4, 3)), rng.uniform(0.5, 2, (4, 3))
    weights[rng.permutation(4)[:3], range(3)] = 0
    return M, weights, rng


def test_the_least_nuclear_norm_of_one_missing_entry_is_that_on_a_grid():
    M = np.array([[1.0, 2.0], [3.0, np.nan]])
    X, bound = least_nuclear_norm(M, np.isfinite(M))
    grid = np.linspace(0, 10, 10_001)
    best = min(np.linalg.norm([[1, 2], [3, value]], "nuc") for value in grid)
    assert bound <= best <= np.linalg.norm(X, "nuc") + 1e-6
    assert best == pytest.approx(bound, rel=1e-6)


def test_a_matrix_that_is_observed_as_a_whole_has_the_flat_sharpness(problem):
    M, _, _ = problem
    found = flat_completion(M, np.ones(M.shape), M)
    exact = 4 * np.linalg.norm(M, 2)
    assert found.bound <= exact * (1 + 1e-12)
    assert sharpness(tensors(found.factors)).value == pytest.approx(exact, rel=1e-3)


def test_no_completion_is_below_the_bounds_and_the_found_ones_attain_them(problem):
    M, weights, rng = problem
    observed = torch.from_numpy(weights)
    flat, trace_flat = flat_completion(M, weights, M), trace_flat_completion(M, weights)
    for found in (flat, trace_flat):
        assert np.where(weights > 0, found.product, 0) == pytest.approx(
            np.where(weights > 0, M, 0), abs=1e-8
        )
    value = sharpness(tensors(flat.factors), observed=observed).value
    trace = hessian_trace(tensors(trace_flat.factors), observed=observed)
    assert 1 - 1e-12 <= value / flat.bound <= 1 + 1e-3
    assert 1 - 1e-12 <= trace / trace_flat.bound <= 1 + 1e-8
    for _ in range(20):
        other = tensors(balanced_factors(np.where(weights > 0, M, rng.standard_normal(M.shape))))
        assert sharpness(other, observed=observed).value > flat.bound
        assert hessian_trace(other, observed=observed) > trace_flat.bound
