"""The least trace of the Hessian, and the sharpness and spectrum where it is attained."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.targets import (
    gaussian_matrix,
    matrix_with_singular_values,
    orthogonal_matrix,
)
from dmf_sharpness.network.trace import flat_trace, trace_flat_spectrum
from dmf_sharpness.oracles import dense_spectrum

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(SHAPES, st.integers(2, 6), st.integers(0, 999), st.floats(0.1, 1))
def test_no_minimizer_has_a_smaller_trace(shape, depth, seed, spread):
    target = gaussian_matrix(*shape, seed)
    hidden = [min(shape) + (seed + i) % 3 for i in range(depth - 1)]
    factors = dmf.random_minimizer(target, hidden, seed, spread)
    trace = float(dense_spectrum(factors, target).sum())
    assert trace >= flat_trace(target, depth) * (1 - 1e-12)


@pytest.mark.parametrize(
    ("widths", "seed", "expected"),
    [
        # Worked out by hand: depth 2, (√(d_L/d_0) + √(d_0/d_L))/2, whatever the target.
        ((2, 3, 3), 0, (math.sqrt(2 / 3) + math.sqrt(3 / 2)) / 2),
        ((1, 2, 4), 5, (2 + 1 / 2) / 2),
        ((3, 3, 3), 1, 1.0),
        # Scalars.
        ((1, 2, 2, 1), 2, 1.0),
    ],
)
def test_ratios_that_are_known(widths, seed, expected):
    target = gaussian_matrix(widths[-1], widths[0], seed)
    assert dmf.trace_flat_ratio(target, len(widths) - 1) == pytest.approx(expected, rel=1e-14)


@given(SHAPES, st.integers(2, 7), st.integers(0, 999))
def test_it_is_one_only_where_the_two_notions_agree(shape, depth, seed):
    target = gaussian_matrix(*shape, seed)
    ratio = dmf.trace_flat_ratio(target, depth)
    agree = shape == (1, 1) or (depth == 2 and shape[0] == shape[1])
    assert (abs(ratio - 1) < 1e-13) if agree else ratio > 1 + 1e-7


@given(st.integers(1, 5), st.integers(2, 7), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_it_is_one_for_multiples_of_orthogonal_matrices(size, depth, scale, seed):
    ratio = dmf.trace_flat_ratio(scale * orthogonal_matrix(size, seed), depth)
    assert ratio == pytest.approx(1, rel=1e-13)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_ratio_does_not_depend_on_the_scale(scale):
    target = gaussian_matrix(3, 2, 0)
    expected = dmf.trace_flat_ratio(target, 4)
    assert dmf.trace_flat_ratio(scale * target, 4) == pytest.approx(expected, rel=1e-13)


def test_the_spectrum_has_the_least_trace_and_the_ratio():
    target = matrix_with_singular_values(4, 3, [3, 1], 0)
    spectrum = trace_flat_spectrum(target, 5)
    assert len(spectrum) == 12
    assert float(spectrum.sum()) == pytest.approx(flat_trace(target, 5), rel=1e-13)
    ratio = float(spectrum[0]) / dmf.flat_sharpness(target, 5)
    assert ratio == pytest.approx(dmf.trace_flat_ratio(target, 5), rel=1e-13)


@pytest.mark.parametrize(
    ("target", "depth", "message"),
    [
        (torch.zeros(2, 2, dtype=torch.float64), 3, "target: expected a matrix that is not zero"),
        (torch.zeros(2, 0, dtype=torch.float64), 3, "target: expected"),
        (torch.ones(2, dtype=torch.float64), 3, "target: expected"),
        (torch.ones(2, 2, dtype=torch.float64), 1, "depth: expected"),
    ],
)
def test_what_has_no_ratio_is_refused(target, depth, message):
    with pytest.raises(ValueError, match=message):
        dmf.trace_flat_ratio(target, depth)
