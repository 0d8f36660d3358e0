"""The landing law, step by step as docs/landing_law.md derives it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.descent.landing_law import landing_terms, predict_landing, sharpness_slope
from dmf_sharpness.minimizers.targets import gaussian_matrix, regression
from dmf_sharpness.network.factors import end_to_end, flatten, unflatten
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.tangent import inner, retracted, tangential
from dmf_sharpness.network.taylor import gradient_jet
from dmf_sharpness.oracles import dense_hessian
from tests.helpers import random_point, random_problem


def prescribed(network, ratio, seed=1):
    target = gaussian_matrix(network[-1], network[0], [seed, 0])
    sharp = ratio * dmf.flat_sharpness(target, len(network) - 1)
    return target, dmf.minimizer_with_sharpness(target, network[1:-1], sharp, [seed, 1])


def derivative_along(factors, target, order):
    """``d^order/dt^order f(w + t v)`` by automatic differentiation, as a function of v."""
    shape = (factors[0].shape[-1], *(W.shape[-2] for W in factors))

    def loss(w):
        return (target - end_to_end(unflatten(w, shape))).square().sum()

    def nested(v):
        g = loss
        for _ in range(order):
            previous = g
            g = lambda w, previous=previous: torch.func.jvp(previous, (w,), (v,))[1]  # noqa: E731
        return g(flatten(factors))

    return nested


@pytest.mark.parametrize("network", [(1, 2, 1), (3, 4, 2), (2, 3, 4, 3)])
def test_the_jet_is_the_derivatives_of_the_gradient(network):
    factors, direction = random_point(network, 1), random_point(network, 2)
    target = gaussian_matrix(network[-1], network[0], 3)
    jet = gradient_jet(factors, direction, Problem(target))
    v = flatten(direction)
    for k in range(3):
        expected = derivative_along(factors, target, k + 1)(v) / math.factorial(k)
        ours = flatten(jet[k]) @ v
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-10)
    hessian = dense_hessian(factors, target)
    torch.testing.assert_close(flatten(jet[1]), hessian @ v, rtol=1e-11, atol=1e-10)


def test_the_terms_are_the_sums_over_eigenvectors():
    target, factors = random_problem((3, 4, 4, 2), 4)
    values, vectors = torch.linalg.eigh(dense_hessian(factors, target))
    v, eta = vectors[:, -1], 2 / values[-1]
    jet = gradient_jet(factors, unflatten(v, (3, 4, 4, 2)), Problem(target))
    third, fourth = 2 * flatten(jet[2]), 6 * flatten(jet[3])
    stiff = values > 1e-9 * values[-1]
    kernel = vectors[:, ~stiff]
    along = (vectors[:, stiff].mT @ third)[:-1]
    a_2 = -eta / 2 * third @ v
    a_3 = eta / 2 * (along.square() / values[stiff][:-1]).sum() - eta / 6 * fourth @ v
    terms = landing_terms(factors, Problem(target))
    drift = eta**2 / 2 * (kernel.mT @ third).square().sum()
    torch.testing.assert_close(terms.drift, drift, rtol=1e-10, atol=0)
    torch.testing.assert_close(terms.cubic, -(a_2**2 + a_3), rtol=1e-10, atol=0)
    torch.testing.assert_close(terms.coefficient, 2 * terms.cubic / drift, rtol=1e-10, atol=0)


def test_the_slope_is_the_change_of_the_sharpness_along_the_minimizers():
    target, factors = random_problem((3, 5, 4, 2), 5)
    value, slope = sharpness_slope(factors, Problem(target))
    hessian = dense_hessian(factors, target)
    assert float((hessian @ flatten(slope)).norm() / flatten(slope).norm()) < 1e-9 * value
    h = 1e-5
    ends = [
        dmf.sharpness(
            retracted([W + s * h * g for W, g in zip(factors, slope, strict=True)], Problem(target))
        ).value
        for s in (1, -1)
    ]
    numeric = (ends[0] - ends[1]) / (2 * h)
    assert numeric == pytest.approx(float(inner(slope, slope)), rel=1e-6)


def test_retraction_reaches_the_minimizers_and_the_tangent_space_is_the_kernel():
    target, factors = random_problem((3, 5, 2), 6)
    moved = [W + 1e-3 * U for W, U in zip(factors, random_point((3, 5, 2), 1), strict=True)]
    there = retracted(moved, Problem(target))
    assert float((end_to_end(there) - target).norm()) < 1e-13
    flat = tangential(factors, random_point((3, 5, 2), 2))
    assert float((dense_hessian(factors, target) @ flatten(flat)).norm()) < 1e-11


@given(st.floats(-200, 200), st.floats(1e-6, 0.5))
def test_the_prediction_solves_its_equation(a, excess):
    ratio = 1 + excess
    end = predict_landing(a, ratio)
    w = 2 * a * (ratio - 1)
    if w >= 1:
        assert math.isnan(end)
        return
    assert end <= 1
    w_e = 2 * a * (end - 1)
    assert (w_e - 1) * math.exp(w_e) == pytest.approx((w - 1) * math.exp(w), abs=1e-10)
    if abs(w) > 1e-6:
        assert w_e * w < 0


def test_both_branches_and_the_series_meet():
    for sign in (1, -1):
        near = [predict_landing(sign * x / 2, 2.0) - 1 for x in (0.02 - 1e-9, 0.02 + 1e-9)]
        assert near[0] == pytest.approx(near[1], rel=1e-8)
    assert predict_landing(0.0, 1.25) == 0.75
    assert 1 - predict_landing(-1e4, 1.01) == pytest.approx(1 / 2e4, rel=1e-6)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="a: expected finite numbers"):
        predict_landing(float("inf"), 1.1)
    with pytest.raises(ValueError, match="step_ratio: expected finite numbers of at least 1"):
        predict_landing(1.0, 0.9)
    target, factors = random_problem((3, 4, 2), 1)
    with pytest.raises(ValueError, match=r"target: expected shape \(2, 3\)"):
        dmf.landing_coefficient(factors, target.mT)
    with pytest.raises(TypeError, match=r"torch\.float64"):
        dmf.landing_coefficient([W.float() for W in factors], target)


def landed_at(target, factors, excess):
    s = dmf.sharpness(factors)
    eta = 2 * (1 + excess) / s.value
    radius = 2e-3 * excess / float(landing_terms(factors, Problem(target)).drift) ** 0.5
    start = [(W + radius * U)[None] for W, U in zip(factors, s.eigenvector, strict=True)]
    run = dmf.gradient_descent(start, target, eta, int(2e4 + 300 / excess))
    assert run.outcome[0] == 1
    return 1 - eta * dmf.sharpness([W[0] for W in run.factors]).value / 2


@pytest.mark.parametrize("network", [(1, 5, 5, 1), (4, 5, 5, 4), (3, 5, 4), (1, *[3] * 5, 1)])
def test_the_second_order_coefficient_is_the_refined_one(network):
    """``(1 − c_end − δ)/δ²`` tends to ``(4/3) ã``, and not to ``(4/3) a``: Richardson's limit of two δ."""
    target, factors = prescribed(network, 1.5)
    measured = [(landed_at(target, factors, d) - d) / d**2 for d in (4e-4, 2e-4)]
    limit = 2 * measured[1] - measured[0]
    terms = landing_terms(factors, Problem(target))
    assert limit == pytest.approx(float(4 / 3 * terms.refined), rel=0.02)
    if abs(terms.drift_slope - 1.5) > 0.1 * abs(terms.refined):  # at (3, 5, 4) they are the same
        assert limit != pytest.approx(float(4 / 3 * terms.coefficient), rel=0.02)


