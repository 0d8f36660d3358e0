import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.flat import (
    equal_flat_minimizer,
    flatness_margin,
    joined,
    path_defect,
    products_margin,
    rest_path,
    unequal_flat_minimizer,
)
from dmf_sharpness.minimizers.targets import gaussian_matrix, matrix_with_singular_values
from dmf_sharpness.network.balance import relative_products
from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.oracles import dense_spectrum
from tests.helpers import networks, random_problem


@given(network=networks(), seed=st.integers(0, 999))
def test_equal_products_are_flat_by_the_dense_hessian(network, seed):
    target = gaussian_matrix(network[-1], network[0], [seed, 3])
    factors = equal_flat_minimizer(target, network[1:-1], seed)
    assert float((relative_products(factors) - 1).abs().max()) < 1e-12
    least = dmf.flat_sharpness(target, len(network) - 1)
    assert float(dense_spectrum(factors, target)[0]) == pytest.approx(least, rel=1e-12)
    assert path_defect(factors) < 1e-11


@given(network=networks(), seed=st.integers(0, 999), t=st.floats(1e-3, 2))
def test_flat_if_and_only_if_the_blocks_off_the_path_allow_it(network, seed, t):
    """``λ_max`` is that of the path or of the three blocks; products are equal up to their margin."""
    target = gaussian_matrix(network[-1], network[0], [seed, 4])
    path, s = rest_path(target, network[1:-1], seed, 1.0)
    rest = path(t)
    factors = joined(rest, target, s, np.random.default_rng(seed))
    least = dmf.flat_sharpness(target, len(network) - 1)
    allowed = flatness_margin(rest, s)
    top = float(dense_spectrum(factors, target)[0])
    assert top == pytest.approx(least * max(1.0, allowed), rel=1e-9)
    equal = products_margin(rest, s)
    products = relative_products(factors)
    assert (equal <= 1 + 1e-9) == (float((products - 1).abs().max()) < 1e-8)
    if len(network) == 3:  # at depth 2 the two conditions are one
        assert (equal <= 1) == (allowed <= 1) or abs(equal - 1) < 1e-9


@pytest.mark.parametrize("network", [(2, 4, 4, 3), (1, 3, 3, 2), (3, 4, 5, 4, 2), (2, *[3] * 6, 2)])
@given(seed=st.integers(0, 999))
def test_flat_without_equal_products_from_three_matrix_factors_on(network, seed):
    target = gaussian_matrix(network[-1], network[0], [seed, 5])
    if min(target.shape) > 1:
        values = torch.linalg.svdvals(target)
        target = matrix_with_singular_values(
            *target.shape, [float(values[0]), 0.5 * float(values[0])], seed
        )
    factors = unequal_flat_minimizer(target, network[1:-1], seed)
    assert float((relative_products(factors) - 1).abs().max()) > 1e-8
    least = dmf.flat_sharpness(target, len(network) - 1)
    assert float(dense_spectrum(factors, target)[0]) == pytest.approx(least, rel=1e-12)
    assert path_defect(factors) < 1e-11


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0], [2.0, 1.0]])
def test_targets_of_low_rank_and_of_equal_singular_values(values):
    target = matrix_with_singular_values(3, 4, values, 1)
    for seed in range(5):
        factors = equal_flat_minimizer(target, [3, 4], seed)
        assert float((end_to_end(factors) - target).norm()) < 1e-12 * float(target.norm())
        assert dmf.is_flat(factors, rtol=1e-12)


def diagonal(*entries):
    return torch.diag(torch.tensor(entries, dtype=torch.float64))


def test_the_defect_of_the_top_path_by_hand():
    # The target is diag(4, 1), so s = 2. The layers share their vectors, but have other norms.
    assert path_defect([diagonal(2, 1), diagonal(2, 1)]) < 1e-15
    assert path_defect([diagonal(3, 1), diagonal(4 / 3, 1)]) == pytest.approx(1 / 2, rel=1e-14)
    assert path_defect([diagonal(1.5, 1), diagonal(8 / 3, 1)]) == pytest.approx(1 / 3, rel=1e-14)
    assert path_defect([diagonal(3.5, 1), diagonal(8 / 7, 1)]) == pytest.approx(3 / 4, rel=1e-14)
    # Every W_i q_{i−1} is 2 q_i, but W_2ᵀ q_2 = 2 (e_1 + 0.3 e_3): only the transpose shows it.
    W_1 = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    W_2 = torch.tensor([[2.0, 0.0, 0.6], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert path_defect([W_1, W_2]) == pytest.approx(0.3, rel=1e-14)
    # In the transposed network W_1 leads off the path, to q_1 ∝ e_1 + 0.3 e_3, and W_2ᵀ q_2 = 2 e_1.
    q_1 = torch.tensor([1.0, 0.0, 0.3]) / 1.09**0.5
    off = float(torch.linalg.vector_norm(torch.tensor([1.0, 0.0, 0.0]) - q_1))
    assert path_defect([W_2.mT, W_1.mT]) == pytest.approx(off, rel=1e-6)


@given(network=networks(), seed=st.integers(0, 999))
def test_images_on_the_path_deviate_no_more_than_their_preimages(network, seed):
    _, factors = random_problem(network, seed)
    values, vectors = torch.linalg.svd(end_to_end(factors))[1:]
    s, q, images = float(values[0]) ** (1 / len(factors)), vectors[0], []
    for W in factors:
        images.append(abs(float(torch.linalg.vector_norm(W @ q)) / s - 1))
        q = W @ q / torch.linalg.vector_norm(W @ q)
    assert max(images) <= path_defect(factors) + 1e-12


def test_other_minimizers_do_not_share_the_path():
    _, factors = random_problem((3, 5, 4, 2), 0)
    assert path_defect(factors) > 0.1


M = gaussian_matrix(3, 2, 0)
EYE = torch.eye(2, dtype=torch.float64)


@pytest.mark.parametrize("make", [equal_flat_minimizer, unequal_flat_minimizer])
@pytest.mark.parametrize(
    ("target", "hidden", "error", "message"),
    [
        (M, [3, 1], ValueError, r"widths: expected every hidden width to be at least 2.*\[3, 1\]"),
        (0 * M, [4, 4], ValueError, "target: expected a matrix that is not zero, got rank 0"),
        (M / 0, [4, 4], ValueError, "target: expected finite values, got NaN or Inf"),
        (
            M.float(),
            [4, 4],
            TypeError,
            "target: expected a tensor of torch.float64, got torch.float32",
        ),
    ],
)
def test_requests_that_cannot_be_met_are_refused(make, target, hidden, error, message):
    with pytest.raises(error, match=message):
        make(target, hidden, 0)


@pytest.mark.parametrize(
    ("target", "hidden", "message"),
    [
        (M, [3], "widths: expected at least two hidden widths"),
        (M[:1, :1], [3, 3], "target: expected more than one entry, got a scalar"),
        (EYE, [3, 3], "target: expected σ_2 < σ_1 and widths"),
    ],
)
def test_unequal_products_that_flatness_does_not_allow_are_refused(target, hidden, message):
    with pytest.raises(ValueError, match=message):
        unequal_flat_minimizer(target, hidden, 0)
