"""The iteration for eigenvectors, on operators of any size, subnormal ones, and ones that are not finite."""

import math

import pytest
import torch

from dmf_sharpness.hessian.lanczos import top_eigenvector, top_eigenvectors


@pytest.mark.parametrize("size", [1e-308, 1e-200, 1e-20, 1e-6, 1.0, 1e200, 1e305])
def test_the_tolerance_of_an_iteration_is_relative(size):
    """ARPACK's own is absolute below 4e-11: eigenvalues that are small would be far off."""
    values = torch.arange(1.0, 61).double().sqrt()
    found, vector = top_eigenvector(lambda y: size * values * y, torch.ones(60).double(), 1e-10)
    assert found == pytest.approx(size * 60**0.5, rel=1e-12)
    assert float(vector[-1].abs()) == pytest.approx(1, abs=1e-9)


def test_an_operator_of_subnormal_numbers_is_no_error():
    values = torch.arange(1.0, 61).double() * 5e-324
    found, _ = top_eigenvector(lambda y: values * y, torch.ones(60).double(), 1e-10)
    assert 0 <= found <= 1e-320


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("order", [5, 60])
def test_an_operator_that_is_not_finite_has_no_eigenvalue(order, bad):
    found, _ = top_eigenvector(lambda y: bad * y, torch.ones(order).double(), 1e-10)
    assert math.isnan(found)
    values, vectors = top_eigenvectors(lambda y: bad * y, torch.ones(order).double(), 2, 1e-10)
    assert values.isnan().all()
    assert vectors.shape == (2, order)
