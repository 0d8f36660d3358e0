"""The exact spectrum behind a bottleneck, against autograd's Hessian."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.hessian.bottleneck import bottlenecked_spectrum, residual_weight
from dmf_sharpness.minimizers.targets import gaussian_matrix, matrix_with_singular_values
from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.oracles import dense_spectrum


def nonzero(values):
    """The eigenvalues above rounding, relative to the largest."""
    return values[values > 1e-10 * values[0]] / values[0]


@given(st.integers(1, 2), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 999))
def test_the_spectrum_is_that_of_the_dense_hessian(k, extra, seed):
    hidden = [k + e for e in extra]
    hidden.insert(seed % (len(hidden) + 1), k)
    target = gaussian_matrix(4, 3, seed)
    factors = dmf.bottlenecked_minimizer(target, hidden, seed)
    spectrum, dense = bottlenecked_spectrum(factors, target), dense_spectrum(factors, target)
    assert len(spectrum) == 12
    assert torch.allclose(nonzero(spectrum), nonzero(dense), rtol=0, atol=1e-11)
    assert float(spectrum[0] / dense[0]) == pytest.approx(1, abs=1e-11)


@given(st.integers(0, 999))
def test_equal_singular_values_on_both_sides_of_the_cut(seed):
    target = matrix_with_singular_values(3, 3, [2, 1, 1], seed)
    factors = dmf.bottlenecked_minimizer(target, [3, 2, 4], seed)
    spectrum, dense = bottlenecked_spectrum(factors, target), dense_spectrum(factors, target)
    assert float((spectrum - dense[:9]).abs().max() / dense[0]) < 1e-7


@given(st.integers(0, 999))
def test_without_a_bottleneck_it_is_the_spectrum_that_is_known(seed):
    target = gaussian_matrix(2, 3, seed)
    factors = dmf.random_minimizer(target, [3, 2], seed)
    known = torch.as_tensor(dmf.hessian_spectrum(factors))
    assert torch.allclose(nonzero(bottlenecked_spectrum(factors, target)), nonzero(known))


def test_the_weight_has_the_eigenvalues_that_are_derived():
    """Pairs ``1 ± σ_b/σ_a``, and ones."""
    target = matrix_with_singular_values(4, 3, [4, 2, 1], 3)
    factors = dmf.bottlenecked_minimizer(target, [3, 2], 1)
    found = torch.linalg.eigvalsh(residual_weight(end_to_end(factors), target))
    pairs = [1 / 4, 1 / 2]
    expected = sorted([1 - q for q in pairs] + [1 + q for q in pairs] + [1.0] * 8)
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64))


def test_the_weight_of_the_residual_is_symmetric_to_the_last_bit():
    target = gaussian_matrix(4, 3, 1)
    product = end_to_end(dmf.bottlenecked_minimizer(target, [2, 4], 1))
    weight = residual_weight(product, target)
    assert torch.equal(weight, weight.mT)
