"""The families that come near to the bounds behind a bottleneck."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.minimizers.bottleneck import overestimated_minimizer, underestimated_minimizer
from dmf_sharpness.minimizers.targets import gaussian_matrix, matrix_with_singular_values
from dmf_sharpness.network.factors import end_to_end, widths
from dmf_sharpness.oracles import dense_spectrum


def ratio(factors, target):
    """The sharpness of the dense Hessian over the closed form."""
    return float(dense_spectrum(factors, target)[0]) / sharpness(factors).value


@given(
    st.floats(0.01, 1), st.integers(0, 2), st.sampled_from([1e-2, 0.03, 0.1]), st.integers(0, 99)
)
def test_the_closed_form_is_too_low_by_the_ratio_that_is_derived(q, further, gain, seed):
    """The formula of docs/bottleneck.md, for singular values of any size."""
    depth, size = 3 + further, 10.0 ** (seed % 5 - 2)
    target = matrix_with_singular_values(3, 2, [size, q * size], seed)
    factors = underestimated_minimizer(target, [3, *([1] * (further + 1))], gain)
    kappa = gain + (depth - 3) / 2
    least = gain**-2 + 2 * kappa
    root = math.sqrt(kappa**2 + q**2 * least / gain**2)
    assert ratio(factors, target) == pytest.approx((gain**-2 + kappa + root) / least, rel=1e-9)


@given(st.floats(0.05, 1), st.integers(0, 2), st.integers(0, 99))
def test_the_closed_form_is_too_high_by_nearly_its_bound(q, further, seed):
    target = matrix_with_singular_values(2, 3, [2, 2 * q], seed)
    hidden = [2, *([1] * (further + 1)), 4]
    bound = (1 + q) / (1 + 2 * q)
    far, near = (
        ratio(overestimated_minimizer(target, hidden, gain), target) / bound - 1
        for gain in (1e-2, 1e-3)
    )
    assert -1e-12 < near < 1e-4 / q
    assert near < far / 50


def test_a_ratio_near_two_is_reached():
    target = matrix_with_singular_values(2, 2, [1, 0.999], 0)
    assert ratio(underestimated_minimizer(target, [2, 1], 0.1), target) > 1.997


@pytest.mark.parametrize("make", [underestimated_minimizer, overestimated_minimizer])
def test_further_widths_are_filled_with_zeros(make):
    target = gaussian_matrix(4, 3, 5)
    hidden = [4, 3, 1, 5, 2]
    factors = make(target, hidden)
    assert widths(factors) == (3, *hidden, 4)
    assert ratio(factors, target) == pytest.approx(
        ratio(make(target, [2, 1, 1, 1, 2]), target), rel=1e-9
    )
    U, values, Vt = torch.linalg.svd(target)
    best = values[0] * torch.outer(U[:, 0], Vt[0])
    assert torch.allclose(end_to_end(factors), best, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "hidden"),
    [
        (underestimated_minimizer, [1]),
        (underestimated_minimizer, [1, 1]),
        (underestimated_minimizer, [2, 2]),
        (overestimated_minimizer, [2, 1]),
        (overestimated_minimizer, [2, 1, 1]),
        (overestimated_minimizer, [1, 1, 2]),
        (overestimated_minimizer, [2, 2, 2]),
    ],
)
def test_widths_that_do_not_fit_are_refused(make, hidden):
    with pytest.raises(ValueError, match="widths: expected"):
        make(gaussian_matrix(3, 3, 0), hidden)


@pytest.mark.parametrize("make", [underestimated_minimizer, overestimated_minimizer])
def test_targets_and_gains_that_do_not_fit_are_refused(make):
    with pytest.raises(ValueError, match="target: expected rank 2"):
        make(matrix_with_singular_values(3, 3, [1], 0), [2, 1, 2])
    for gain in (0, 1, -0.1, math.nan):
        with pytest.raises(ValueError, match="gain: expected"):
            make(gaussian_matrix(3, 3, 0), [2, 1, 2], gain)
