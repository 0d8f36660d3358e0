"""One regularization per layer, ``‖M − W_{L:1}‖_F² + Σ_l λ_l ‖W_l‖_F²``, as Chen, Jiang and Wang have it.

At the critical points (arXiv:2506.20344) the layers share singular vectors, and the singular values of
layer ``l`` are ``x/√λ_l`` with ``x = 0`` or a root of ``x^{2L−1} − √λ σ x^{L−1} + λ x = 0``, ``λ = Π λ_l``.
For one singular value: the derivative by ``a_l`` is zero if ``λ_l a_l² = (σ − p) p`` with ``p = Π a_l``. So
all ``λ_l a_l²`` are one number ``x²``, ``p = x^L/√λ``, and the equation follows. The project has the case of
equal ``λ_l``, and its formula must agree there.
"""

import mpmath
import numpy as np
import pytest
import scipy.optimize
import torch

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.regularized import (
    collapse_threshold,
    layer_singular_value,
    regularized_minimizer,
)
from dmf_sharpness.minimizers.targets import matrix_with_singular_values
from dmf_sharpness.network.factors import end_to_end, flatten, unflatten


def largest_root(sigma, strengths):
    """The largest real root ``x`` of the polynomial, in forty-digit arithmetic, or 0 if none is above 0."""
    depth = len(strengths)
    with mpmath.workdps(40):
        product = mpmath.fprod(mpmath.mpf(v) for v in strengths)
        coefficients = [mpmath.mpf(0)] * (2 * depth)  # of x^{2L−1}, …, x⁰
        coefficients[0] = mpmath.mpf(1)
        coefficients[depth] -= mpmath.sqrt(product) * mpmath.mpf(sigma)
        coefficients[2 * depth - 2] += product
        roots = mpmath.polyroots(coefficients, maxsteps=500, extraprec=400)
        real = [r.real for r in roots if abs(r.imag) < mpmath.mpf(10) ** -25]
        return float(max([mpmath.mpf(0), *real]))


def descended(start, target, strengths):
    """Where BFGS ends, on the loss as it is written, with derivatives by autograd."""
    widths = [start[0].shape[1], *(W.shape[0] for W in start)]

    def objective(x):
        w = torch.from_numpy(x).requires_grad_()
        W = unflatten(w, widths)
        value = (target - end_to_end(W)).square().sum()
        value = value + sum(v * layer.square().sum() for v, layer in zip(strengths, W, strict=True))
        (slope,) = torch.autograd.grad(value, w)
        return float(value.detach()), slope.numpy()

    end = scipy.optimize.minimize(
        objective, flatten(start).numpy(), jac=True, method="BFGS",
        options={"gtol": 1e-10, "maxiter": 5000},
    )  # fmt: skip
    return unflatten(torch.from_numpy(end.x), widths)


@pytest.mark.parametrize(
    "strengths", [(0.02, 0.3), (0.05, 0.2, 0.01), (0.1, 0.1, 0.1), (0.02, 0.1, 0.3, 0.05)]
)
def test_descent_ends_at_the_roots(strengths):
    sigmas, depth = [2.0, 1.1], len(strengths)
    target = matrix_with_singular_values(3, 3, sigmas, seed=depth)
    start = dmf.balanced_minimizer(target, [3] * (depth - 1), 1)
    noise = np.random.default_rng(depth)
    start = [W + 0.01 * torch.from_numpy(noise.standard_normal(W.shape)) for W in start]
    end = descended(start, target, strengths)
    x = np.array([largest_root(sigma, strengths) for sigma in sigmas])
    assert (x > 0.05).all()
    for W, strength in zip(end, strengths, strict=True):
        values = torch.linalg.svdvals(W).numpy()
        assert values[:2] == pytest.approx(x / np.sqrt(strength), rel=1e-7)
        assert abs(values[2]) < 1e-7
    product = x**depth / np.sqrt(np.prod(strengths))
    found = torch.linalg.svdvals(end_to_end(end)).numpy()
    assert found[:2] == pytest.approx(product, rel=1e-7)
    if len(set(strengths)) > 1:  # the control: one common strength, their geometric mean
        mean = float(np.prod(strengths) ** (1 / depth))
        wrong = [float(torch.linalg.svdvals(W)[0]) * mean**0.5 / x[0] - 1 for W in end]
        assert max(map(abs, wrong)) > 0.1


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_with_equal_strengths_it_is_the_formula_of_the_project(depth, share):
    sigma = 1.6
    mu = share * collapse_threshold(sigma, depth)
    x = largest_root(sigma, [mu] * depth)
    assert layer_singular_value(sigma, depth, mu) == pytest.approx(x / mu**0.5, rel=1e-13)


def test_rescaled_layers_turn_one_problem_into_the_other():
    """``W_l → √(μ/λ_l) W_l`` with ``μ = λ^{1/L}`` keeps the product, so the minimizers correspond."""
    strengths = (0.02, 0.3, 0.1)
    mu = float(np.prod(strengths) ** (1 / 3))
    target = matrix_with_singular_values(3, 2, [2.0, 1.5], seed=5)
    factors = regularized_minimizer(target, [3, 3], mu, 1)
    scaled = [(mu / v) ** 0.5 * W for W, v in zip(factors, strengths, strict=True)]
    torch.testing.assert_close(end_to_end(scaled), end_to_end(factors), rtol=1e-12, atol=1e-13)
    W = [layer.clone().requires_grad_() for layer in scaled]
    value = (target - end_to_end(W)).square().sum()
    value = value + sum(v * layer.square().sum() for v, layer in zip(strengths, W, strict=True))
    slopes = torch.autograd.grad(value, W)
    assert max(float(g.norm()) for g in slopes) < 1e-12
