"""Any point at the ends of the range of float64: the right value, or a result that says it is none."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.hessian.any_point import PointSharpness
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import flatten
from dmf_sharpness.network.scaling import times_power
from tests.exact import exact_gradient_norm, exact_hessian, exact_sharpness, relative_error
from tests.helpers import networks, random_point, times

TINY, HUGE = torch.finfo(torch.float64).tiny, torch.finfo(torch.float64).max


def at(factors, target, **data) -> PointSharpness:
    s = dmf.sharpness_at(factors, target, **data)
    assert s.converged or math.isnan(s.residual) or s.residual > s.tolerance
    return s


@pytest.mark.parametrize("exponent", [-1050, -500, -200, 200, 500, 1000])
@pytest.mark.parametrize("widths", [(3, 4, 3), (3, 4, 4, 2), (8, 20, 20, 6), (4, 2)])
def test_any_point_at_any_scale(widths, exponent):
    """``H(sW, s^L M) = s^{2(L−1)} H(W, M)``, ``∇f(sW, s^L M) = s^{2L−1} ∇f(W, M)``."""
    factors, target = random_point(widths, 3), gaussian_matrix(widths[-1], widths[0], 2)
    depth = len(factors)
    usual = at(factors, target)
    (M,) = times([target], depth * exponent)
    if not bool(torch.isfinite(M).all()) or (M == 0).any() or float(M.abs().min()) < TINY:
        return
    s = at(times(factors, exponent), M)
    exact = mpmath.ldexp(mpmath.mpf(usual.value), 2 * (depth - 1) * exponent)
    if TINY <= exact <= HUGE:
        assert s.converged
        assert relative_error(s.value, exact) < 1e-12
    else:
        assert not s.converged
        assert s.value in (0.0, math.inf) or abs(s.value) < TINY
    slope = mpmath.ldexp(usual.gradient_norm, (2 * depth - 1) * exponent)
    if TINY <= slope <= HUGE:
        assert relative_error(s.gradient_norm, slope) < 1e-12


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-150, 1e-100, 1e100, 1e150, 1e200, 1e300])
@pytest.mark.parametrize("widths", [(2, 2), (2, 2, 2), (2, 2, 2, 1)])
def test_tiny_and_huge_factors_beside_an_ordinary_target(widths, size):
    factors = [size * W for W in random_point(widths, 3)]
    target = gaussian_matrix(widths[-1], widths[0], 2)
    s = at(factors, target)
    inputs = torch.eye(widths[0], dtype=torch.float64)
    exact = exact_sharpness(factors, inputs, target)
    if s.converged:
        assert relative_error(s.value, exact) < 1e-12
    else:
        assert not TINY <= abs(exact) <= HUGE


def test_a_point_whose_hessian_overflows_is_told():
    point = random_point((2, 2, 2, 2, 2), 1)
    target = gaussian_matrix(2, 2, 1)
    for sizes in ([1e300, 1e-300, 1e300, 1e300], [1e-300, 1e300, 1e300, 1e-300]):
        s = at([size * W for size, W in zip(sizes, point, strict=True)], target)
        assert not s.converged
        assert math.isnan(s.residual)
        assert not math.isfinite(s.value)
        assert not flatten(s.eigenvector).isnan().any()
        assert s.gradient_norm > 1e300


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-100, 1e100, 1e200, 1e300])
def test_inputs_of_any_size_are_right_or_told(size):
    """``λ`` goes like the square of a root, and like a Gram matrix."""
    X, factors = gaussian_matrix(4, 6, 1), random_point((4, 5, 3), 2)
    X = X / float(X.abs().amax())
    usual = dmf.sharpness(factors, input_root=X).value
    s = dmf.sharpness(factors, input_root=size * X)
    exact = mpmath.mpf(usual) * mpmath.mpf(size) ** 2
    assert s.converged == (TINY < exact < HUGE)
    assert not s.converged or relative_error(s.value, exact) < 1e-12
    s = dmf.sharpness(factors, size * (X @ X.mT) / 8)
    assert relative_error(s.value, mpmath.mpf(usual) * size / 8) < 1e-12
    # Large inputs beside small factors.
    s = dmf.sharpness([W / size for W in factors], input_root=size * X)
    assert s.converged
    assert relative_error(s.value, usual) < 1e-12


def test_inputs_at_the_very_end_are_refused():
    factors, end = random_point((3, 1), 1), torch.full((3, 4), 1.7e308, dtype=torch.float64)
    with pytest.raises(
        ValueError, match=r"input_root: expected entries up to 1e\+300, got 1.7e\+308"
    ):
        dmf.sharpness(factors, input_root=end)
    with pytest.raises(ValueError, match="input_gram: expected entries up to 1e"):
        dmf.sharpness(factors, end[:, :3])


def test_zeros_are_told_from_what_underflows_by_their_places():
    """Parts of a chain that are far apart underflow at any common scale; zeros of the factors stay zeros."""
    chain = [torch.tensor([[1e308, 1e-300], [0.0, 1e-300]]).double() for _ in range(6)]
    for W in chain:
        W[0, 0], W[1, 1] = 0.0, 1e308
    for factors in (chain, [*chain[:3], 1e-300 * chain[3], *chain[4:]]):
        s = dmf.sharpness(factors)
        assert not s.converged or relative_error(s.value, exact_sharpness(factors)) < 1e-12
    e_1, e_2 = torch.eye(2, dtype=torch.float64).split(1)
    apart = [e_1.mT, 1e-300 * e_2, e_1.mT, 1e300 * e_2]  # each product of two neighbours is zero
    s = dmf.sharpness([apart[0], e_2, e_1.mT, e_2])
    assert (s.value, s.converged) == (0, True)
    s = dmf.sharpness(apart)
    assert (s.value, s.converged) == (0, True)


@given(networks(max_depth=3), st.integers(0, 99), st.data())
def test_any_point_of_uneven_factors_is_right_or_told(widths, seed, data):
    sizes = st.sampled_from([-1060.0, -700.0, -300.0, -100.0, 0.0, 0.0, 100.0, 300.0, 700.0])
    *factors, target = [
        times_power(W, torch.tensor(data.draw(sizes)))
        for W in [*random_point(widths, seed), gaussian_matrix(widths[-1], widths[0], seed)]
    ]
    if sum(W.numel() for W in factors) > 30:
        return
    s = at(factors, target)
    inputs = torch.eye(widths[0], dtype=torch.float64)
    with mpmath.workdps(60):
        H = exact_hessian(factors, inputs, target)
        size = max(abs(entry) for entry in H)
        exact = exact_sharpness(factors, inputs, target)
        if s.converged:
            # The eigenvalue is right to the rounding of the largest entry.
            assert abs(mpmath.mpf(s.value) - exact) <= 1e-11 * max(abs(exact), size * 1e-4)
        slopes = exact_gradient_norm(factors, inputs, target)
        if TINY < slopes < HUGE and not math.isnan(s.gradient_norm):
            assert abs(s.gradient_norm / slopes - 1) < 1e-6
