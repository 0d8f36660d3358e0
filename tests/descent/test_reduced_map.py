"""The reduced map against gradient descent, against the landing law, and its coefficients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmf_sharpness.descent.landing_law import landing_terms, predict_landing
from dmf_sharpness.descent.reduced_map import ReducedMap, iterate, reduced_map
from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.hessian.any_point import sharpness_at
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.minimizers.basic import random_minimizer
from dmf_sharpness.minimizers.paths import minimizer_with_sharpness
from dmf_sharpness.minimizers.targets import gaussian_matrix, regression
from dmf_sharpness.network.problem import Problem
from tests.helpers import random_problem


def batched(factors):
    return [W[None] for W in factors]


def test_all_directions_following_at_once_make_the_law_of_landing():
    target, factors = random_problem((3, 4, 3), 5)
    terms, reduced = landing_terms(factors, Problem(target)), reduced_map(factors, Problem(target))
    assert float(reduced.cubic) == pytest.approx(float(terms.cubic), rel=1e-12)
    # The definition, from a Hessian-vector picture that shares no code: differences of the Hessian.
    v = sharpness(factors).eigenvector
    eta, h = 2 / sharpness(factors).value, 1e-4

    def curvature_along(t):
        W = [w + t * u for w, u in zip(factors, v, strict=True)]
        return quadratic_form(W, v, target)

    third = (curvature_along(h) - curvature_along(-h)) / (2 * h)
    fourth = (curvature_along(h) - 2 * curvature_along(0.0) + curvature_along(-h)) / h**2
    expected = eta / 6 * fourth - (eta / 2 * third) ** 2
    assert float(reduced.own) == pytest.approx(float(expected), rel=1e-4)


def hessian_times(factors, v, target):
    """Variables at the factors, and ``H v`` as a function of them, by automatic differentiation."""
    W = [w.clone().requires_grad_() for w in factors]
    product = W[0]
    for layer in W[1:]:
        product = layer @ product
    slope = torch.autograd.grad((target - product).square().sum(), W, create_graph=True)
    return W, torch.autograd.grad(inner(slope, v), W, create_graph=True)


def inner(a, b):
    return sum((x * y).sum() for x, y in zip(a, b, strict=True))


def quadratic_form(factors, v, target):
    return inner(hessian_times(factors, v, target)[1], v).detach()


def third_derivative(factors, v, target):
    """``T[v, v, ·]``."""
    W, Hv = hessian_times(factors, v, target)
    return torch.autograd.grad(inner(Hv, v), W)


@pytest.mark.parametrize("step_ratio", [1.01, 1.5])
def test_a_few_steps_far_beyond_the_threshold(step_ratio):
    """What three small steps of gradient descent do to ηλ, at step sizes that are not next to 2/λ.

    To first order that is ``η T[v, v, ·]`` along all that the run moved beside ``v_1``.
    """
    target, factors = random_problem((3, 4, 4, 3), 5)
    s = sharpness(factors)
    v, eta, x = s.eigenvector, 2 * step_ratio / s.value, 1e-5
    W = [(w + x * u).requires_grad_() for w, u in zip(factors, v, strict=True)]
    for _ in range(3):
        loss = (target - W[2] @ W[1] @ W[0]).square().sum()
        slopes = torch.autograd.grad(loss, W)
        W = [(w - eta * g).detach().requires_grad_() for w, g in zip(W, slopes, strict=True)]
    moved = [(w - w0).detach() for w, w0 in zip(W, factors, strict=True)]
    along = inner(moved, v)
    beside = [m - along * u for m, u in zip(moved, v, strict=True)]
    change = eta * inner(third_derivative(factors, v, target), beside)
    reduced = reduced_map(batched(factors), Problem(target[None]))
    ratio = torch.tensor([step_ratio], dtype=torch.float64)
    ends, distance = iterate(reduced, ratio, torch.tensor([x], dtype=torch.float64), 3)
    assert 2 * float(ends - ratio) == pytest.approx(float(change), rel=1e-3)
    assert float(distance) == pytest.approx(abs(float(along)), rel=1e-3)


def test_the_map_is_a_loop_over_its_two_equations():
    """Coefficients made up, so large that every term counts within a few steps."""
    reduced = ReducedMap(
        drift=torch.tensor([0.3, 0.1], dtype=torch.float64),
        couplings=torch.tensor([[0.2, 0.05], [0.4, 0.1]], dtype=torch.float64),
        rates=torch.tensor([[0.1, 1.5], [0.0, 0.9]], dtype=torch.float64),
        own=torch.tensor([-0.2, 0.15], dtype=torch.float64),
    )
    ratio, start = (torch.tensor(v, dtype=torch.float64) for v in ([1.05, 1.2], [0.3, 0.2]))
    for steps in (0, 1, 2, 7):
        ends, left = iterate(reduced, ratio, start, steps)
        for b in range(2):
            c, s = float(ratio[b]), float(start[b]) ** 2
            betas = [float(reduced.drift[b]), *reduced.couplings[b].tolist()]
            rates = [0.0, *reduced.rates[b].tolist()]
            y = [0.0, 0.0, 0.0]
            for _ in range(steps):
                grown = (1 + 2 * (c - 1) + sum(y) + float(reduced.own[b]) * s) ** 2 * s
                y = [
                    (1 - c * rate) * one - c**2 * beta * s
                    for one, rate, beta in zip(y, rates, betas, strict=True)
                ]
                s = grown
            assert float(ends[b]) == pytest.approx(c + sum(y) / 2, rel=1e-13)
            assert float(left[b]) == pytest.approx(s**0.5, rel=1e-13)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_couplings_are_not_negative_and_rates_are_stable(seed):
    target, factors = random_problem((2, 3, 3, 2), seed)
    reduced = reduced_map(factors, Problem(target))
    assert reduced.drift >= 0
    assert (reduced.couplings >= 0).all()
    assert ((reduced.rates >= 0) & (reduced.rates <= 2 + 1e-12)).all()


def test_with_stiff_directions_it_lands_where_the_law_says():
    target = gaussian_matrix(3, 3, 7)
    factors = batched(minimizer_with_sharpness(target, [4], 1.5 * flat(target, 2), seed=1))
    reduced = reduced_map(factors, Problem(target[None]))
    terms = landing_terms(factors, Problem(target[None]))
    ratio = torch.tensor([1.002], dtype=torch.float64)
    end, left = iterate(reduced, ratio, torch.tensor([1e-5], dtype=torch.float64), 20_000)
    law = predict_landing(terms.coefficient, ratio)
    assert float((1 - end) / (1 - law)) == pytest.approx(1, abs=0.03)
    assert float(left) < 1e-8


def flat(target, depth):
    return float(2 * depth * torch.linalg.matrix_norm(target, ord=2) ** (2 - 2 / depth))


def test_soft_directions_are_where_gradient_descent_has_them():
    # Inputs of very different size: eigenvalues from 1 down to 1e-7 of the largest.
    inputs = torch.diag(torch.logspace(0, -3.5, 4, dtype=torch.float64)) @ gaussian_matrix(4, 40, 3)
    outputs = gaussian_matrix(2, 4, 4) @ inputs
    data = regression(inputs, outputs)
    W = batched(random_minimizer(data.solution, [3], 11))
    target, root = data.target[None], data.input_root
    reduced = reduced_map(W, Problem(target, root))
    value = sharpness(W, root @ root.mT).value
    v = sharpness(W, root @ root.mT).eigenvector
    ratio = torch.tensor([1.003], dtype=torch.float64)
    start = [w + 1e-6 * u for w, u in zip(W, v, strict=True)]
    run = gradient_descent(start, target, 2 * ratio / value, 20_000, input_root=root)
    there = sharpness_at([w[0] for w in run.factors], data.solution, root @ root.mT).value
    end, _ = iterate(reduced, ratio, torch.tensor([1e-6], dtype=torch.float64), 20_000)
    measured = 1 - float(ratio / value) * there
    assert float(1 - end) / measured == pytest.approx(1, abs=0.02)
    # The control: the law, for which they have all settled.
    law = predict_landing(landing_terms(W, Problem(target, root)).coefficient, ratio)
    assert abs(float(1 - law) / measured - 1) > 0.1
