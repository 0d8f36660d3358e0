"""The sharpness of networks with wide ends from that of a narrower network, against LAPACK."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.hessian import sharpness as module
from dmf_sharpness.hessian.certificate import direction_residual
from dmf_sharpness.hessian.closed_forms import dense
from dmf_sharpness.hessian.narrow_ends import is_worthwhile, sharpness_of_narrowed
from dmf_sharpness.minimizers.targets import gaussian_matrix, orthogonal_matrix
from tests.helpers import random_point

narrow = st.integers(1, 3)
wide = st.integers(4, 9)
ends = st.sampled_from(["input", "output", "both"])


@given(st.lists(narrow, min_size=1, max_size=3), wide, wide, ends, st.integers(0, 99))
def test_value_gap_and_eigenvector(inner, d_0, d_L, which, seed):
    widths = [d_0 if which != "output" else 1, *inner, d_L if which != "input" else 1]
    factors = random_point(tuple(widths), seed)
    s = sharpness_of_narrowed(factors, dmf.sharpness)
    exact = dense(factors, None)
    assert s.value == pytest.approx(float(exact.value), rel=1e-13)
    assert s.gap == pytest.approx(float(exact.value - exact.second), abs=1e-12 * s.value)
    assert s.eigenmatrix.shape == (widths[-1], widths[0])
    assert float(s.eigenmatrix.norm()) == pytest.approx(1, rel=1e-12)
    assert [U.shape for U in s.eigenvector] == [W.shape for W in factors]
    value = torch.tensor(s.value, dtype=torch.float64)
    assert float(direction_residual(factors, s.eigenvector, value)) < 1e-12
    assert s.residual < 1e-12
    assert s.converged


def test_the_second_eigenvalue_may_be_of_the_complement():
    """``L_1 = diag(2, 1)`` beside a tiny ``W_1``: 8 belongs to each direction at the input."""
    W_1 = torch.zeros(2, 5, dtype=torch.float64)
    W_1[0, 0] = W_1[1, 1] = 1e-3
    W_2 = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    s = sharpness_of_narrowed([W_1, W_2], dmf.sharpness)
    assert s.value == pytest.approx(8 + 2e-6, rel=1e-14)
    assert s.gap == pytest.approx(0, abs=1e-14)  # W_1 has equal singular values
    W_1[1, 1] = 0
    s = sharpness_of_narrowed([W_1, W_2], dmf.sharpness)
    assert s.gap == pytest.approx(
        2e-6, rel=1e-8
    )  # that of the narrower network, 8, and of the complement


@pytest.mark.parametrize("widths", [(784, 780, 2000, 10), (100, 32, 32, 10), (10, 50, 50, 10)])
def test_auto_leaves_networks_of_which_the_decomposition_costs_more(widths):
    assert not is_worthwhile(widths)


@pytest.mark.parametrize(
    "widths", [(784, 8, 8, 10), (10, 8, 8, 784), (300, 6, 300), (784, 20, 784)]
)
def test_auto_takes_it_and_other_methods_agree(widths):
    factors = random_point(widths, 3)
    assert is_worthwhile(widths)
    s = dmf.sharpness(factors)
    direct = dmf.sharpness(
        factors, method="low-rank" if min(widths[0], widths[-1]) > 96 else "lanczos"
    )
    assert s.value == pytest.approx(
        direct.value, rel=1e-9 if direct.method == "low-rank" else 1e-13
    )
    assert s.residual <= s.tolerance


def test_a_wide_low_rank_network():
    factors = random_point((400, 200, 150, 300), 0)
    s = sharpness_of_narrowed(factors, lambda W: dmf.sharpness(W, method="low-rank"))
    direct = dmf.sharpness(factors, method="low-rank")
    assert s.method == "low-rank"
    assert s.value == pytest.approx(direct.value, rel=1e-9)
    assert s.residual <= s.tolerance
    U, direct_U = s.eigenvector_pairs, direct.eigenvector_pairs
    overlap = sum(
        float(((V @ X.mT) * (v @ x.mT)).sum()) for (V, X), (v, x) in zip(U, direct_U, strict=True)
    )
    assert abs(overlap) == pytest.approx(1, abs=1e-6)


def test_zeros_and_orthonormal_layers():
    zeros = [torch.zeros(m, n, dtype=torch.float64) for n, m in ((7, 2), (2, 2), (2, 9))]
    s = sharpness_of_narrowed(zeros, dmf.sharpness)
    assert (s.value, s.residual, s.converged) == (0.0, 0.0, True)
    frames = [orthogonal_matrix(9, 0)[:2], orthogonal_matrix(2, 1), orthogonal_matrix(9, 2)[:, :2]]
    s = sharpness_of_narrowed(frames, dmf.sharpness)
    assert s.value == pytest.approx(6, rel=1e-14)
    assert s.gap == pytest.approx(0, abs=1e-13)


def test_the_residual_is_that_of_the_wide_network(monkeypatch):
    """A wrong eigenpair of the narrower network does not pass."""
    solve = dmf.sharpness

    def wrong(factors):
        return solve([2 * factors[0], *factors[1:]])

    s = sharpness_of_narrowed(random_point((9, 3, 3, 2), 1), wrong)
    assert s.residual > 0.1
    assert not s.converged


def test_input_data_and_methods_by_name_are_left_alone(monkeypatch):
    def never(*arguments):
        raise AssertionError

    monkeypatch.setattr(module, "sharpness_of_narrowed", never)
    factors = random_point((784, 8, 8, 10), 0)
    assert math.isfinite(dmf.sharpness(factors, method="lanczos").value)
    assert math.isfinite(dmf.sharpness(factors, input_root=gaussian_matrix(784, 12, 0)).value)
