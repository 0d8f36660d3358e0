"""Flat minimizers without a dead unit whose Frobenius norms are far apart, and how far they can be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.live import flat_live_minimizer
from dmf_sharpness.minimizers.targets import matrix_with_singular_values
from dmf_sharpness.network.balance import frobenius_imbalance, relative_products
from dmf_sharpness.oracles import dense_spectrum


@given(
    depth=st.integers(3, 6),
    rank=st.integers(1, 3),
    share=st.floats(0.001, 1),
    extra=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    seed=st.integers(0, 999),
)
def test_flat_balanced_and_every_unit_used(depth, rank, share, extra, seed):
    values = [2.0, 2 * share**0.5, 2 * share][:1] if rank == 1 else [2.0] * (rank - 1) + [2 * share]
    target = matrix_with_singular_values(rank + extra[0], rank + extra[1], values, seed)
    factors = flat_live_minimizer(target, [rank] * (depth - 1), seed)
    least = dmf.flat_sharpness(target, depth)
    assert float(dense_spectrum(factors, target)[0]) == pytest.approx(least, rel=1e-12)
    assert float((relative_products(factors) - 1).abs().max()) < 1e-9
    for W in factors:  # no direction of a hidden layer is without an input or an output
        assert int(torch.linalg.matrix_rank(W, rtol=1e-9)) == rank
    if rank == 2:
        assert float(frobenius_imbalance(factors)) == pytest.approx(1 / share, rel=1e-9)


@given(values=st.lists(st.floats(0.05, 1), min_size=0, max_size=2), seed=st.integers(0, 999))
def test_at_depth_2_the_ratio_has_a_bound_that_is_attained(values, seed):
    values = [1.0, *values]
    rank = len(values)
    target = matrix_with_singular_values(rank + 1, rank, values, seed)
    most = rank**0.5 / float(torch.linalg.matrix_norm(target))
    factors = flat_live_minimizer(target, [rank], seed)
    assert dmf.is_flat(factors, rtol=1e-12)
    assert float(frobenius_imbalance(factors)) == pytest.approx(most, rel=1e-10)
    # Any other flat minimizer: singular values of W_1 between those that both norms allow.
    rng = torch.Generator().manual_seed(seed)
    low = torch.tensor(values, dtype=torch.float64)
    gains = low * low.reciprocal() ** torch.rand(rank, generator=rng, dtype=torch.float64)
    gains[0] = 1.0
    U, sigma, Vt = torch.linalg.svd(target, full_matrices=False)
    gains = gains.sort(descending=True).values
    gains = torch.maximum(gains, sigma)
    other = [gains[:, None] * Vt, U * (sigma / gains)]
    assert dmf.is_flat(other, rtol=1e-12)
    assert float(frobenius_imbalance(other)) <= most * (1 + 1e-12)


@given(share=st.floats(0.01, 0.9), gain=st.floats(0.05, 1), seed=st.integers(0, 99))
def test_the_inner_layer_of_a_flat_minimizer_has_a_bound_at_depth_3(share, gain, seed):
    """``‖W_2‖ ≤ (3/2) s σ_1/σ_r``; balanced ones reach two thirds of it."""
    low = (2 / 3) ** 0.5 * share
    b = low + gain * (share ** (1 / 3) - low)
    entries = (b, share / b**2, b)
    factors = [torch.diag(torch.tensor([1.0, e], dtype=torch.float64)) for e in entries]
    if dmf.is_flat(factors, rtol=1e-12):
        assert float(torch.linalg.matrix_norm(factors[1], ord=2)) <= 1.5 / share * (1 + 1e-9)


@pytest.mark.parametrize("hidden", [[3, 3], [2, 3], [2]])
def test_other_widths_are_refused(hidden):
    target = matrix_with_singular_values(3, 3, [1.0, 0.5], 0)
    if hidden == [2]:
        assert flat_live_minimizer(target, hidden, 0)
        return
    with pytest.raises(ValueError, match="widths: expected all hidden widths to be 2"):
        flat_live_minimizer(target, hidden, 0)
