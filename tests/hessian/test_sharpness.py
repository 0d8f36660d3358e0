import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.hessian.spectrum import hessian_eigenvectors, operator_spectrum
from dmf_sharpness.minimizers.targets import gaussian_matrix, orthogonal_matrix, regression
from dmf_sharpness.network.factors import end_to_end, flatten
from dmf_sharpness.oracles import dense_hessian, dense_spectrum
from tests.helpers import NETWORKS, networks, random_problem


def diagonal(*entries):
    return torch.diag(torch.tensor(entries, dtype=torch.float64))


def rotation(degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


@pytest.mark.parametrize("network", NETWORKS)
def test_value_spectrum_and_vector_are_those_of_the_dense_hessian(network):
    target, factors = random_problem(network, 1)
    hessian = dense_hessian(factors, target)
    oracle = torch.linalg.eigvalsh(hessian).flip(0)
    s = dmf.sharpness(factors)
    assert s.value == pytest.approx(float(oracle[0]), rel=1e-13)
    assert s.gap == pytest.approx(float(oracle[0] - oracle[1]), rel=1e-10, abs=1e-12)
    assert s.residual < 1e-13
    spectrum = dmf.hessian_spectrum(factors)
    torch.testing.assert_close(spectrum, oracle[: len(spectrum)], rtol=0, atol=1e-12 * s.value)
    assert oracle[len(spectrum) :].abs().max() < 1e-12 * s.value
    v = flatten(s.eigenvector)
    assert float(v.norm()) == pytest.approx(1, abs=1e-13)
    assert float((hessian @ v - s.value * v).norm()) < 1e-12 * s.value


@given(networks(), st.integers(0, 999))
def test_sharpness_of_any_minimizer_is_the_oracles(network, seed):
    target, factors = random_problem(network, seed)
    oracle = dense_spectrum(factors, target)
    assert dmf.sharpness(factors).value == pytest.approx(float(oracle[0]), rel=1e-12)
    # At least as sharp as the flattest.
    assert dmf.sharpness(factors).value >= dmf.flat_sharpness(target, len(factors)) * (1 - 1e-12)


@given(networks(), st.integers(0, 999))
def test_rotating_hidden_layers_changes_nothing(network, seed):
    _, factors = random_problem(network, seed)
    rotated = list(factors)
    for i, width in enumerate(network[1:-1]):
        Q = orthogonal_matrix(width, [seed, i])
        rotated[i], rotated[i + 1] = Q @ rotated[i], rotated[i + 1] @ Q.mT
    assert dmf.sharpness(rotated).value == pytest.approx(dmf.sharpness(factors).value, rel=1e-12)


@given(networks(), st.integers(0, 999), st.floats(0.1, 10))
def test_scaling_and_transposition(network, seed, t):
    _, factors = random_problem(network, seed)
    value, depth = dmf.sharpness(factors).value, len(factors)
    scaled = dmf.sharpness([t * W for W in factors]).value
    assert scaled == pytest.approx(t ** (2 * depth - 2) * value, rel=1e-12)
    transposed = dmf.sharpness([W.mT for W in reversed(factors)]).value
    assert transposed == pytest.approx(value, rel=1e-12)


def test_paper_depth_2_and_scalar_formulas():
    _, (W_1, W_2) = random_problem((4, 8, 4), 3)
    norms = torch.linalg.matrix_norm(W_1, ord=2) ** 2 + torch.linalg.matrix_norm(W_2, ord=2) ** 2
    assert dmf.sharpness([W_1, W_2]).value == pytest.approx(2 * float(norms), rel=1e-13)
    _, factors = random_problem((1, *[3] * 14, 1), 4)
    products = dmf.spectral_products(factors)
    assert dmf.sharpness(factors).value == pytest.approx(2 * float((products**2).sum()), rel=1e-13)


def test_depth_2_excess_is_the_exact_parabola():
    target, (W_1, W_2) = random_problem((4, 8, 4), 5)
    a, b, m = (float(torch.linalg.matrix_norm(X, ord=2)) for X in (W_1, W_2, target))
    excess = dmf.sharpness([W_1, W_2]).value - dmf.flat_sharpness(target, 2)
    assert excess == pytest.approx(2 * (a - b) ** 2 + 4 * (a * b - m), rel=1e-12)


def test_equal_products_of_another_value_are_not_flat():
    e_1 = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    factors = [e_1, rotation(60), e_1.mT]
    assert dmf.spectral_products(factors).tolist() == pytest.approx([1, 1, 1])
    assert dmf.sharpness(factors).value == pytest.approx(6)
    assert dmf.flat_sharpness(end_to_end(factors), 3) == pytest.approx(2.381, abs=5e-4)
    assert not dmf.is_flat(factors)
    pair = [e_1, (rotation(60) @ e_1).mT]
    assert dmf.sharpness(pair).value == pytest.approx(4)
    assert dmf.flat_sharpness(end_to_end(pair), 2) == pytest.approx(2)


def test_balance_is_not_necessary_for_three_matrices():
    s = 1.3
    factors = [diagonal(s, 0.3), diagonal(s, 0.05), diagonal(s, 2**0.5 * s * 0.999)]
    assert dmf.is_flat(factors)
    assert dmf.sharpness(factors).value == pytest.approx(17.1366, abs=5e-5)
    assert dmf.spectral_products(factors).tolist() == pytest.approx([1.690, 2.388, 1.690], abs=5e-4)


def test_flat_minimizer_without_frobenius_balance():
    factors = [diagonal(2, 0.5), diagonal(2, 2)]
    assert dmf.sharpness(factors).value == pytest.approx(16, rel=1e-14)
    assert dmf.is_flat(factors)


@pytest.mark.parametrize("rank", [3, 2])
def test_data_with_a_loss_that_is_not_zero(rank):
    inputs = gaussian_matrix(3, rank, 1) @ gaussian_matrix(rank, 30, 2)
    outputs = gaussian_matrix(2, 30, 3)
    data = regression(inputs, outputs)
    assert data.input_root.shape == (3, rank)
    assert data.least_loss > 1
    for seed in range(3):
        factors = dmf.random_minimizer(data.solution, [4, 5], seed)
        oracle = dense_spectrum(factors, outputs, inputs)
        s = dmf.sharpness(factors, data.input_gram)
        assert s.value == pytest.approx(float(oracle[0]), rel=1e-12)
        assert s.residual < 1e-12
        spectrum = dmf.hessian_spectrum(factors, data.input_gram)
        assert len(spectrum) == 2 * rank
        torch.testing.assert_close(spectrum, oracle[: 2 * rank], rtol=0, atol=1e-11 * s.value)


def test_bottleneck_makes_it_a_lower_bound_only():
    """A hidden layer narrower than the target's rank leaves a residual that is not orthogonal."""
    target = gaussian_matrix(5, 4, 7)
    U, values, Vt = torch.linalg.svd(target, full_matrices=False)
    best = values[0] * U[:, :1] @ Vt[:1]
    factors = dmf.random_minimizer(best, [5, 1], 8)
    oracle = float(dense_spectrum(factors, target)[0])
    assert dmf.sharpness(factors).value < oracle * (1 - 1e-6)


def test_eigenvectors_are_orthonormal_and_the_hessians():
    target, factors = random_problem((3, 5, 4, 3), 9)
    hessian = dense_hessian(factors, target)
    eigenvalues, vectors = hessian_eigenvectors(factors)
    identity = torch.eye(len(vectors), dtype=torch.float64)
    torch.testing.assert_close(vectors @ vectors.mT, identity, rtol=0, atol=1e-11)
    expected = eigenvalues[:, None] * vectors
    torch.testing.assert_close(vectors @ hessian, expected, rtol=0, atol=1e-11 * eigenvalues[0])


def test_no_eigenvector_of_the_kernel_is_listed():
    """A target of rank 1 at depth 3: of the operator's 9 eigenvalues not all are positive."""
    factors = dmf.balanced_minimizer(gaussian_matrix(3, 1, 1) @ gaussian_matrix(1, 3, 2), [3, 3], 3)
    oracle = torch.linalg.eigvalsh(dense_hessian(factors, end_to_end(factors))).flip(0)
    nonzero = int((oracle > 1e-10 * oracle[0]).sum())
    assert nonzero < 9
    eigenvalues, vectors = hessian_eigenvectors(factors)
    assert len(eigenvalues) == len(vectors) == nonzero


def test_a_batch_is_its_members():
    members = [random_problem((4, 8, 8, 4), seed)[1] for seed in range(4)]
    batch = [torch.stack(layer) for layer in zip(*members, strict=True)]
    s = dmf.sharpness(batch)
    for b, factors in enumerate(members):
        one = dmf.sharpness(factors)
        assert float(s.value[b]) == pytest.approx(one.value, rel=1e-13)
        torch.testing.assert_close(s.eigenmatrix[b], one.eigenmatrix, rtol=0, atol=1e-10)
        spectrum = dmf.hessian_spectrum(factors)
        torch.testing.assert_close(operator_spectrum(batch)[b], spectrum, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="expected a single minimizer, got a batch"):
        dmf.hessian_spectrum(batch)


def test_depth_1_is_defined():
    W = gaussian_matrix(2, 3, 0)
    assert dmf.sharpness([W]).value == pytest.approx(2)
    assert dmf.flat_sharpness(W, 1) == pytest.approx(2)


@pytest.mark.parametrize(
    ("gram", "message"),
    [
        (torch.ones(2, 3, dtype=torch.float64), r"expected shape \(3, 3\), got \(2, 3\)"),
        (torch.eye(2, dtype=torch.float64), r"expected shape \(3, 3\), got \(2, 2\)"),
        (torch.ones(3, 3, dtype=torch.float64).triu(), "expected a symmetric matrix"),
        (-torch.eye(3, dtype=torch.float64), "expected a positive semidefinite matrix"),
    ],
)
def test_what_is_no_gram_matrix_is_refused(gram, message):
    _, factors = random_problem((3, 4, 2), 0)
    with pytest.raises(ValueError, match=f"input_gram: {message}"):
        dmf.sharpness(factors, gram)
