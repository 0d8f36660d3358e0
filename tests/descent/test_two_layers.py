"""The engines against the closed forms of docs/two_layers.md, over thousands of steps.

The formulas are written here once more, from the page and not from the package.
"""

import math

import mpmath
import numpy as np
import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.compiled import lanes
from dmf_sharpness.descent.landing_law import landing_terms
from dmf_sharpness.descent.run import Outcome
from dmf_sharpness.network.problem import Problem

ENGINES = [
    "torch",
    pytest.param(
        "compiled",
        marks=pytest.mark.skipif(not lanes.available(), reason="no compiled kernel"),
    ),
]


def starts(width, count, seed, size=1.0):
    """``count`` random pairs of layers of that width."""
    rng = np.random.default_rng([seed, width])
    draw = size * rng.standard_normal((2, count, width)) / math.sqrt(width)
    return [torch.from_numpy(draw[0][:, :, None]), torch.from_numpy(draw[1][:, None, :])]


def followed(factors, target, step_size, steps, engine, **options):
    """The run, and along its path ``p``, ``S`` and ``Q``, each ``(K, B)``, NaN after the end."""
    M = torch.full((len(factors[0]), 1, 1), target, dtype=torch.float64)
    run = dmf.gradient_descent(
        factors, M, step_size, steps, observe_every=1, keep_path=True, engine=engine, **options
    )
    x, y = run.observed.iterates.chunk(2, dim=-1)
    p, S = (x * y).sum(-1), x.square().sum(-1) + y.square().sum(-1)
    # (S − 2p)(S + 2p), from the difference and the sum, because S² − 4p² cancels.
    Q = (x - y).square().sum(-1) * (x + y).square().sum(-1)
    return run, p, S, Q


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("width", [1, 2, 7, 40])
def test_the_invariant_shrinks_by_the_known_factor_at_every_step(width, engine):
    """Slow runs, fast runs, orbits of period two and chaotic ones; only rounding may separate the sides."""
    target, eta = 0.8, torch.tensor([1e-3, 3e-3, 0.2, 0.45, 0.66, 0.82], dtype=torch.float64)
    _, p, S, Q = followed(starts(width, 6, 1), target, eta, 3000, engine)
    h = eta * 2 * (p - target)
    predicted = ((1 - h.square()).square() * Q)[:-1]
    # Runs that diverge are compared while they are near, others until their layers are equal.
    known = torch.isfinite(Q[1:]) & (h[:-1].abs() < 3) & (Q[:-1] > 0)
    # An entry of x ± y has a rounding error of the size of the layers, and Q is a product of two squares.
    error = (Q[1:] - predicted).abs() / (Q[:-1].sqrt() * S[:-1])
    assert int(known.sum()) > 3000
    assert float(error[known].max()) < 1e-14
    once = ((1 - h.square()) * Q)[:-1]
    wrong = (Q[1:] - once).abs() / (Q[:-1].sqrt() * S[:-1])
    assert float(wrong[known].max()) > 0.1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_thousands_of_steps_are_those_of_a_map_of_two_numbers(momentum, engine):
    """The sum and the difference of the layers, of any width, as two numbers in forty-digit arithmetic."""
    width, target, eta, steps = 5, 1.3, 1e-3, 9000
    factors = starts(width, 1, 2, size=1.5)
    run, p, S, _ = followed(factors, target, eta, steps, engine, momentum=momentum)
    with mpmath.workdps(40):
        x, y = ([mpmath.mpf(v) for v in W.flatten().tolist()] for W in factors)
        A = sum((a + b) ** 2 for a, b in zip(x, y, strict=True))
        B = sum((a - b) ** 2 for a, b in zip(x, y, strict=True))
        # The directions of the sum and the difference stay, so their signed lengths are all there is.
        u, w = mpmath.sqrt(A), mpmath.sqrt(B)
        u_before, w_before = u, w
        for step in range(len(p)):
            assert float(p[step, 0]) == pytest.approx(float((u**2 - w**2) / 4), rel=1e-11)
            assert float(S[step, 0]) == pytest.approx(float((u**2 + w**2) / 2), rel=1e-11)
            g = 2 * ((u**2 - w**2) / 4 - mpmath.mpf(target))
            u, u_before = u - eta * g * u + momentum * (u - u_before), u
            w, w_before = w + eta * g * w + momentum * (w - w_before), w
    assert len(p) > 1000
    assert run.outcome[0] == Outcome.CONVERGED


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("width", [1, 3, 12])
def test_small_steps_end_where_the_gradient_flow_does(width, engine):
    target, factors = 1.7, starts(width, 8, 3)
    ends = []
    for eta in (4e-3, 2e-3):
        run, p, S, _ = followed(factors, target, eta, 6_000, engine)
        assert (run.outcome == Outcome.CONVERGED).all()
        ends.append(dmf.sharpness(run.factors).value)
    start = (S[0] ** 2 - 4 * p[0] ** 2 + 4 * target**2).sqrt() * 2
    torch.testing.assert_close(2 * ends[1] - ends[0], start, rtol=1e-4, atol=0)
    x, y = (W.flatten(1) for W in run.factors)
    Q = (x - y).square().sum(1) * (x + y).square().sum(1)
    torch.testing.assert_close(ends[1], 2 * (Q + 4 * target**2).sqrt(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("ratio", [1.02, 1.3, 2.0, 5.0])
@pytest.mark.parametrize("width", [1, 2, 6])
def test_the_coefficients_of_the_landing_law(width, ratio):
    target = torch.tensor([[-0.7]], dtype=torch.float64)
    if width == 1:
        # Q = S² − 4M² with S = 2ρ|M|, hence ‖x‖², ‖y‖² = |M| (ρ ± √(ρ² − 1)).
        lengths = [math.sqrt(0.7 * (ratio + s * math.sqrt(ratio**2 - 1))) for s in (1, -1)]
        factors = [
            torch.tensor([[lengths[0]]], dtype=torch.float64),
            torch.tensor([[-lengths[1]]], dtype=torch.float64),
        ]
    else:
        sharp = ratio * dmf.flat_sharpness(target, 2)
        factors = dmf.minimizer_with_sharpness(target, [width], sharp, 7)
    terms = landing_terms(factors, Problem(target))
    size = float(factors[0].square().sum() + factors[1].square().sum())
    rho = size / 1.4
    assert rho == pytest.approx(ratio, rel=1e-9)
    assert float(terms.drift) == pytest.approx(8 * (1 - rho**-2) / size, rel=1e-10)
    assert float(terms.cubic) == pytest.approx(-8 / (rho**2 * size), rel=1e-10)
    assert float(terms.coefficient) == pytest.approx(-2 / (rho**2 - 1), rel=1e-10)
    assert float(terms.drift_slope) == pytest.approx((rho**2 + 1) / (2 * (rho**2 - 1)), rel=1e-6)
    assert float(terms.refined) == pytest.approx((rho**2 - 4) / (rho**2 - 1), rel=1e-6, abs=1e-6)


def test_a_target_of_rank_one_has_the_coefficients_of_its_singular_value():
    """Layers with nothing beside the top path; the Hessian's operator has zero eigenvalues there."""
    rng = np.random.default_rng(9)
    q, u, v = (torch.from_numpy(rng.standard_normal(n)) for n in (4, 2, 3))
    q, u, v = (w / w.norm() for w in (q, u, v))
    M, first = 0.7, 1.4
    factors = [first * torch.outer(q, v), (M / first) * torch.outer(u, q)]
    terms = landing_terms(factors, Problem(M * torch.outer(u, v)))
    rho = (first**2 + (M / first) ** 2) / (2 * M)
    assert float(terms.coefficient) == pytest.approx(-2 / (rho**2 - 1), rel=1e-10)
    assert float(terms.refined) == pytest.approx((rho**2 - 4) / (rho**2 - 1), rel=1e-6)


def critical_step(factors, target):
    """Formula (4) of the page, for each start."""
    x, y = (W.flatten(1) for W in factors)
    S, g = x.square().sum(1) + y.square().sum(1), 2 * ((x * y).sum(1) - target)
    return torch.minimum(
        torch.full_like(S, 1 / (2 * abs(target))), 4 / (S + (S**2 - 8 * target * g).sqrt())
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("size", [0.7, 3.0])
def test_the_critical_step_size(width, size, engine):
    """From small starts the flattest minimizer's limit is critical, from large ones the start's own."""
    target, factors = 0.9, starts(width, 30, 5, size)
    M = torch.full((30, 1, 1), target, dtype=torch.float64)
    critical = critical_step(factors, target)
    own = critical < 1 / (2 * target) - 1e-12
    assert int(own.sum()) >= 10 if size > 1 else int((~own).sum()) >= 10
    for ratio, converges in [(0.97, True), (1.03, False)]:
        run = dmf.gradient_descent(factors, M, ratio * critical, 20_000, engine=engine)
        assert ((run.outcome == Outcome.CONVERGED) == converges).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_sign_of_delta_never_changes(engine):
    """Formula (3) of the page at every step of runs that converge, and of runs that do not."""
    target, factors = 0.9, starts(3, 40, 6, size=2.0)
    eta = torch.linspace(0.05, 0.6, 40, dtype=torch.float64)
    _, p, S, _ = followed(factors, target, eta, 300, engine)
    h = eta * 2 * (p - target)
    delta = 2 * eta * S - 2 * eta * target * h - 4
    predicted = ((1 + 2 * eta * target * h + h.square()) * delta)[:-1]
    known = torch.isfinite(delta[1:]) & (delta[1:].abs() < 1e6)
    assert int(known.sum()) > 2000
    torch.testing.assert_close(delta[1:][known], predicted[known], rtol=1e-9, atol=1e-9)
    assert (delta[0] > 0).any()
    assert (delta[0] < 0).any()
