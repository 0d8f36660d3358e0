"""Bounds in bits by which :func:`sharpness_at` scales a point, from norms that are powers of two."""

import math

import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.hessian import any_point, batched
from dmf_sharpness.hessian.batched import batched_top_pair
from dmf_sharpness.hessian.closed_forms import dense
from dmf_sharpness.minimizers.targets import gaussian_matrix
from tests.helpers import random_point, times


def numbers(*bits):
    return [torch.tensor([[2.0**e]], dtype=torch.float64) for e in bits]


@pytest.mark.parametrize("root_bits", [None, 4])
def test_the_bound_on_the_eigenvalues(root_bits):
    """From all factors but the smallest, twice, and from the residual with all but the two smallest."""
    root = None if root_bits is None else numbers(root_bits)[0]
    data = root_bits or 0
    bits = any_point._bound_bits
    # Sorted −1, 2, 5: without the smallest 2 · 7; residual 6 or the target's, times the largest.
    assert bits(numbers(5, -1, 2), -100.0, root) == max(14 + 2 * data, 6 + data + data + 5)
    assert bits(numbers(5, -1, 2), 40.0, root) == 40 + data + 5
    assert bits(numbers(3), 40.0, root) == 2 * data
    assert bits([0 * W for W in numbers(1, 2, 3)], -math.inf, root) == -math.inf


@pytest.mark.parametrize("root_bits", [None, 4, -4])
def test_the_bits_that_underflow_may_take(root_bits):
    root = None if root_bits is None else numbers(root_bits)[0]
    lost = any_point._lost_bits
    data = max(0, 2 * (root_bits or 0))
    margin = any_point.LOST_BITS
    assert lost(3.0, numbers(5, -1, 2), 3.0, root) == 10 + data - margin
    assert lost(3.0, numbers(5, -1, 2), -3.0, root) == 7 + data - margin
    assert lost(-math.inf, numbers(5, -1, 2), 3.0, root) == -math.inf
    assert lost(3.0, numbers(5), 3.0, root) == -math.inf


def test_the_exponent_of_each_layer():
    assert [any_point._per_layer(bits, 3) for bits in (0, 40, -40, 41, 42)] == [0, 10, -10, 10, 10]
    assert any_point._per_layer(40, 1) == 0
    ordinary = any_point.ORDINARY_BITS
    kept = [
        any_point._unless_ordinary(bits)
        for bits in (ordinary, -ordinary, ordinary + 1.0, -math.inf)
    ]
    assert kept == [0, 0, ordinary + 1.0, 0]


@pytest.mark.parametrize(
    ("k", "t"), [(0, 0), (300, 0), (-200, 0), (0, 400), (0, -400), (100, -300)]
)
def test_the_sharpness_of_a_scaled_problem_is_scaled(k, t):
    """``2^k W``, ``2^t S`` and ``2^{Lk+t} T`` have eigenvalues ``2^{2(L−1)k+2t}`` times as large."""
    factors, S = random_point((3, 4, 2), 1), gaussian_matrix(3, 3, 2)
    M = gaussian_matrix(2, 3, 5)
    plain = dmf.sharpness_at(factors, M, input_root=S)
    (root,), (target,) = times([S], t), times([M], 2 * k)
    found = dmf.sharpness_at(times(factors, k), target, input_root=root)
    assert found.converged
    assert found.value == pytest.approx(math.ldexp(plain.value, 2 * k + 2 * t), rel=1e-10)
    assert found.gradient_norm == pytest.approx(
        math.ldexp(plain.gradient_norm, 3 * k + 2 * t), rel=1e-10
    )


@pytest.mark.parametrize("compiled", [True, False])
def test_ordinary_batches_need_no_lapack(compiled, monkeypatch):
    """Every member is followed to its end, and the kernels compute only where they may."""
    stack = [
        torch.stack(layer)
        for layer in zip(*[random_point((5, 9, 7), k) for k in range(13)], strict=True)
    ]
    expected = dense(stack, None).value
    called = []
    kernel = batched.lanczos
    monkeypatch.setattr(batched, "lanczos", lambda *given: called.append(1) or kernel(*given))
    monkeypatch.setattr(batched, "dense", lambda *_: pytest.fail("a member was passed on"))
    found = batched_top_pair(stack, None, compiled)
    torch.testing.assert_close(found.value, expected, rtol=1e-13, atol=0)
    assert len(called) == (compiled and batched.available())
    if batched.available():
        batched_top_pair(stack, None)
        assert len(called) == compiled + 1
    assert found.eigenmatrix.flatten(1).norm(dim=1).tolist() == pytest.approx([1] * 13)


@pytest.mark.parametrize("exponent", [-1000, 1000])
def test_the_target_alone_can_set_the_scale(exponent):
    """Beside a target that large, or at a point that small, the eigenvalues are ``±2σ`` of the target."""
    target = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    point = [times([W], min(0, exponent))[0] for W in random_point((2, 3, 2), 0)]
    found = dmf.sharpness_at(point, times([target], exponent)[0])
    assert found.value == pytest.approx(math.ldexp(6.0, exponent), rel=1e-13)
    assert found.converged
