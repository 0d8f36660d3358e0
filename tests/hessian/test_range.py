"""The ends of the range of float64: the right value, an error, or a result that says it is none."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.descent.landing_law import landing_terms
from dmf_sharpness.hessian.any_point import PointSharpness
from dmf_sharpness.hessian.batched import batched_top_pair
from dmf_sharpness.hessian.lanczos import top_eigenvector, top_eigenvectors
from dmf_sharpness.hessian.spectrum import operator_spectrum
from dmf_sharpness.minimizers.targets import gaussian_matrix, regression
from dmf_sharpness.network.factors import end_to_end, flatten
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.scaling import times_power
from tests.exact import exact_gradient_norm, exact_hessian, exact_sharpness, relative_error
from tests.helpers import networks, random_point, random_problem

TINY, HUGE = torch.finfo(torch.float64).tiny, torch.finfo(torch.float64).max
ITERATIVE = ["dense", "batched", "lanczos", "low-rank"]
ROUTES = [
    ("scalar", (1, 4, 3, 1)),
    ("depth-1", (4, 3)),
    ("depth-2", (4, 6, 3)),
    *[(method, (5, 7, 6, 6)) for method in ["auto", *ITERATIVE]],
    ("lanczos", (30, 4, 4)),
    ("low-rank", (30, 35, 30, 32)),
]


def times(factors, exponent):
    """``2^exponent W_i``, exactly as long as no entry leaves the range."""
    return [times_power(W, torch.tensor(float(exponent))) for W in factors]


def bits(values):
    return values.view(torch.int64) if values.dtype == torch.float64 else values


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


@pytest.mark.parametrize("exponent", [-1000, -700, -250, -100, 0, 100, 250, 700, 1000])
def test_flatness_does_not_depend_on_the_scale(exponent):
    target, sharp = random_problem((4, 6, 5, 3), 1)
    flat = dmf.balanced_minimizer(target, [6, 5], 1)
    assert dmf.is_flat(times(flat, exponent))
    assert not dmf.is_flat(times(sharp, exponent))
    assert dmf.is_flat([0 * W for W in flat])
    # The product is zero, the sharpness is not.
    assert not dmf.is_flat(times([flat[0], 0 * flat[1], flat[2]], exponent))


def test_flatness_of_factors_that_are_too_uneven_is_refused():
    sizes = [1e300, 1e-300, 1e300, 1e-300]
    factors = [size * W for size, W in zip(sizes, random_point((2, 2, 2, 2, 2), 1), strict=True)]
    with pytest.raises(ValueError, match="factors: expected some of similar size"):
        dmf.is_flat(factors)


@pytest.mark.parametrize("depth", [1, 2, 3, 10])
@pytest.mark.parametrize("exponent", [-1060, -700, -300, 300, 700, 1000])
def test_the_flat_limit_is_right_or_refused(depth, exponent):
    target = gaussian_matrix(3, 4, 1)
    (moved,) = times([target], exponent)
    with mpmath.workdps(40):
        power = mpmath.mpf(2) - mpmath.mpf(2) / depth
        exact = mpmath.mpf(dmf.flat_sharpness(target, depth)) * mpmath.mpf(2) ** (power * exponent)
    batch = torch.stack([target, moved])
    assert float(dmf.flat_sharpness(batch, depth)[0]) == dmf.flat_sharpness(target, depth)
    if TINY <= exact <= HUGE:
        assert relative_error(dmf.flat_sharpness(moved, depth), exact) < 1e-12
    else:
        with pytest.raises(ValueError, match="target: expected one whose λ_flat float64 holds"):
            dmf.flat_sharpness(moved, depth)
        assert dmf.flat_sharpness(batch, depth).isnan().tolist() == [False, True]


@pytest.mark.parametrize("exponent", [-1060, -700, -300, 300, 700, 1000])
def test_spectral_products_are_right_or_refused(exponent):
    factors = random_point((3, 5, 4, 2), 1)
    usual = dmf.spectral_products(factors)
    moved = times(factors, exponent)
    if abs(exponent) <= 500:
        found = dmf.spectral_products(moved)
        for value, known in zip(found.tolist(), usual.tolist(), strict=True):
            assert relative_error(value, mpmath.ldexp(known, 2 * exponent)) < 1e-13
    else:
        with pytest.raises(ValueError, match="factors: expected spectral products between"):
            dmf.spectral_products(moved)
        batch = [torch.stack([W, V]) for W, V in zip(factors, moved, strict=True)]
        assert dmf.spectral_products(batch).isnan().tolist() == [[False] * 3, [True] * 3]
    # Of each product its own factor is left out: uneven ones are no matter.
    uneven = [1e200 * factors[0], 1e-200 * factors[1], 1e-200 * factors[2]]
    found = dmf.spectral_products([uneven[0], uneven[1] * 1e50, uneven[2] * 1e50])
    assert found[1:].tolist() == pytest.approx([float(usual[1]) * 1e50, float(usual[2]) * 1e50])
    assert dmf.spectral_products([0 * factors[0], *factors[1:]])[1:].tolist() == [0, 0]


@pytest.mark.parametrize("exponent", [-900, -500, -100, 100, 500, 900])
def test_the_landing_coefficient_does_not_depend_on_the_scale(exponent):
    target = gaussian_matrix(2, 3, 1)
    factors = dmf.minimizer_with_sharpness(target, [4], 1.5 * dmf.flat_sharpness(target, 2), 1)
    usual = landing_terms(factors, Problem(target))
    moved = times(factors, exponent)
    (M,) = times([target], 2 * exponent)
    if float(M.abs().min()) > 0 and bool(torch.isfinite(M).all()):
        terms = landing_terms(moved, Problem(M))
        assert float(terms.coefficient) == pytest.approx(float(usual.coefficient), rel=1e-9)
        assert float(terms.refined) == pytest.approx(float(usual.refined), rel=1e-6)
        for name in ("drift", "cubic"):
            exact = mpmath.ldexp(float(getattr(usual, name)), -2 * exponent)
            if TINY <= abs(exact) <= HUGE:
                assert relative_error(float(getattr(terms, name)), exact) < 1e-9
        batch = [torch.stack([W, V, 0 * W]) for W, V in zip(factors, moved, strict=True)]
        a = dmf.landing_coefficient(batch, torch.stack([target, M, 0 * M]))
        assert a[:2].tolist() == pytest.approx([float(usual.coefficient)] * 2, rel=1e-9)
        assert math.isnan(a[2])


def test_landing_is_refused_where_there_is_none():
    target, factors = random_problem((3, 4, 2), 1)
    with pytest.raises(ValueError, match=r"factors: expected a minimizer of the target.*got none"):
        dmf.landing_coefficient(factors, target + 1e-3)
    zeros = [0 * W for W in factors]
    with pytest.raises(ValueError, match=r"of positive sharpness.*got a Hessian of zeros"):
        dmf.landing_coefficient(zeros, 0 * target)


@pytest.mark.parametrize(
    ("a", "ratio", "end"),
    [
        (-1e308, 1.0 + 2**-52, 1.0),
        (-1e308, 1e308, 1.0),
        (1e308, 1.0, 1.0),
        (1e-308, 1.5, 0.5),
        (-5e-324, 1.5, 0.5),
        (0.0, 1e308, 2 - 1e308),
        (1e308, 1e10, math.nan),
        (-1e3, 1e3, 1 - 1 / 2e3),
        (-1e3, 1e300, 1 - 1 / 2e3),
    ],
)
def test_predictions_at_the_ends(a, ratio, end):
    assert dmf.predict_landing(a, ratio) == pytest.approx(end, rel=1e-14, nan_ok=True)


MAKERS = {
    "balanced": lambda M, hidden: dmf.balanced_minimizer(M, hidden, 1),
    "flat": lambda M, hidden: dmf.flat_minimizer(M, hidden, 1),
    "random": lambda M, hidden: dmf.random_minimizer(M, hidden, 1),
    "bottlenecked": lambda M, hidden: dmf.bottlenecked_minimizer(M, [1, *hidden[1:]], 1),
}


@pytest.mark.parametrize("exponent", [-1000, -900, -600, -300, 300, 600, 900, 1000])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("hidden", [[4], [4, 5]])
def test_minimizers_of_targets_of_any_size(kind, hidden, exponent):
    """A scaled target has scaled factors: to the last bit where the scale is one of each factor."""
    target = gaussian_matrix(3, 2, 1)
    depth = len(hidden) + 1
    exponent -= exponent % depth
    (M,) = times([target], exponent)
    made = MAKERS[kind](M, hidden)
    usual = MAKERS[kind](target, hidden)
    q = exponent // depth
    for W, V in zip(made, times(usual, q), strict=True):
        torch.testing.assert_close(W, V, rtol=1e-9, atol=1e-9 * 2.0**q)
    if kind != "bottlenecked":
        residual = times([end_to_end(times(made, -q)) - target], 0)[0]
        assert float(residual.norm() / target.norm()) < 1e-12


@pytest.mark.parametrize("exponent", [-600, -300, 300, 600])
def test_a_prescribed_sharpness_at_any_scale(exponent):
    target = gaussian_matrix(3, 2, 1)
    (M,) = times([target], exponent)
    wanted = 3 * dmf.flat_sharpness(M, 3)
    factors = dmf.minimizer_with_sharpness(M, [4, 4], wanted, 1)
    s = dmf.sharpness(factors, target=M)
    assert s.converged
    assert s.value == pytest.approx(wanted, rel=1e-12)


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
