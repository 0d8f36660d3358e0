"""The landing law at the ends of the range of float64."""

import math

import mpmath
import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.descent.landing_law import landing_terms
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.problem import Problem
from tests.exact import relative_error
from tests.helpers import random_problem, times

TINY, HUGE = torch.finfo(torch.float64).tiny, torch.finfo(torch.float64).max


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
