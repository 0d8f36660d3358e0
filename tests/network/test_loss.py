import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_sharpness.minimizers.data_sets import prepared
from dmf_sharpness.minimizers.targets import gaussian_matrix, regression
from dmf_sharpness.network.factors import flatten, unflatten
from dmf_sharpness.network.loss import gradient, hessian_vector_product, loss
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.oracles import dense_hessian
from tests.helpers import networks, random_point


@given(networks(), st.integers(0, 99))
def test_gradient_is_autograd(network, seed):
    target = gaussian_matrix(network[-1], network[0], seed)
    factors = [W.requires_grad_() for W in random_point(network, seed)]
    expected = torch.autograd.grad(loss(factors, Problem(target)), factors)
    for ours, theirs in zip(gradient(factors, Problem(target)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@given(networks(max_depth=4), st.integers(0, 99))
def test_hessian_vector_product_at_any_point(network, seed):
    target = gaussian_matrix(network[-1], network[0], seed)
    factors, direction = random_point(network, seed), random_point(network, seed + 1)
    expected = dense_hessian(factors, target) @ flatten(direction)
    ours = flatten(hessian_vector_product(factors, direction, Problem(target)))
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


def test_hessian_vector_product_with_data():
    inputs, outputs = gaussian_matrix(3, 20, 1), gaussian_matrix(2, 20, 2)
    data = regression(inputs, outputs)
    factors, direction = random_point((3, 5, 4, 2), 3), random_point((3, 5, 4, 2), 4)
    expected = dense_hessian(factors, outputs, inputs) @ flatten(direction)
    ours = hessian_vector_product(factors, direction, Problem(data.target, data.input_root))
    torch.testing.assert_close(flatten(ours), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("whitened", [False, True])
def test_reduced_regression_is_the_regression(whitened):
    data = prepared("digits", whitened=whitened)
    assert data.inputs.shape == (64, 1797)
    assert data.input_root.shape == (64, 61)
    factors = [0.1 * W for W in random_point((64, 12, 10), 5)]
    raw = (data.outputs - factors[1] @ factors[0] @ data.inputs).square().sum()
    reduced = loss(factors, Problem(data.target, data.input_root)) + data.least_loss
    torch.testing.assert_close(reduced, raw, rtol=1e-12, atol=0)
    # The normal equations: what is left is orthogonal to the inputs.
    normal = (data.outputs - data.solution @ data.inputs) @ data.inputs.mT
    assert normal.abs().max() <= 1e-10 * (data.outputs @ data.inputs.mT).abs().max()


def test_whitened_inputs_have_a_projection_for_covariance():
    covariance = prepared("digits", whitened=True).input_gram / 1797
    torch.testing.assert_close(covariance @ covariance, covariance, rtol=1e-11, atol=1e-11)
    assert round(float(covariance.trace())) == 61


def test_a_batch_is_its_members():
    network, target = (2, 4, 3), gaussian_matrix(3, 2, 0)
    members = [random_point(network, seed) for seed in range(3)]
    batch = unflatten(torch.stack([flatten(factors) for factors in members]), network)
    for b, factors in enumerate(members):
        torch.testing.assert_close(loss(batch, Problem(target))[b], loss(factors, Problem(target)))