def test_the_largest_displacement_is_predicted():
    target, factors = prescribed((4, 5, 5, 4), 1.5)
    s, excess = dmf.sharpness(factors), 1e-3
    eta = 2 * (1 + excess) / s.value
    start = [(W + 1e-6 * U)[None] for W, U in zip(factors, s.eigenvector, strict=True)]
    run = dmf.gradient_descent(
        start, target, eta, 20000, observe_every=1,
        directions=flatten(s.eigenvector)[None, None], reference=flatten(factors)[None],
    )  # fmt: skip
    peak = float(run.trajectory.projections.nan_to_num(nan=0.0).abs().max())
    assert peak == pytest.approx(
        2 * excess / float(landing_terms(factors, Problem(target)).drift) ** 0.5, rel=0.02
    )


def test_data_enters_through_the_input_root():
    """With inputs whose Gram matrix is the identity, it is matrix factorization."""
    target, factors = random_problem((3, 4, 2), 2)
    root = torch.linalg.qr(gaussian_matrix(3, 3, 9))[0]
    plain = landing_terms(factors, Problem(target))
    with_data = landing_terms(factors, Problem(target @ root, root))
    for name in ("drift", "cubic", "drift_slope"):
        torch.testing.assert_close(
            getattr(plain, name), getattr(with_data, name), rtol=1e-6, atol=1e-12
        )
    data = regression(gaussian_matrix(3, 30, 1), gaussian_matrix(2, 30, 2))
    W = dmf.random_minimizer(data.solution, (4,), 3)
    a = dmf.landing_coefficient(W, data.target, data.input_root)
    assert np.isfinite(a)


def test_fewer_samples_than_inputs():
    """Then the input root is not square; the law is that of the problem in its own coordinates."""
    data = regression(gaussian_matrix(4, 3, 1), gaussian_matrix(2, 3, 2))
    assert data.input_root.shape == (4, 3)
    W = dmf.random_minimizer(data.solution, (4,), 3)
    terms = landing_terms(W, Problem(data.target, data.input_root))
    Q, R = torch.linalg.qr(data.input_root, mode="complete")
    # The inputs' complement is never seen: rotate it away, and the first factor has three columns.
    inside = landing_terms([W[0] @ Q[:, :3], W[1]], Problem(data.target, R[:3]))
    for name in ("drift", "cubic"):
        torch.testing.assert_close(
            getattr(terms, name), getattr(inside, name), rtol=1e-9, atol=1e-12
        )
