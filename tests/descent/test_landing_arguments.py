"""What the landing law takes and refuses, and its curve against forty digits."""

import mpmath
import numpy as np
import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.descent.landing_curve import landing_curve
from dmf_sharpness.descent.landing_law import landing_terms
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.network.problem import Problem
from tests.helpers import random_problem, times

STARTS = [
    s * w
    for w in (1e-12, 1e-6, 1e-3, 0.0199999, 0.0200001, 0.1, 0.5, 0.9, 0.999, 1.5, 5, 50, 700, 900)
    for s in (1, -1)
    if s * w < 1
]


@pytest.mark.parametrize("w", STARTS)
def test_the_curve_is_the_branch_of_the_lambert_function(w):
    a = w / 2 / 0.25
    with mpmath.workdps(40):
        start = mpmath.mpf(w)
        end = 1 + mpmath.lambertw((start - 1) * mpmath.exp(start - 1), -1 if w > 0 else 0).real
        landing = 1 + end / (2 * mpmath.mpf(a))
    (found,) = landing_curve(np.array([a]), np.array([1.25]))
    assert 1 - found == pytest.approx(float(1 - landing), rel=2e-12)


def test_a_minimizer_may_miss_its_target_by_a_millionth():
    target, factors = random_problem((3, 4, 2), 1)
    for miss, fits in [(9e-7, True), (1.1e-6, False)]:
        moved = target * (1 + miss)
        batch = [torch.stack([W, W]) for W in factors]
        a = dmf.landing_coefficient(batch, torch.stack([target, moved]))
        assert torch.isfinite(a).tolist() == [True, fits]
        if fits:
            assert dmf.landing_coefficient(factors, moved) == pytest.approx(float(a[0]), rel=1e-4)
        else:
            with pytest.raises(ValueError, match=r"factors: expected a minimizer.*, got none"):
                dmf.landing_coefficient(factors, moved)


def test_factors_too_uneven_for_any_scale_are_told():
    target, factors = random_problem((3, 4, 4, 2), 1)
    uneven = [*times(factors[:1], 1000), *times(factors[1:2], -1000), factors[2]]
    torch.testing.assert_close(end_to_end(uneven), target)
    with pytest.raises(ValueError, match=r"factors: expected a minimizer.*, got too uneven ones"):
        dmf.landing_coefficient(uneven, target)
    batch = [torch.stack([U, W]) for U, W in zip(uneven, factors, strict=True)]
    a = dmf.landing_coefficient(batch, target)
    assert torch.isnan(a).tolist() == [True, False]
    assert float(a[1]) == pytest.approx(dmf.landing_coefficient(factors, target), rel=1e-10)
    none = dmf.landing_coefficient([W[:1] for W in batch], target)
    assert none.shape == (1,)
    assert torch.isnan(none).all()


def test_one_target_serves_a_batch():
    target, factors = random_problem((3, 4, 2), 1)
    other = dmf.random_minimizer(target, [4], 9)
    batch = [torch.stack([W, V]) for W, V in zip(factors, other, strict=True)]
    a = dmf.landing_coefficient(batch, target)
    expected = [dmf.landing_coefficient(W, target) for W in (factors, other)]
    assert a.tolist() == pytest.approx(expected, rel=1e-10)
    refined = dmf.landing_coefficient(batch, target, refined=True)
    assert refined.tolist() == pytest.approx(landing_terms(batch, Problem(target)).refined.tolist())
    assert abs(refined - a).min() > 1e-3


@pytest.mark.parametrize(("factor_bits", "root_bits"), [(0, 300), (200, -400), (-150, 0)])
def test_the_coefficients_do_not_depend_on_the_scale_of_the_inputs(factor_bits, root_bits):
    _, factors = random_problem((3, 4, 2), 2)
    root = gaussian_matrix(3, 5, 3)
    target = end_to_end(factors) @ root
    usual = landing_terms(factors, Problem(target, root))
    (scaled_root,) = times([root], root_bits)
    (scaled_target,) = times([target], 2 * factor_bits + root_bits)
    moved = landing_terms(times(factors, factor_bits), Problem(scaled_target, scaled_root))
    assert float(moved.coefficient) == pytest.approx(float(usual.coefficient), rel=1e-9)
    assert float(moved.drift_slope) == pytest.approx(float(usual.drift_slope), rel=1e-6)
    for name in ("drift", "cubic"):
        expected = mpmath.ldexp(float(getattr(usual, name)), -2 * factor_bits)
        assert float(getattr(moved, name)) == pytest.approx(float(expected), rel=1e-9)


def test_a_prediction_is_a_float_or_a_tensor():
    assert isinstance(dmf.predict_landing(-1.0, 1.1), float)
    assert isinstance(dmf.predict_landing(-1.0, np.float64(1.1)), float)
    ratios = np.array([1.1, 1.2])
    for a, ratio in [
        (-1.0, ratios),
        (-1.0, torch.from_numpy(ratios)),
        (-ratios, 1.1),
        (-ratios, ratios),
    ]:
        found = dmf.predict_landing(a, ratio)
        assert isinstance(found, torch.Tensor)
        pairs = np.broadcast_arrays(np.asarray(a), np.asarray(ratio))
        assert found.tolist() == [
            dmf.predict_landing(*pair) for pair in zip(*map(np.ndarray.tolist, pairs), strict=True)
        ]


@pytest.mark.parametrize("ratio", [float("inf"), float("nan"), 1 - 1e-12])
def test_step_ratios_that_are_none_are_refused(ratio):
    with pytest.raises(ValueError, match="step_ratio: expected"):
        dmf.predict_landing(1.0, ratio)
    with pytest.raises(ValueError, match="step_ratio: expected finite numbers of at least 1"):
        dmf.predict_landing(1.0, torch.tensor([1.1, ratio], dtype=torch.float64))


@pytest.mark.parametrize("wrong", [torch.tensor([True]), np.array([True]), torch.tensor([1j]), "1"])
def test_numbers_that_are_not_real_are_refused(wrong):
    with pytest.raises(TypeError):
        dmf.predict_landing(wrong, 1.1)
    with pytest.raises(TypeError):
        dmf.predict_landing(1.0, wrong)
