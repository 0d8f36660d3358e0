"""Random minimizers come from all of their set: the steps of the argument in ``random_minimizer``."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.frames import unseen_part
from dmf_sharpness.minimizers.targets import gaussian_matrix, matrix_with_singular_values
from dmf_sharpness.network.factors import end_to_end, left_factors, right_factors

CASES = [  # widths and the target's rank
    ((3, 3, 3), 3),
    ((2, 6, 3), 2),
    ((4, 3, 3), 2),
    ((2, 4, 3, 3), 2),
    ((3, 2, 4, 3), 2),
    ((3, 4, 4, 4), 1),
    ((1, 3, 4, 1), 1),
    ((2, 3, 3, 3, 2), 2),
]


def problem(widths, rank, seed):
    values = [2.0, 1.1, 0.7][:rank]
    target = matrix_with_singular_values(widths[-1], widths[0], values, [seed, 1])
    return target, dmf.random_minimizer(target, widths[1:-1], [seed, 2])


def units(rows: int, columns: int) -> Tensor:
    return torch.eye(rows * columns, dtype=torch.float64).reshape(-1, rows, columns)


def gauge_moves(W):
    """``A_i W_i`` at layer i and ``−W_{i+1} A_i`` at the next, one row for each entry of each ``A_i``."""
    rows = []
    for i in range(len(W) - 1):
        for A in units(W[i].shape[0], W[i].shape[0]):
            move = [torch.zeros_like(w) for w in W]
            move[i], move[i + 1] = A @ W[i], -W[i + 1] @ A
            rows.append(torch.cat([m.reshape(-1) for m in move]))
    return torch.stack(rows)


def unseen_moves(W):
    rows = []
    for i, (L, R) in enumerate(zip(left_factors(W), right_factors(W), strict=True)):
        for Z in units(*W[i].shape):
            move = [torch.zeros_like(w) for w in W]
            move[i] = unseen_part(Z, L, R)
            rows.append(torch.cat([m.reshape(-1) for m in move]))
    return torch.stack(rows)


def jacobian(W):
    """``J`` as a matrix, ``(d_L d_0, N)``: column by column the change of the product."""
    columns = []
    for i, (L, R) in enumerate(zip(left_factors(W), right_factors(W), strict=True)):
        columns += [(L @ U @ R).reshape(-1) for U in units(*W[i].shape)]
    return torch.stack(columns, dim=1)


def rank_of(matrix):
    return int(torch.linalg.matrix_rank(matrix, rtol=1e-9))


@pytest.mark.parametrize(("widths", "rank"), CASES)
@pytest.mark.parametrize("kind", ["random", "balanced"])
def test_the_two_moves_span_the_tangent_space(widths, rank, kind):
    target, W = problem(widths, rank, 3)
    if kind == "balanced":  # where the set may not be smooth: still all of the null space
        W = dmf.balanced_minimizer(target, widths[1:-1], 3)
    J = jacobian(W)
    moves = torch.cat([gauge_moves(W), unseen_moves(W)])
    assert float((J @ moves.mT).abs().max()) < 1e-10
    assert rank_of(moves) == J.shape[1] - rank_of(J)


@pytest.mark.parametrize(("widths", "rank"), CASES)
def test_gauges_alone_fill_the_tangent_space_of_a_target_of_full_rank(widths, rank):
    """So a search over gauges, from a random minimizer, is one over an open dense part of its piece."""
    _, W = problem(widths, rank, 4)
    free = jacobian(W).shape[1] - rank_of(jacobian(W))
    if rank == min(widths[0], widths[-1]):
        assert rank_of(gauge_moves(W)) == free
    # Not from the balanced minimizer of a wide network, whose unseen components gauges cannot make.
    balanced = dmf.balanced_minimizer(end_to_end(W), widths[1:-1], 4)
    if min(widths[1:-1]) > rank and len(widths) > 3:
        assert rank_of(gauge_moves(balanced)) < jacobian(W).shape[1] - rank_of(jacobian(balanced))


@pytest.mark.parametrize(("widths", "rank"), CASES)
@given(seed=st.integers(0, 999))
def test_without_its_unseen_components_every_minimizer_is_the_balanced_one(widths, rank, seed):
    target, W = problem(widths, rank, seed)
    order = itertools.islice(itertools.permutations(range(len(W))), seed % 6, None)
    for i in next(order, range(len(W))):
        L, R = left_factors(W)[i], right_factors(W)[i]
        W[i] = W[i] - unseen_part(W[i], L, R)
        stripped = torch.linalg.pinv(L, rtol=1e-10) @ target @ torch.linalg.pinv(R, rtol=1e-10)
        torch.testing.assert_close(W[i], stripped, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(end_to_end(W), target, rtol=1e-9, atol=1e-9)
    assert all(int(torch.linalg.matrix_rank(w, rtol=1e-9)) == rank for w in W)


def test_both_pieces_of_a_rank_deficient_target_are_reached():
    """``W_2 W_1`` of rank 1, 2 × 2: either factor may have rank 2, not both."""
    target = matrix_with_singular_values(2, 2, [1.0], 0)
    ranks = [
        tuple(rank_of(W) for W in dmf.random_minimizer(target, [2], seed)) for seed in range(20)
    ]
    assert set(ranks) == {(1, 2), (2, 1)}


def test_hidden_bases_of_both_orientations():
    target = gaussian_matrix(2, 2, 0)
    signs = {
        float(torch.linalg.det(dmf.random_minimizer(target, [2], seed)[0]).sign())
        for seed in range(20)
    }
    assert signs == {-1.0, 1.0}
