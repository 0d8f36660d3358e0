"""The ends of the range of float64: the right value, an error, or a result that says it is none."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.hessian.batched import batched_top_pair
from dmf_sharpness.hessian.spectrum import operator_spectrum
from dmf_sharpness.minimizers.targets import gaussian_matrix, regression
from dmf_sharpness.network.factors import end_to_end, flatten
from dmf_sharpness.network.scaling import times_power
from tests.exact import exact_sharpness, relative_error
from tests.helpers import COMPILED, networks, random_point, random_problem, times

TINY, HUGE = torch.finfo(torch.float64).tiny, torch.finfo(torch.float64).max
ITERATIVE = [*COMPILED, "dense", "batched", "lanczos", "low-rank"]
ROUTES = [
    ("scalar", (1, 4, 3, 1)),
    ("depth-1", (4, 3)),
    ("depth-2", (4, 6, 3)),
    *[(method, (5, 7, 6, 6)) for method in ["auto", *ITERATIVE]],
    ("lanczos", (30, 4, 4)),
    ("low-rank", (30, 35, 30, 32)),
]


@pytest.mark.parametrize("exponent", [-1060, -500, -300, -120, 120, 300, 500, 1010])
@pytest.mark.parametrize(("method", "widths"), ROUTES)
def test_every_route_is_right_at_any_scale_or_says_that_it_is_not(method, widths, exponent):
    """``λ(sW) = s^{2(L−1)} λ(W)``: the right value is known from an ordinary scale."""
    factors = random_point(widths, 3)
    usual = dmf.sharpness(factors, method=method)
    s = dmf.sharpness(times(factors, exponent), method=method)
    power = 2 * (len(factors) - 1) * exponent
    exact = mpmath.ldexp(mpmath.mpf(usual.value), power)
    if TINY <= exact <= HUGE:
        assert relative_error(s.value, exact) < 1e-12
        assert s.converged
        assert s.residual <= s.tolerance
        gap = mpmath.ldexp(mpmath.mpf(usual.gap), power)
        assert abs(mpmath.mpf(s.gap) - gap) <= 1e-3 * gap
        assert relative_error(s.upper_bound, mpmath.ldexp(usual.upper_bound, power)) < 1e-12
    else:
        assert s.value == (math.inf if power > 0 else pytest.approx(0, abs=TINY))
        assert s.converged is False
        assert math.isnan(s.residual)
        assert math.isnan(s.gap)
        assert math.isnan(s.upper_bound)
    # A direction has no size.
    assert float((flatten(s.eigenvector) - flatten(usual.eigenvector)).norm()) < 1e-4
    assert float((s.eigenmatrix - usual.eigenmatrix).norm()) < 1e-4


@pytest.mark.parametrize("size", [1e200, 1e-200])
@pytest.mark.parametrize("batch", [3, 20])
@pytest.mark.parametrize("method", ["auto", *ITERATIVE])
def test_one_member_out_of_range_changes_no_other(method, batch, size):
    members = [random_point((5, 7, 6, 6), seed) for seed in range(batch)]
    stack = [torch.stack(layer) for layer in zip(*members, strict=True)]
    usual = dmf.sharpness(stack, method=method)
    spoiled = [W.clone() for W in stack]
    for W in spoiled:
        W[1] *= size
    s = dmf.sharpness(spoiled, method=method)
    ordinary = torch.arange(batch) != 1
    assert torch.equal(s.converged, ordinary)
    assert torch.equal(s.residual.isnan(), ~ordinary)
    for name in ("value", "residual", "gap", "upper_bound", "eigenmatrix"):
        assert torch.equal(getattr(s, name)[ordinary], getattr(usual, name)[ordinary]), name
    assert float(s.value[1]) in (0.0, math.inf)


def test_without_the_compiled_kernels_a_member_out_of_range_is_left_alone():
    """The batched route's other iteration, at what the range of the members lets through."""
    members = [random_point((5, 7, 6, 6), seed) for seed in range(4)]
    stack = [torch.stack(layer) for layer in zip(*members, strict=True)]
    for W in stack:
        W[1] = 0
    top = batched_top_pair(stack, None, compiled=False)
    assert float(top.value[1]) == 0
    alone = batched_top_pair([W[[0, 2, 3]] for W in stack], None, compiled=False)
    torch.testing.assert_close(top.value[[0, 2, 3]], alone.value, rtol=1e-14, atol=0)


