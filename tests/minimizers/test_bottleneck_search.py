"""The search behind a bottleneck: its points are minimizers, and it goes where it is sent."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.bottleneck_search import bottlenecked_factors, extreme_ratio
from dmf_sharpness.minimizers.frames import best_approximation
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.oracles import dense_spectrum
from tests.helpers import random_point

WIDTHS = st.sampled_from(
    [(2, 1, 3), (3, 1, 2, 2), (2, 3, 1, 3), (3, 4, 2, 3, 3), (2, 2, 1, 4, 3, 2)]
)


@given(WIDTHS, st.integers(0, 999))
def test_any_factors_are_corrected_to_a_minimizer(widths, seed):
    target = gaussian_matrix(widths[-1], widths[0], seed)
    made = bottlenecked_factors(random_point(widths, seed), target)
    best = best_approximation(target, min(widths[1:-1]))
    assert float(torch.linalg.matrix_norm(end_to_end(made) - best)) < 1e-6
    again = bottlenecked_factors(made, target)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(made, again, strict=True))


@given(WIDTHS, st.integers(0, 99))
def test_a_minimizer_stays_what_it_is(widths, seed):
    target = gaussian_matrix(widths[-1], widths[0], seed)
    factors = dmf.bottlenecked_minimizer(target, widths[1:-1], seed)
    same = bottlenecked_factors(factors, target)
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(factors, same, strict=True))


@settings(max_examples=5)
@given(st.booleans(), st.integers(0, 20))
def test_the_search_goes_up_or_down(largest, seed):
    target = gaussian_matrix(2, 2, seed)
    start = dmf.bottlenecked_minimizer(target, [3, 1, 3], seed)
    search = extreme_ratio(start, target, largest, 20)
    dense = float(dense_spectrum(search.factors, target)[0])
    assert search.value == pytest.approx(dense / dmf.sharpness(search.factors).value, rel=1e-6)
    assert search.value >= search.start if largest else search.value <= search.start
    assert search.evaluations > 1


@pytest.mark.parametrize("hidden", [[2, 1], [1, 2], [3, 1, 2]])
def test_narrow_layers_beside_the_bottleneck_are_refused(hidden):
    target = gaussian_matrix(3, 3, 0)
    factors = dmf.bottlenecked_minimizer(target, hidden, 0)
    with pytest.raises(ValueError, match="factors: expected hidden widths of at least 3"):
        bottlenecked_factors(factors, target)
