"""Sizes in bits, and norms beyond the range of float64, against exact integers and autograd."""

import math

import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network import scaling
from dmf_sharpness.network.chain import chain, pull_back_norm
from dmf_sharpness.network.curvature import gram_root
from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.network.norms import gradient_norm, norm_bits
from dmf_sharpness.network.randomness import random_generator
from tests.helpers import random_point, times


@pytest.mark.parametrize("exponent", [-1060, -600, -201, -199, 0, 7, 199, 201, 900, 1020])
def test_the_bits_of_a_norm(exponent):
    """Of ``2^e (3, 4)``, whose norm is ``5 · 2^e``."""
    (matrix,) = times([torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)], exponent)
    assert norm_bits(matrix) == pytest.approx(exponent + math.log2(5), abs=1e-12)
    assert norm_bits(0 * matrix) == -math.inf


@pytest.mark.parametrize("t", [0, 5, -7])
@pytest.mark.parametrize("k", [0, 30, -30])
@pytest.mark.parametrize("data", [False, True])
def test_the_norm_of_the_gradient_at_every_scale(t, k, data):
    """``2^k W`` and ``2^t S``: the norm is that of autograd at the scale one, times powers of two."""
    factors = [W.requires_grad_() for W in random_point((3, 5, 4, 2), 1)]
    S = gaussian_matrix(3, 6, 2) if data else torch.eye(3, dtype=torch.float64)
    T = gaussian_matrix(2, S.shape[1], 3)
    loss = (T - end_to_end(factors) @ S).square().sum()
    parts = torch.autograd.grad(loss, factors)
    expected = float(torch.stack([g.square().sum() for g in parts]).sum().sqrt())
    W = times([W.detach() for W in factors], k)
    (seen,) = times([T], 3 * k)
    root = times([S], t)[0] if data else None
    found = gradient_norm(W, seen, root, t if data else 0)
    assert found == pytest.approx(expected * 2.0 ** (5 * k), rel=1e-12)


def test_a_gradient_of_zero_and_one_beyond_the_range():
    factors = random_point((3, 4, 2), 1)
    assert gradient_norm(factors, end_to_end(factors), None, 0) == 0
    large = times(factors, 400)
    assert gradient_norm(large, end_to_end(factors), None, 0) == math.inf
    zeros = [0 * W for W in factors]
    assert gradient_norm(zeros, end_to_end(factors), None, 0) == 0


def test_the_pull_back_of_what_cancels_is_zero_and_no_nan():
    factors = random_point((4, 5, 6, 3), 2)
    P, Q = gaussian_matrix(3, 2, 3), gaussian_matrix(4, 2, 4)
    found = pull_back_norm(chain(factors), torch.cat([P, -P], 1), torch.cat([Q, Q], 1))
    assert 0 <= float(found) < 1e-6 * float(pull_back_norm(chain(factors), P, Q))
    for seed in range(20):
        Q = gaussian_matrix(4, 2, seed)
        pair = torch.cat([P, -P], 1), torch.cat([Q, Q], 1)
        assert not bool(pull_back_norm(chain(factors), *pair).isnan())


@pytest.mark.parametrize("shape", [(3,), (2, 3), ()])
def test_a_gram_matrix_is_square(shape):
    with pytest.raises(ValueError, match="input_gram: expected a square matrix, got shape"):
        gram_root(torch.ones(shape, dtype=torch.float64))


def test_seeds_have_128_bits():
    draws = [random_generator(seed).random() for seed in (0, 2**128 - 1, [2**128 - 1, 3])]
    assert len(set(draws)) == 3
    for seed in (2**128, -1, [1, 2**128]):
        with pytest.raises(ValueError, match="seed: expected"):
            random_generator(seed)