@given(networks(max_depth=4), st.integers(0, 99), st.data())
def test_uneven_factors_are_right_or_told(widths, seed, data):
    """Each factor at a scale of its own; the oracle has no limits of range."""
    exponents = st.sampled_from([-1060, -700, -300, -90, 0, 0, 90, 300, 700, 1015])
    factors = [
        times_power(W, torch.tensor(float(data.draw(exponents))))
        for W in random_point(widths, seed)
    ]
    if data.draw(st.booleans()):  # uneven within a factor, too
        for W in factors:
            W[0, 0] = data.draw(st.sampled_from([0.0, 5e-324, 1e-200, 1.0, 1e200, 1e308]))
    method = data.draw(st.sampled_from(["auto", *ITERATIVE]))
    s = dmf.sharpness(factors, method=method)
    exact = exact_sharpness(factors) if sum(W.numel() for W in factors) <= 40 else None
    if s.converged:
        assert s.residual <= s.tolerance
        assert math.isfinite(s.gap)
        assert s.upper_bound >= s.value * (1 - 1e-12)
        assert float(flatten(s.eigenvector).norm()) == pytest.approx(1, abs=1e-9)
        if exact is not None:
            assert relative_error(s.value, exact) < (1e-9 if method == "low-rank" else 1e-12)
    else:
        assert math.isnan(s.residual) or s.residual > s.tolerance
    for function in (dmf.hessian_trace, dmf.hessian_frobenius_norm):
        try:
            value = function(factors)
        except ValueError as error:
            assert str(error).startswith("factors: expected")
        else:
            if exact is not None:
                # Both lie between the largest eigenvalue and N times that.
                assert 1 - 1e-12 <= value / float(exact) <= 1000


@pytest.mark.parametrize("method", ["auto", "dense", "batched", "lanczos", "low-rank"])
@pytest.mark.parametrize("width", [4, 100])
def test_zero_minimizers_have_finite_eigenvectors(method, width):
    factors = [torch.zeros(width, width, dtype=torch.float64) for _ in range(3)]
    if method in ("dense", "batched") and width > 4:
        return
    s = dmf.sharpness(factors, method=method)
    assert (s.value, s.residual, s.converged, s.gap, s.upper_bound) == (0, 0, True, 0, 0)
    assert not flatten(s.eigenvector).any()
    assert bool(torch.isfinite(s.eigenmatrix).all())
    batch = dmf.sharpness([torch.stack([W, W]) for W in factors], method=method)
    assert batch.value.tolist() == [0, 0]
    assert batch.converged.all()


def test_a_zero_hessian_is_told_from_one_that_underflows():
    """Both have the value 0; only the first is converged."""
    one = torch.ones(1, 1, dtype=torch.float64)
    for factors in ([0 * one, 0 * one, one], [1e300 * one, 0 * one, 0 * one]):
        s = dmf.sharpness(factors)
        assert (s.value, s.converged) == (0, True)
    left, right = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.0], [1.0]]).double()
    # Products of the outer two with the middle are zero although no factor is.
    middle = torch.diag(torch.tensor([0.0, 0.0]).double())
    assert dmf.sharpness([right, middle, left]).value == 2
    s = dmf.sharpness([1e-200 * one] * 3)
    assert (s.value, s.converged) == (0, False)
    assert math.isnan(s.residual)


def test_the_value_of_a_wide_network_that_overflows_is_infinite():
    """The routes that are chosen by size."""
    for widths in [(64, 64, 64, 64), (100, 100, 100), (110, 100, 100, 110), (20, 300, 20)]:
        factors = random_point(widths, 1)
        s = dmf.sharpness(times(factors, 700))
        assert (s.value, s.converged) == (math.inf, False)
        s = dmf.sharpness(times(factors, -700))
        assert (s.value, s.converged) == (0, False)


