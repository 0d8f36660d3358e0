"""Flatness and balance at the ends of the range of float64: the right value, or an error."""

import mpmath
import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.targets import gaussian_matrix
from tests.exact import relative_error
from tests.helpers import random_point, random_problem, times

TINY, HUGE = torch.finfo(torch.float64).tiny, torch.finfo(torch.float64).max


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