def test_a_small_target_with_zeros_is_no_zero_target():
    """Each of its rows has a zero, and ``λ_flat`` underflows."""
    tiny = torch.diag(torch.tensor([1e-300, 1e-300], dtype=torch.float64))
    with pytest.raises(ValueError, match="target: expected one whose λ_flat float64 holds"):
        dmf.flat_sharpness(tiny, 3)
    assert dmf.flat_sharpness(torch.stack([tiny, 0 * tiny]), 3).isnan().tolist() == [True, False]


def test_small_factors_with_zeros_are_no_zero_factors():
    factors = [1e-200 * torch.eye(2, dtype=torch.float64)] * 4
    with pytest.raises(ValueError, match="factors: expected spectral products between"):
        dmf.spectral_products(factors)
    batch = [torch.stack([W, 0 * W]) for W in factors]
    assert dmf.spectral_products(batch).isnan().all(1).tolist() == [True, False]
    one_zero = [*factors[:3], 0 * factors[3]]
    # The product of the zero layer leaves that layer out, and cannot be told.
    found = dmf.spectral_products([torch.stack([W, W]) for W in one_zero])
    assert found[0].isnan().tolist() == [False, False, False, True]
    assert found[0, :3].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "exponents", [(0, 0, 0), (90, -60, 30), (-200, -200, -200), (150, 120, 90)]
)
@pytest.mark.parametrize("data", [False, True])
def test_the_estimates_of_sizes_in_bits(exponents, data):
    point = random_point((5, 6, 7, 4), 3)
    factors = [times([W], e)[0] for W, e in zip(point, exponents, strict=True)]
    root = gaussian_matrix(5, 5, 1) if data else None
    for W, e, unit in zip(factors, exponents, point, strict=True):
        size = e + math.log2(float(torch.linalg.matrix_norm(unit, ord=2)))
        assert float(scaling._norm_bits(W)) == pytest.approx(size, abs=1)
    products = []
    for i in range(3):
        left, right = torch.eye(4).double(), torch.eye(5).double() if root is None else root
        for W in point[:i]:
            right = W @ right
        for W in reversed(point[i + 1 :]):
            left = left @ W
        norms = [float(torch.linalg.matrix_norm(X)) for X in (left, right)]
        others = sum(exponents) - exponents[i]
        products.append(others + math.log2(norms[0] * norms[1]))
    expected = 1 + 2 * max(products)
    assert float(scaling._sharpness_bits(factors, root)) == pytest.approx(expected, abs=3)


def test_powers_of_two_of_any_size():
    x = torch.tensor([1.5, -3.0], dtype=torch.float64)
    for e in (-1080, -1074, -1022, -30, -1, 0, 1, 3, 1000, 1022, 1025, 5000, -5000):
        for start in (0, 900, -900):
            (values,) = times([x], start)
            found = scaling.times_power(values, torch.tensor(float(e)))
            expected = [
                math.ldexp(v, e) if e + start < 1022 else math.copysign(math.inf, v)
                for v in values.tolist()
            ]
            if start + e >= 1022:
                continue
            assert found.tolist() == expected
    entries = torch.tensor([[[0.0, 0.0]], [[1.0, -0.5]], [[0.0, -2.0]]], dtype=torch.float64)
    assert scaling.exponents(entries)[1:].tolist() == [1, 2]
    assert int(scaling.exponents(entries)[0]) == scaling.LEAST_EXPONENT


def test_the_norm_of_a_gradient_is_unknown_if_a_part_of_it_leaves_the_range_at_any_scale():
    """One layer of small entries brings the product back, but the part of that layer does not contain it."""
    layer = torch.full((4, 4), 0.99, dtype=torch.float64)  # 3.96 times the vector of ones
    small = torch.full((4, 4), 2.0**-300, dtype=torch.float64)
    small[0] = torch.tensor([0.9, -0.9, 0.0, 0.0])  # zero at the vector of ones
    factors = [layer] * 320 + [small] + [layer] * 320
    assert bool(end_to_end(factors).isfinite().all())
    assert math.isnan(gradient_norm(factors, torch.zeros(4, 4, dtype=torch.float64), None, 0))