@pytest.mark.parametrize("exponent", [-1060, -700, -340, -250, 250, 340, 700, 1000])
def test_the_spectrum_and_its_moments_are_right_or_refused(exponent):
    factors = random_point((4, 6, 5, 3), 2)
    moved, power = times(factors, exponent), 4 * exponent
    (values, vectors) = dmf.hessian_eigenvectors(factors)
    moments = dmf.hessian_trace(factors), dmf.hessian_frobenius_norm(factors)
    if TINY <= mpmath.ldexp(float(values[0]), power) <= HUGE / 100:
        found, directions = dmf.hessian_eigenvectors(moved)
        for list_ in (found, dmf.hessian_spectrum(moved)):
            for value, usual in zip(list_.tolist(), values.tolist(), strict=True):
                error = abs(mpmath.mpf(value) - mpmath.ldexp(usual, power))
                assert error <= 1e-13 * mpmath.ldexp(float(values[0]), power)
        torch.testing.assert_close(directions.abs(), vectors.abs(), rtol=0, atol=1e-6)
        assert relative_error(dmf.hessian_trace(moved), mpmath.ldexp(moments[0], power)) < 1e-13
        norm = dmf.hessian_frobenius_norm(moved)
        assert relative_error(norm, mpmath.ldexp(moments[1], power)) < 1e-13
    else:
        for refused in (
            dmf.hessian_spectrum,
            dmf.hessian_eigenvectors,
            dmf.hessian_trace,
            dmf.hessian_frobenius_norm,
        ):
            with pytest.raises(
                ValueError, match="factors: expected a Hessian of zeros or of eigenv"
            ):
                refused(moved)
    # Of a batch only that member is beyond the range.
    batch = [torch.stack([W, V]) for W, V in zip(factors, moved, strict=True)]
    both = [*map(float, (dmf.hessian_trace(batch)[0], dmf.hessian_frobenius_norm(batch)[0]))]
    assert both == pytest.approx(moments, rel=1e-13)
    torch.testing.assert_close(operator_spectrum(batch)[0], operator_spectrum(factors))


def test_the_spectrum_of_a_zero_hessian_is_empty():
    factors = [torch.zeros(3, 3, dtype=torch.float64)] * 3
    assert dmf.hessian_spectrum(factors).shape == (0,)
    values, vectors = dmf.hessian_eigenvectors(factors)
    assert values.shape == (0,)
    assert vectors.shape == (0, 27)
    assert dmf.hessian_trace(factors) == dmf.hessian_frobenius_norm(factors) == 0


@pytest.mark.parametrize("exponent", [-900, -600, -300, 300, 600, 900])
def test_a_target_is_compared_at_any_scale(exponent):
    """Norms of tiny matrices underflow: a wrong target must not pass for a right one."""
    target, factors = random_problem((3, 4, 2), 1)
    moved = times(factors, exponent // 2)
    (M,) = times([target], exponent)
    s = dmf.sharpness(moved, target=M)
    assert s.converged == (TINY < s.value < HUGE)
    with pytest.raises(ValueError, match="target: expected factors whose product fits it"):
        dmf.sharpness(moved, target=1.001 * M)
    data = regression(gaussian_matrix(3, 9, 1), gaussian_matrix(2, 9, 2))
    W = times(dmf.random_minimizer(data.solution, [4], 1), exponent // 2)
    (solution,) = times([data.solution], exponent)
    dmf.sharpness(W, data.input_gram, target=solution)
    with pytest.raises(ValueError, match="target: expected factors whose product fits it"):
        dmf.sharpness(W, data.input_gram, target=2 * solution)


def test_a_zero_target_wants_a_product_of_zeros():
    """Relative to what cancels in it, not to the number 1."""
    zero, tiny = torch.zeros(2, 2, dtype=torch.float64), 1e-6 * random_point((2, 2), 1)[0]
    assert dmf.sharpness([zero, tiny], target=zero).converged
    Q = torch.linalg.qr(gaussian_matrix(4, 4, 1))[0]
    apart = [Q[:, :2].mT, Q[:, 2:].mT @ Q]  # rows that are orthogonal up to rounding
    assert dmf.sharpness([apart[0].mT, Q[:, 2:].mT], target=zero).converged
    with pytest.raises(ValueError, match="target: expected factors whose product fits it"):
        dmf.sharpness([tiny, tiny], target=zero)


def test_a_run_that_measures_its_sharpness_survives_a_member_that_leaves_the_range():
    """Large iterates, finite still, whose sharpness is not."""
    _, factors = random_problem((3, 4, 4, 3), 1)
    target = end_to_end(factors)
    start = [torch.stack([W, 1e100 * W, 0.9 * W]) for W in factors]

    def measure(iterates):
        return dmf.sharpness(iterates).value[:, None]

    run = dmf.gradient_descent(start, target, 1e-4, 50, observe_every=10, measure=measure)
    alone = dmf.gradient_descent(
        [W[[0, 2]] for W in start], target, 1e-4, 50, observe_every=10, measure=measure
    )
    measured = run.trajectory.measured[:, [0, 2]]
    torch.testing.assert_close(measured, alone.trajectory.measured, rtol=1e-13, atol=0)
    assert bool(torch.isfinite(measured).all())
