"""Wide square networks by the low-rank iteration: cut short, compressed, nearly degenerate."""

import importlib
from functools import partial

import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.hessian import certificate, low_rank, low_rank_bases
from dmf_sharpness.hessian.certificate import direction_residual, low_rank_residual
from dmf_sharpness.minimizers.targets import (
    gaussian_matrix,
    matrix_with_singular_values,
    orthogonal_matrix,
)
from dmf_sharpness.network.chain import chain, pull_back_norm
from dmf_sharpness.network.curvature import apply_curvature, layer_grams, parameter_direction
from tests.helpers import random_point

WIDTHS = (70, 64, 66, 72)


def test_pairs_and_second_value_are_those_of_whole_matrices():
    factors = random_point(WIDTHS, 1)
    whole = dmf.sharpness(factors, method="lanczos")
    s = dmf.sharpness(factors, method="low-rank", tolerance=1e-6)
    assert s.converged
    assert s.value == pytest.approx(whole.value, rel=1e-12)
    assert s.gap == pytest.approx(whole.gap, rel=1e-3)
    overlap = float((s.eigenmatrix * whole.eigenmatrix).sum())
    assert overlap == pytest.approx(1, abs=1e-10)


def test_bases_that_are_full_are_compressed_and_it_still_converges(monkeypatch):
    factors = random_point((90, 90, 90, 90), 2)
    ranks = []
    compressed = low_rank._compressed
    monkeypatch.setattr(low_rank, "_compressed", lambda s, r: ranks.append(r) or compressed(s, r))
    pair = low_rank.largest_curvature(chain(factors), 1e-4, most_rank=60)
    assert ranks
    assert pair.relative_defect <= 1e-4
    assert max(pair.bases[1].shape) <= 60 + low_rank.MOST_GROWTH
    assert pair.value == pytest.approx(dmf.sharpness(factors, method="lanczos").value, rel=1e-7)


def test_auto_forms_no_whole_matrices_of_huge_networks(monkeypatch):
    """What has missed its tolerance is told, not computed again in memory that is not there."""
    factors = random_point((130, 130, 130), 3)
    factors = [*factors, factors[0]]
    assert dmf.sharpness(factors, tolerance=1e-300).method == "lanczos"
    module = importlib.import_module("dmf_sharpness.hessian.sharpness")
    monkeypatch.setattr(module, "LARGEST_WHOLE", 0)
    s = dmf.sharpness(factors, tolerance=1e-300)
    assert s.method == "low-rank"
    assert not s.converged
    assert s.residual > s.tolerance


def test_a_layer_that_outweighs_the_others():
    factors = random_point(WIDTHS, 4)
    for i in range(3):
        scaled = [100 * W if j == i else W for j, W in enumerate(factors)]
        s = dmf.sharpness(scaled, method="low-rank")
        assert s.converged
        assert s.value == pytest.approx(dmf.sharpness(scaled, method="lanczos").value, rel=1e-8)


def test_a_cluster_at_the_top_of_a_wide_balanced_minimizer():
    """Singular values closer than the tolerance: the value is that of the largest all the same."""
    target = matrix_with_singular_values(110, 110, [2, 2 - 2e-6, 2 - 4e-6, *[0.5] * 40], 5)
    factors = dmf.balanced_minimizer(target, [110, 110], 5)
    s = dmf.sharpness(factors, method="low-rank")
    assert s.converged
    assert s.value == pytest.approx(float(dmf.flat_sharpness(target, 3)), rel=1e-9)


def test_factors_with_one_eigenvalue_only():
    s = dmf.sharpness([orthogonal_matrix(100, k) for k in range(3)], method="low-rank")
    assert s.value == pytest.approx(6, rel=1e-12)
    assert s.gap == pytest.approx(0, abs=1e-6)


def test_norm_of_what_is_pulled_back():
    factors = random_point((9, 7, 8, 6), 6)
    P, Q = gaussian_matrix(6, 3, 1), gaussian_matrix(9, 3, 2)
    directions = parameter_direction(factors, P @ Q.mT)
    L_1 = factors[2] @ factors[1]
    scale = torch.linalg.vector_norm(L_1.mT @ P @ Q.mT) / torch.linalg.vector_norm(directions[0])
    assert float(pull_back_norm(chain(factors), P, Q)) == pytest.approx(float(scale), rel=1e-12)


def test_auto_goes_on_with_whole_matrices_where_the_columns_do_not_suffice(monkeypatch):
    factors = random_point((130, 130, 130, 130), 5)
    module = importlib.import_module("dmf_sharpness.hessian.iterative")
    cut_short = partial(low_rank.largest_curvature, most_steps=2)
    monkeypatch.setattr(module, "largest_curvature", cut_short)
    assert not dmf.sharpness(factors, method="low-rank").converged
    s = dmf.sharpness(factors)
    assert s.method == "lanczos"
    assert s.converged
    assert s.value == pytest.approx(dmf.sharpness(factors, method="lanczos").value, rel=1e-9)


def test_what_leaves_on_both_sides_at_once_is_taken_in(monkeypatch):
    """Bases that were left too early: only the full defect shows it."""
    monkeypatch.setattr(low_rank, "WITHIN", 1e3)
    factors = random_point((60, 60, 60, 60), 6)
    pair = low_rank.largest_curvature(chain(factors), 1e-6)
    assert pair.relative_defect <= 1e-6


