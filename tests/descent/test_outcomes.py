"""Known maps and known runs, told apart."""

import pytest
import scipy.optimize
import torch

import dmf_sharpness as dmf
from dmf_sharpness.descent.outcomes import _period, watch
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.problem import Problem


def orbit(function, start, steps=64, burn_in=2000):
    x, path = start, []
    for t in range(burn_in + steps + 1):
        if t >= burn_in:
            path.append(x)
        x = function(x)
    return torch.tensor(path, dtype=torch.float64)[:, None, None]


@pytest.mark.parametrize(
    ("rate", "period"), [(2.8, 0), (3.2, 2), (3.5, 4), (3.55, 8), (3.83, 3), (3.9, 0)]
)
def test_periods_of_the_logistic_map(rate, period):
    path = orbit(lambda x: rate * x * (1 - x), 0.4)
    assert _period(path).tolist() == [period]


def test_scalar_factorization_has_all_kinds_of_end():
    """``(1 − xy)²``: a settling run, a period of two, a bounded orbit of no period, an end."""
    start = [
        torch.full((3, 1, 1), 1.2, dtype=torch.float64),
        torch.full((3, 1, 1), 1.1, dtype=torch.float64),
    ]
    eta = torch.tensor([0.001, 0.55, 0.9], dtype=torch.float64)
    target = torch.ones(3, 1, 1, dtype=torch.float64)
    run = dmf.gradient_descent(start, target, eta, 20)
    slow = watch([W[:1] for W in run.factors], Problem(target[:1]), eta[:1])
    assert slow.settling.tolist() == [True]
    run = dmf.gradient_descent(start, target, eta, 20000)
    seen = watch([W[1:2] for W in run.factors], Problem(target[1:2]), eta[1:2])
    assert seen.period.tolist() == [2]
    assert seen.settling.tolist() == [False]


def test_a_slow_landing_is_not_called_bounded():
    target = gaussian_matrix(4, 4, 1)
    factors = dmf.minimizer_with_sharpness(target, [5], 1.5 * dmf.flat_sharpness(target, 2), 2)
    s = dmf.sharpness(factors)
    start = [(W + 1e-3 * U)[None] for W, U in zip(factors, s.eigenvector, strict=True)]
    eta = torch.tensor([2 * 1.002 / s.value], dtype=torch.float64)
    run = dmf.gradient_descent(start, target, eta, 3500)
    assert run.outcome[0] == 0
    seen = watch(run.factors, Problem(target[None]), eta)
    assert seen.settling.tolist() == [True]


def test_an_orbit_that_grows_slowly_is_not_called_settling():
    """Next to a period of two that has just lost its stability the largest loss rises and the least falls.

    With ``x = y`` the map of ``(1 − xy)²`` is ``x ↦ (1 + c)x − cx³``, ``c = 2η``, whose period of two is
    stable up to ``c = √5 − 1``.
    """
    c = 5**0.5 - 1 + 0.002

    def step(x):
        return (1 + c) * x - c * x**3

    x = scipy.optimize.brentq(lambda x: step(step(x)) - x, 1.1, 1.2, xtol=1e-15)
    assert abs(step(x) - x) > 0.4
    start = [torch.full((1, 1, 1), x + 1e-5, dtype=torch.float64)] * 2
    one, eta = torch.ones(1, 1, 1, dtype=torch.float64), torch.tensor([c / 2], dtype=torch.float64)
    seen = watch(start, Problem(one), eta)
    assert seen.period.tolist() == [0]
    assert seen.settling.tolist() == [False]
