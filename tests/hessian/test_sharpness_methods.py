"""The methods of the engine against each other, against oracles, and on what they must refuse."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.hessian.lanczos import top_eigenvectors
from dmf_sharpness.hessian.low_rank import largest_curvature
from dmf_sharpness.hessian.operator import curvature_operator, through_layers
from dmf_sharpness.minimizers.targets import (
    gaussian_matrix,
    matrix_with_singular_values,
    orthogonal_matrix,
)
from dmf_sharpness.network.chain import chain, leading_triplets
from dmf_sharpness.network.curvature import (
    apply_curvature,
    curvature_matrix,
    gram_root,
    layer_grams,
)
from dmf_sharpness.network.factors import end_to_end, flatten
from dmf_sharpness.oracles import dense_hessian
from tests.helpers import COMPILED, networks, random_point, random_problem

METHODS = [*COMPILED, "dense", "batched", "lanczos", "low-rank"]
SQUARE = [(8, 8, 8, 8), (12, 9, 14, 10), (20, 20, 20), (3, 30, 30, 5), (6, 7, 8, 7, 6, 5)]


def gram(size, rank, seed):
    X = gaussian_matrix(size, rank, seed)
    return X @ X.mT


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("widths", SQUARE)
@pytest.mark.parametrize("rank", [None, "full", 2])
def test_all_methods_agree_with_the_dense_hessian(method, widths, rank):
    factors = random_point(widths, 11)
    size = widths[0]
    G = None if rank is None else gram(size, size + 3 if rank == "full" else rank, 5)
    if rank is None:
        hessian = dense_hessian(factors, end_to_end(factors))
    else:
        X = torch.linalg.cholesky(G + 0 * G) if rank == "full" else gaussian_matrix(size, 2, 5)
        hessian = dense_hessian(factors, end_to_end(factors) @ X, X)
    oracle = torch.linalg.eigvalsh(hessian).flip(0)
    tolerance = 1e-8 if method == "low-rank" else None
    s = dmf.sharpness(factors, G, method=method, tolerance=tolerance)
    assert s.method == method
    assert s.converged
    assert s.residual <= s.tolerance
    assert s.value == pytest.approx(float(oracle[0]), rel=1e-12)
    assert s.gap == pytest.approx(float(oracle[0] - oracle[1]), rel=1e-4, abs=1e-5 * s.value)
    assert s.value <= s.upper_bound * (1 + 1e-12)
    v = flatten(s.eigenvector)
    assert float(v.norm()) == pytest.approx(1, abs=1e-9)
    defect = float((hessian @ v - s.value * v).norm()) / s.value
    assert defect <= s.tolerance
    # The certificate is that defect, not merely a bound on it.
    assert s.residual == pytest.approx(defect, rel=3e-3, abs=1e-13)


@given(networks(), st.integers(0, 99), st.sampled_from(METHODS))
def test_any_method_on_any_shape(widths, seed, method):
    factors = random_point(widths, seed)
    reference = dmf.sharpness(factors)
    s = dmf.sharpness(factors, method=method, tolerance=1e-8)
    assert s.converged
    assert s.value == pytest.approx(reference.value, rel=1e-11)


def test_orthogonal_factors_have_a_top_of_full_multiplicity():
    factors = [orthogonal_matrix(10, seed) for seed in range(3)]
    for method in METHODS:
        s = dmf.sharpness(factors, method=method, tolerance=1e-8)
        assert s.value == pytest.approx(6, rel=1e-13)
        assert s.gap == pytest.approx(0, abs=1e-5)
    values, vectors = dmf.hessian_eigenvectors(factors, count=3)
    assert values.tolist() == pytest.approx([6, 6, 6])
    assert vectors.shape == (3, 300)


@pytest.mark.parametrize("seed", range(5))
def test_near_degenerate_flat_minimizers(seed):
    """The two largest singular values 1e-7 apart: the hard case of iterative methods."""
    target = matrix_with_singular_values(8, 8, [2, 2 - 2e-7, 1, 0.5], seed)
    factors = dmf.balanced_minimizer(target, [9, 8], seed)
    for method in METHODS:
        tolerance = 1e-8 if method == "low-rank" else None
        s = dmf.sharpness(factors, method=method, tolerance=tolerance)
        assert s.converged
        error = abs(s.value / dmf.flat_sharpness(target, 3) - 1)
        # To rounding, or where it stops sooner to what its certificate says.
        assert error <= (s.residual + 1e-14 if method == "low-rank" else 1e-12)


def test_a_sharpness_known_in_advance():
    """Diagonal factors in hidden frames: the eigenvalues are sums of products of squares."""
    diagonals = [
        torch.rand(6, generator=torch.Generator().manual_seed(i)).double() for i in range(4)
    ]
    frames = [orthogonal_matrix(6, 10 + i) for i in range(5)]
    factors = [frames[i + 1] @ torch.diag(diagonals[i]) @ frames[i].mT for i in range(4)]
    squares = torch.stack(diagonals).square()
    known = torch.zeros(6, 6, dtype=torch.float64)
    for i in range(4):
        known += squares[i + 1 :].prod(0)[:, None] * squares[:i].prod(0)[None]
    expected = 2 * float(known.max())
    for method in METHODS:
        value = dmf.sharpness(factors, method=method, tolerance=1e-8).value
        assert value == pytest.approx(expected, rel=1e-12)


def test_wide_networks_against_lanczos_on_autograd_products():
    factors = random_point((6, 60, 60, 7), 3)
    target = end_to_end(factors)
    parameters = flatten(factors)
    sizes = [W.shape for W in factors]

    def loss(vector):
        product = None
        for W in vector.split([m * n for m, n in sizes]):
            W = W.reshape(sizes[0] if product is None else (-1, product.shape[0]))
            product = W if product is None else W @ product
        return (target - product).square().sum()

    def matvec(v):
        v = torch.from_numpy(np.ascontiguousarray(v))
        return torch.autograd.functional.hvp(loss, parameters, v.reshape(-1))[1].numpy()

    order = parameters.numel()
    operator = scipy.sparse.linalg.LinearOperator((order, order), matvec=matvec, dtype=float)
    oracle = scipy.sparse.linalg.eigsh(
        operator, k=1, which="LA", tol=1e-12, v0=np.ones(order), return_eigenvectors=False
    )
    assert dmf.sharpness(factors).value == pytest.approx(oracle[0], rel=1e-11)


def test_a_missed_tolerance_is_told():
    factors = random_point((40, 40, 40, 40), 4)
    pair = largest_curvature(chain(factors), 1e-12, most_steps=2)
    assert pair.relative_defect > 1e-12
    s = dmf.sharpness(factors, method="low-rank", tolerance=1e-300)
    assert not s.converged
    assert s.residual > s.tolerance
    assert s.value == pytest.approx(dmf.sharpness(factors, method="lanczos").value, rel=1e-9)
    for method in ("lanczos", "dense"):
        s = dmf.sharpness(
            factors if method == "lanczos" else random_point((4, 4, 4), 4),
            method=method,
            tolerance=1e-300,
        )
        assert not s.converged
        assert 0 < s.residual < 1e-12


def test_the_certificate_sees_a_wrong_value_and_a_wrong_vector():
    factors = random_point((5, 6, 6, 5), 6)
    s = dmf.sharpness(factors)
    from dmf_sharpness.hessian.certificate import eigenmatrix_residual, low_rank_residual

    identity = torch.eye(5, dtype=torch.float64)
    assert eigenmatrix_residual(factors, s.eigenmatrix, s.value) < 1e-13
    assert low_rank_residual(factors, identity, s.eigenmatrix.mT, s.value) < 1e-13
    wrong = s.value * 1.01
    assert eigenmatrix_residual(factors, s.eigenmatrix, wrong) == pytest.approx(0.01 / 1.01)
    assert eigenmatrix_residual(factors, gaussian_matrix(5, 5, 1), s.value) > 0.01
    assert low_rank_residual(factors, identity, gaussian_matrix(5, 5, 1), s.value) > 0.01


def test_lazy_parts_of_a_low_rank_result():
    factors = random_point((30, 25, 35, 28), 8)
    s = dmf.sharpness(factors, gram(30, 12, 3), method="low-rank", tolerance=1e-9)
    for U, (V, X) in zip(s.eigenvector, s.eigenvector_pairs, strict=True):
        torch.testing.assert_close(U, V @ X.mT)
    with pytest.raises(ValueError, match=r"method: expected 'low-rank', got '(compiled|dense)'"):
        _ = dmf.sharpness(random_point((3, 3, 3, 3), 1)).eigenvector_pairs
    with pytest.raises(dataclasses.FrozenInstanceError):
        s.value = 1.0


@pytest.mark.parametrize("method", ["lanczos", "low-rank", "batched", "dense"])
def test_batches_by_every_method(method):
    members = [random_point((7, 8, 9, 6), seed) for seed in range(6)]
    batch = [
        torch.stack(layer).reshape(2, 3, *layer[0].shape) for layer in zip(*members, strict=True)
    ]
    s = dmf.sharpness(batch, method=method, tolerance=1e-8)
    assert s.value.shape == s.residual.shape == s.converged.shape == s.gap.shape == (2, 3)
    assert bool(s.converged.all())
    for b, factors in enumerate(members):
        one = dmf.sharpness(factors, method="dense")
        assert float(s.value.reshape(-1)[b]) == pytest.approx(one.value, rel=1e-12)
        assert float(s.gap.reshape(-1)[b]) == pytest.approx(one.gap, rel=1e-4)
        assert float(s.upper_bound.reshape(-1)[b]) == pytest.approx(one.upper_bound, rel=1e-12)


@pytest.mark.parametrize("rank", [None, 4])
def test_trace_and_frobenius_norm(rank):
    factors = random_point((5, 7, 6, 4), 2)
    G = None if rank is None else gram(5, rank, 1)
    spectrum = dmf.hessian_spectrum(factors, G)
    assert dmf.hessian_trace(factors, G) == pytest.approx(float(spectrum.sum()), rel=1e-12)
    norm = float(spectrum.square().sum().sqrt())
    assert dmf.hessian_frobenius_norm(factors, G) == pytest.approx(norm, rel=1e-12)
    batch = [torch.stack([W, 2 * W]) for W in factors]
    assert dmf.hessian_trace(batch, G)[0] == pytest.approx(dmf.hessian_trace(factors, G))


def test_top_pairs_by_iteration_find_multiple_eigenvalues():
    values = torch.tensor([5.0, 5, 5, 3, 3, 2] + [1.0] * 54, dtype=torch.float64)
    Q = orthogonal_matrix(60, 1)
    matrix = (Q * values) @ Q.mT
    start = gaussian_matrix(60, 1, 2)
    found, vectors = top_eigenvectors(lambda y: matrix @ y, start, 5, 1e-12)
    assert found.tolist() == pytest.approx([5, 5, 5, 3, 3], rel=1e-11)
    overlaps = vectors.flatten(1) @ vectors.flatten(1).mT
    torch.testing.assert_close(overlaps, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-7)


def test_multiple_eigenvalues_are_found_at_a_loose_tolerance():
    """Where ARPACK by itself ends with two of the three."""
    values = torch.cat([torch.full((3,), 2.0), torch.linspace(0, 1, 57)]).double()
    found, _ = top_eigenvectors(lambda y: values * y, gaussian_matrix(60, 1, 0)[:, 0], 3, 1e-3)
    assert found.tolist() == pytest.approx([2, 2, 2], rel=1e-5)


def test_top_pairs_of_a_network_too_large_for_a_matrix():
    factors = random_point((40, 45, 50, 42), 5)
    values, vectors = dmf.hessian_eigenvectors(factors, count=4)
    torch.testing.assert_close(values, dmf.hessian_spectrum(factors)[:4])
    torch.testing.assert_close(vectors @ vectors.mT, torch.eye(4).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("columns", [3, 8, 12])
def test_leading_triplets_are_those_of_the_svd(columns):
    P, Q = gaussian_matrix(9, columns, 0), gaussian_matrix(7, columns, 1)
    U, values, V = leading_triplets(P, Q, len)
    torch.testing.assert_close((U * values) @ V.mT, P @ Q.mT)
    torch.testing.assert_close(U.mT @ U, torch.eye(len(values), dtype=torch.float64))
    first, again, _ = leading_triplets(P, Q, lambda values: int((values > values[1]).sum()))
    torch.testing.assert_close(first, U[:, :1])
    torch.testing.assert_close(again, values)


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_a_zero_minimizer_has_no_curvature(method):
    factors = [torch.zeros(6, 5).double(), torch.zeros(7, 6).double(), torch.zeros(5, 7).double()]
    s = dmf.sharpness(factors, method=method)
    assert s.value == 0
    assert s.residual == 0
    assert s.converged


def test_bad_requests():
    factors = random_point((3, 4, 2), 0)
    with pytest.raises(ValueError, match=r"method: expected one of .*, got 'magic'"):
        dmf.sharpness(factors, method="magic")
    with pytest.raises(ValueError, match=r"tolerance: expected .*above 0, got 0"):
        dmf.sharpness(factors, tolerance=0)
    with pytest.raises(ValueError, match=r"method: expected one that fits .*, got 'scalar'"):
        dmf.sharpness(factors, method="scalar")
    with pytest.raises(ValueError, match=r"count: expected .*at least 1, got 0"):
        dmf.hessian_eigenvectors(factors, count=0)
    with pytest.raises(ValueError, match="input_gram: expected finite values"):
        dmf.sharpness(factors, torch.full((3, 3), torch.nan).double())
    with pytest.raises(ValueError, match="input_gram: expected a matrix that is not zero"):
        dmf.sharpness(factors, torch.zeros(3, 3).double())
    with pytest.raises(TypeError, match="input_gram: expected a tensor, got an array"):
        dmf.sharpness(factors, np.eye(3))
    with pytest.raises(
        TypeError, match=r"input_gram: expected a tensor of torch.float64, got torch.float32"
    ):
        dmf.sharpness(factors, torch.eye(3))


def test_target_is_checked():
    target, factors = random_problem((3, 4, 4, 2), 1)
    assert dmf.sharpness(factors, target=target).converged
    with pytest.raises(
        ValueError, match=r"target: expected factors whose product fits .*gradient norm"
    ):
        dmf.sharpness(factors, target=target + 1e-3)
    with pytest.raises(ValueError, match=r"target: expected shape \(2, 3\), got \(3, 2\)"):
        dmf.sharpness(factors, target=target.mT)
    with pytest.raises(
        TypeError, match=r"target: expected a tensor of torch.float64, got torch.float32"
    ):
        dmf.sharpness(factors, target=target.float())
    with pytest.raises(ValueError, match="target: expected finite values"):
        dmf.sharpness(factors, target=target * torch.nan)


def test_data_with_an_unseen_direction_need_not_fit_there():
    """Only what the inputs show counts: a target changed where they do not reach is still fitted."""
    X = gaussian_matrix(4, 2, 1)
    factors = random_point((4, 5, 5, 3), 2)
    unseen = torch.linalg.svd(X)[0][:, 2:]
    target = end_to_end(factors) + gaussian_matrix(3, 2, 3) @ unseen.mT
    assert dmf.sharpness(factors, X @ X.mT, target=target).converged
    with pytest.raises(ValueError, match="target: expected factors whose product fits"):
        dmf.sharpness(factors, target=target)


@pytest.mark.parametrize("widths", [(9, 6, 7, 3), (3, 6, 7, 9), (5, 5, 5)])
@pytest.mark.parametrize("data", [False, True])
def test_both_ways_to_apply_the_operator(widths, data):
    factors = random_point(widths, 2)
    root = gram_root(gram(widths[0], 4, 1)) if data else None
    Y = gaussian_matrix(widths[-1], widths[0], 3)
    expected = curvature_matrix(factors, root) @ Y.mT.reshape(-1)
    by_layers = through_layers(chain(factors, root))(Y)
    by_grams = apply_curvature(*layer_grams(factors, root), Y)
    torch.testing.assert_close(by_layers.mT.reshape(-1), expected)
    torch.testing.assert_close(by_grams.mT.reshape(-1), expected)
    torch.testing.assert_close(curvature_operator(factors, root)(Y), by_layers)
