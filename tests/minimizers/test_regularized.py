import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.regularized import (
    collapse_threshold,
    descended,
    layer_singular_value,
    least_regularized_loss,
    regularized_gradient,
    regularized_loss,
    regularized_minimizer,
    scalar_spectrum,
    vanishing_threshold,
)
from dmf_sharpness.minimizers.targets import gaussian_matrix, matrix_with_singular_values
from dmf_sharpness.network.factors import flatten, unflatten
from tests.helpers import random_point


def hessian_spectrum(factors, target, mu):
    """Eigenvalues by automatic differentiation of the loss as it is written."""
    widths = [factors[0].shape[1], *(W.shape[0] for W in factors)]

    def value(vector):
        return regularized_loss(unflatten(vector, widths), target, mu)

    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(value, flatten(factors)))


@given(sigma=st.floats(0.1, 5), depth=st.integers(2, 7), share=st.floats(0.05, 1.5))
def test_the_layer_singular_value_is_the_global_minimum(sigma, depth, share):
    mu = share * collapse_threshold(sigma, depth)
    a = layer_singular_value(sigma, depth, mu)
    grid = torch.linspace(0, 1.2 * sigma ** (1 / depth), 20001, dtype=torch.float64)
    values = (sigma - grid**depth).square() + mu * depth * grid.square()
    ours = (sigma - a**depth) ** 2 + mu * depth * a**2
    assert ours <= float(values.min()) * (1 + 1e-12) + 1e-14
    if abs(share - 1) > 0.01:
        assert (a > 0) == (share < 1)