def test_a_smaller_eigenvalue_is_not_taken_for_the_largest(monkeypatch):
    """Two blocks that know nothing of each other; until it looks again, the search sees the lesser one."""
    factors = [torch.diag(torch.tensor([1.0] * 4 + [2.0] * 4)).double() for _ in range(3)]
    lesser = torch.zeros(8, 8, dtype=torch.float64)
    lesser[0, 0] = 1
    looked = []
    ritz = low_rank._ritz

    def misled(left, right, start, tolerance, known, *krylov):
        looked.append(known is not None)
        if any(looked):
            return ritz(left, right, start, tolerance, known, *krylov)
        return 6.0, left.U.mT @ lesser @ right.U

    monkeypatch.setattr(low_rank, "_ritz", misled)
    assert low_rank.largest_curvature(chain(factors), 1e-5).value == pytest.approx(96)
    assert looked[0] is False


@pytest.mark.parametrize("combined", [60, 24])
def test_random_combinations_keep_the_norm_of_what_leaves(combined, monkeypatch):
    """With all columns the norm is exact; from 24 combinations it is an estimate."""
    monkeypatch.setattr(low_rank_bases, "COMBINED", combined)
    layers = chain(random_point((90, 90, 90), 8))
    U, V = (torch.linalg.qr(gaussian_matrix(90, 60, k))[0] for k in (1, 2))
    left, right = (
        low_rank_bases.basis_of(layers, U),
        low_rank_bases.basis_of(layers.transposed(), V),
    )
    Z, generator = gaussian_matrix(60, 60, 3), torch.Generator().manual_seed(4)
    _, sizes = low_rank_bases.leaving_directions(left, Z, right.grams.flip(0), 1.0, generator)
    image = apply_curvature(*layer_grams(layers.layers), U @ Z @ V.mT) @ V
    outside = image - U @ (U.mT @ image)
    expected = float(torch.linalg.matrix_norm(outside))
    assert float(sizes.norm()) == pytest.approx(expected, rel=1e-12 if combined == 60 else 0.2)


def test_the_certificate_bounds_what_it_does_not_sweep(monkeypatch):
    factors = random_point((40, 40, 40), 7)
    P, Q = torch.linalg.qr(gaussian_matrix(40, 40, 1))[0], gaussian_matrix(40, 40, 2)
    P = P * torch.logspace(0, -3, 40, dtype=torch.float64)
    value = dmf.sharpness(factors).value
    exact = low_rank_residual(factors, P, Q, value)
    monkeypatch.setattr(certificate, "SWEPT_COLUMNS", 1)
    monkeypatch.setattr(certificate, "TAIL", 0.3)
    bound = low_rank_residual(factors, P, Q, value)
    assert exact < bound < 1.5 * exact


@pytest.mark.parametrize("margin", [certificate.PROBED_MARGIN, 1e3])
def test_a_huge_network_has_a_residual_that_is_bounded_by_random_directions(margin, monkeypatch):
    """Where the bound is beyond the tolerance, as with a margin of 1,000, the defect is computed."""
    computed = []
    whole = certificate.defect_low_rank
    monkeypatch.setattr(low_rank_bases, "HUGE_LAYER", 1000)
    monkeypatch.setattr(certificate, "PROBED_MARGIN", margin)
    monkeypatch.setattr(
        certificate, "defect_low_rank", lambda *given: computed.append(1) or whole(*given)
    )
    factors = random_point((150, 150, 150), 9)
    s = dmf.sharpness(factors, method="low-rank", tolerance=1e-4)
    assert s.converged
    assert bool(computed) == (margin == 1e3)
    exact = dmf.sharpness(factors, method="lanczos", tolerance=1e-12)
    assert s.value == pytest.approx(exact.value, rel=1e-7)
    true = direction_residual(factors, s.eigenvector, factors[0].new_tensor(s.value))
    assert true <= s.residual * (1 + 1e-9)


def test_compression_keeps_the_pair_and_the_known_pair():
    """Pairs of rank 3 within bases of 12 directions fit into bases of 8, to the last digits."""
    generator = torch.Generator().manual_seed(5)
    layers = chain(random_point(WIDTHS, 6))
    columns = [
        torch.linalg.qr(torch.randn(size, 12, generator=generator, dtype=torch.float64))[0]
        for size in layers.shape
    ]
    left = low_rank_bases.basis_of(layers, columns[0])
    right = low_rank_bases.basis_of(layers.transposed(), columns[1])
    first, second = (
        torch.randn(12, 3, generator=generator, dtype=torch.float64)
        @ torch.randn(3, 12, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    search = low_rank._Search(left, right, 2.0, second, 0.1, (3.0, first), 4)
    small = low_rank._compressed(search, 8)
    assert (small.left.size, small.right.size) == (8, 8)
    assert small.known is not None
    assert (small.value, small.known[0], small.steps) == (2.0, 3.0, 4)
    for Z, given in ((small.Z, second), (small.known[1], first)):
        there = small.left.U @ Z @ small.right.U.mT
        torch.testing.assert_close(there, left.U @ given @ right.U.mT, rtol=0, atol=1e-12)
