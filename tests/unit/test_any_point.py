"""The sharpness where the exact expression does not hold."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.factors import end_to_end, flatten
from dmf_sharpness.oracles import dense_hessian
from dmf_sharpness.targets import gaussian_matrix
from tests.helpers import networks, random_point, random_problem


@given(networks(), st.integers(0, 99))
def test_any_point_is_the_dense_hessians(widths, seed):
    factors = random_point(widths, seed)
    target = gaussian_matrix(widths[-1], widths[0], seed)
    hessian = dense_hessian(factors, target)
    s = dmf.sharpness_at(factors, target)
    assert s.value == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-10)
    v = flatten(s.eigenvector)
    assert float((hessian @ v - s.value * v).norm()) <= 1e-10 * abs(s.value)
    assert s.converged


def test_large_points_iterate():
    factors = random_point((6, 20, 20, 6), 1)
    target = gaussian_matrix(6, 6, 2)
    s = dmf.sharpness_at(factors, target)
    assert s.method == "lanczos"
    assert s.converged
    oracle = torch.linalg.eigvalsh(dense_hessian(factors, target))[-1]
    assert s.value == pytest.approx(float(oracle), rel=1e-10)


def test_with_data():
    X, Y = gaussian_matrix(4, 9, 1), gaussian_matrix(3, 9, 2)
    factors = random_point((4, 5, 5, 3), 3)
    solution = Y @ torch.linalg.pinv(X)
    s = dmf.sharpness_at(factors, solution, X @ X.mT)
    hessian = dense_hessian(factors, Y, X)
    assert s.value == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-10)


@given(networks(), st.integers(0, 99))
def test_at_a_minimizer_it_is_the_expression(widths, seed):
    target, factors = random_problem(widths, seed)
    s = dmf.sharpness_at(factors, target)
    assert s.value == pytest.approx(dmf.sharpness(factors).value, rel=1e-10)
    assert s.gradient_norm < 1e-9 * (1 + s.value)


@pytest.mark.parametrize("hidden", [(5, 1), (2, 2), (6, 2, 6), (2,), (2, 6, 2)])
def test_bottlenecks(hidden):
    target = gaussian_matrix(5, 4, 3)
    factors = dmf.bottlenecked_minimizer(target, hidden, 1)
    values = torch.linalg.svdvals(target)
    least = float(values[min(hidden) :].square().sum())
    assert float((target - end_to_end(factors)).square().sum()) == pytest.approx(least, rel=1e-12)
    s = dmf.sharpness_at(factors, target)
    assert s.gradient_norm < 1e-10
    oracle = float(torch.linalg.eigvalsh(dense_hessian(factors, target))[-1])
    assert s.value == pytest.approx(oracle, rel=1e-10)
    exact = dmf.sharpness(factors).value
    if hidden[0] == hidden[-1] == min(hidden):
        assert exact == pytest.approx(oracle, rel=1e-12)
    else:
        assert abs(exact / oracle - 1) > 1e-9
    with pytest.raises(ValueError, match="target: expected factors whose product fits it"):
        dmf.sharpness(factors, target=target)


def test_a_bottleneck_needs_a_narrow_layer():
    with pytest.raises(ValueError, match="widths: expected a least hidden width of 1 to 3"):
        dmf.bottlenecked_minimizer(gaussian_matrix(5, 4, 3), [4, 5], 1)


def test_bad_points():
    target, factors = random_problem((3, 4, 2), 0)
    with pytest.raises(ValueError, match="expected a single minimizer, got a batch"):
        dmf.sharpness_at([torch.stack([W, W]) for W in factors], target)
    with pytest.raises(ValueError, match="tolerance: expected .*above 0, got -1"):
        dmf.sharpness_at(factors, target, tolerance=-1)