@given(seed=st.integers(0, 999), share=st.floats(0.01, 0.9), depth=st.integers(2, 5))
def test_it_is_stationary_and_beats_descent_from_elsewhere(seed, share, depth):
    target = matrix_with_singular_values(3, 2, [2.0, 1.0], seed)
    mu = share * collapse_threshold(2.0, depth)
    factors = regularized_minimizer(target, [3] * (depth - 1), mu, seed)
    gradient = flatten(regularized_gradient(factors, target, mu))
    assert float(gradient.norm()) < 1e-11
    start = [(0.7 * W).requires_grad_() for W in random_point((2, *[3] * (depth - 1), 3), seed)]
    solver = torch.optim.LBFGS(start, max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        value = regularized_loss(start, target, mu)
        value.backward()
        return value

    solver.step(closure)
    best = float(regularized_loss(factors, target, mu))
    assert best <= float(regularized_loss(start, target, mu).detach()) * (1 + 1e-9)


@pytest.mark.parametrize("network", [(1, 3, 1), (1, 3, 4, 1), (1, 2, 3, 3, 2, 1)])
def test_all_minimizers_of_the_scalar_problem_have_one_spectrum(network):
    target = torch.tensor([[1.7]], dtype=torch.float64)
    mu = 0.3 * collapse_threshold(1.7, len(network) - 1)
    spectra = [
        hessian_spectrum(regularized_minimizer(target, network[1:-1], mu, seed), target, mu)
        for seed in range(5)
    ]
    for spectrum in spectra[1:]:
        torch.testing.assert_close(spectrum, spectra[0], rtol=0, atol=1e-11)
    assert float(spectra[0][0]) > -1e-11  # second-order minimal
    # The control: a point that only has the right product has another spectrum.
    factors = regularized_minimizer(target, network[1:-1], mu, 0)
    factors[0], factors[-1] = 1.5 * factors[0], factors[-1] / 1.5
    assert float((hessian_spectrum(factors, target, mu) - spectra[0]).abs().max()) > 1e-2


def test_all_layers_of_all_minimizers_have_one_frobenius_norm():
    target = gaussian_matrix(4, 3, 1)
    norms = [
        float(torch.linalg.matrix_norm(W))
        for seed in range(5)
        for W in regularized_minimizer(target, [5, 4, 6], 0.05, seed)
    ]
    assert norms == pytest.approx([norms[0]] * len(norms), rel=1e-12)
    assert norms[0] > 0.5


def test_beyond_the_threshold_everything_collapses():
    target = gaussian_matrix(3, 3, 2)
    top = float(torch.linalg.svdvals(target)[0])
    below, above = (c * collapse_threshold(top, 3) for c in (0.999, 1.001))
    assert float(flatten(regularized_minimizer(target, [4, 4], below, 0)).norm()) > 0.5
    assert not flatten(regularized_minimizer(target, [4, 4], above, 0)).any()


def test_bad_requests_are_refused():
    target = gaussian_matrix(3, 3, 0)
    with pytest.raises(ValueError, match="regularization: expected a positive number, got 0"):
        regularized_minimizer(target, [4], 0, 0)
    with pytest.raises(ValueError, match="widths: expected every hidden width to be at least 3"):
        regularized_minimizer(target, [2], 1e-3, 0)
    for threshold in (collapse_threshold, vanishing_threshold):
        with pytest.raises(ValueError, match="depth: expected at least 2, got 1"):
            threshold(1.0, 1)


@given(
    hidden=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    sigma=st.floats(0.2, 4),
    share=st.floats(0.02, 1.6),
    seed=st.integers(0, 999),
)
def test_the_scalar_spectrum_has_a_closed_form(hidden, sigma, share, seed):
    depth = len(hidden) + 1
    mu = share * collapse_threshold(sigma, depth)
    target = torch.tensor([[-sigma]], dtype=torch.float64)
    factors = regularized_minimizer(target, hidden, mu, seed)
    oracle = hessian_spectrum(factors, target, mu).flip(-1)
    predicted = scalar_spectrum(sigma, hidden, mu)
    torch.testing.assert_close(predicted, oracle, rtol=0, atol=1e-10 * float(oracle[0]))


def test_weak_regularization_picks_flat_minimizers():
    target = torch.tensor([[1.7]], dtype=torch.float64)
    least = dmf.flat_sharpness(target, 4)
    for mu in (1e-4, 1e-6, 1e-8):
        assert float(scalar_spectrum(1.7, [3, 2, 3], mu)[0]) == pytest.approx(least, rel=40 * mu)
    weak = regularized_minimizer(gaussian_matrix(3, 4, 0), [4, 5], 1e-9, 0)
    assert dmf.is_flat(weak, rtol=1e-7)


@given(depth=st.integers(2, 7), sigma=st.floats(0.1, 5))
def test_the_thresholds_are_where_the_values_meet_and_the_slope_vanishes(depth, sigma):
    star, last = collapse_threshold(sigma, depth), vanishing_threshold(sigma, depth)
    if depth == 2:
        assert star == last == pytest.approx(sigma)
        return
    a_star = (sigma * (depth - 2) / (depth - 1)) ** (1 / depth)
    assert (sigma - a_star**depth) ** 2 + star * depth * a_star**2 == pytest.approx(sigma**2)
    grid = torch.linspace(0, sigma ** (1 / depth), 20001, dtype=torch.float64)
    assert last == pytest.approx(float((grid ** (depth - 2) * (sigma - grid**depth)).max()))
    assert last > star


@pytest.mark.parametrize("share", [0.5, 1.1, 1.4])
def test_descent_from_the_plain_minimizer_stays_in_its_valley_until_that_is_gone(share):
    target = matrix_with_singular_values(2, 3, [2.0, 0.5], 1)
    mu = share * collapse_threshold(2.0, 3)
    end = descended(dmf.balanced_minimizer(target, [3, 3]), target, mu)
    remains = mu < vanishing_threshold(2.0, 3)
    assert (float(flatten(end).norm()) > 0.1) == remains
    value, least = (
        float(regularized_loss(end, target, mu)),
        least_regularized_loss(target, 3, mu),
    )
    assert value >= least * (1 - 1e-12)
    if share < 1:
        assert value == pytest.approx(least, rel=1e-12)
    elif remains:  # a local minimum, and not the global one
        assert value > least * 1.001
