import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.gauges import (
    along_geodesic,
    gauged,
    gauges_between,
    geodesic_generators,
    geodesic_midpoint,
    random_gauges,
)
from dmf_sharpness.minimizers.targets import gaussian_matrix, orthogonal_matrix
from dmf_sharpness.network.factors import end_to_end, right_factors
from dmf_sharpness.oracles import dense_spectrum
from tests.helpers import networks, random_problem


def gauges_of(network, seed, spread=0.5):
    return random_gauges(network[1:-1], np.random.default_rng(seed), spread)


def symmetric(width, seed):
    A = gaussian_matrix(width, width, seed)
    return (A + A.mT) / 2


def right_grams(factors):
    """``R_iᵀR_i`` of the hidden layers, which do not see an orthogonal change of basis."""
    return [R.mT @ R for R in right_factors(factors)[1:]]


def test_a_gauge_changes_the_basis_of_the_hidden_layers():
    network = (3, 5, 4, 2)
    target, factors = random_problem(network, 1)
    G_1, G_2 = gauges_of(network, 2)
    moved = gauged(factors, [G_1, G_2])
    W_1, W_2, W_3 = factors
    for is_now, expected in zip(
        moved, [G_1 @ W_1, G_2 @ W_2 @ G_1.inverse(), W_3 @ G_2.inverse()], strict=True
    ):
        torch.testing.assert_close(is_now, expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(end_to_end(moved), target, rtol=1e-11, atol=1e-12)


def test_the_gauge_along_a_geodesic_is_the_exponential():
    _, factors = random_problem((3, 5, 4, 2), 1)
    generators = [symmetric(5, 2), symmetric(4, 3)]
    moved = along_geodesic(factors, generators)
    expected = gauged(factors, [torch.matrix_exp(A) for A in generators])
    for W, V in zip(moved, expected, strict=True):
        torch.testing.assert_close(W, V, rtol=1e-11, atol=1e-11)


@given(network=networks(), seed=st.integers(0, 999))
def test_a_gauge_between_two_minimizers_of_an_orbit_is_found(network, seed):
    _, factors = random_problem(network, seed)
    there = gauged(factors, gauges_of(network, [seed, 1]))
    found = gauged(factors, gauges_between(factors, there))
    for one, other in zip(found, there, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_the_gauge_from_a_minimizer_to_itself_is_the_identity():
    _, factors = random_problem((3, 5, 4, 2), 0)
    for G in gauges_between(factors, factors):
        torch.testing.assert_close(G, torch.eye(len(G), dtype=torch.float64))


def test_the_generators_forget_rotations():
    (G,) = gauges_of((3, 4, 3), 0)
    (A,) = geodesic_generators([G])
    torch.testing.assert_close(torch.matrix_exp(2 * A), G.mT @ G, rtol=1e-12, atol=1e-12)


def test_random_gauges_have_the_singular_values_that_they_should():
    spread = torch.cat([torch.linalg.svdvals(G).log() for G in gauges_of((1, *[6] * 200, 1), 3)])
    assert abs(float(spread.mean())) < 0.05
    assert float(spread.std()) == pytest.approx(0.5, rel=0.05)


@given(network=networks(max_depth=2), seed=st.integers(0, 999))
def test_the_midpoint_is_the_geometric_mean(network, seed):
    """``P = P_0 # P_1`` is the positive definite solution of ``P P_0⁻¹ P = P_1``, here with ``P_0 = I``."""
    d_0, width, _ = network
    factors = [gaussian_matrix(width, d, [seed, d]) for d in (width, d_0)]  # W_1 is invertible
    (G,) = gauges_of(network, [seed, 1])
    W_1, middle = factors[0], geodesic_midpoint([factors[0], factors[1].mT], [G])[0]
    P = W_1.inverse().mT @ middle.mT @ middle @ W_1.inverse()
    torch.testing.assert_close(P @ P, G.mT @ G, rtol=1e-6, atol=1e-6)


@given(network=networks(), seed=st.integers(0, 999))
def test_the_midpoint_is_the_same_from_both_ends(network, seed):
    _, factors = random_problem(network, seed)
    gauges = gauges_of(network, [seed, 1])
    there = geodesic_midpoint(factors, gauges)
    back = geodesic_midpoint(gauged(factors, gauges), [G.inverse() for G in gauges])
    for one, other in zip(right_grams(there), right_grams(back), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@given(network=networks(), seed=st.integers(0, 999))
def test_the_midpoint_does_not_depend_on_rotations(network, seed):
    _, factors = random_problem(network, seed)
    gauges = gauges_of(network, [seed, 1])
    rng = np.random.default_rng([seed, 2])
    rotated = [orthogonal_matrix(len(G), rng) @ G for G in gauges]
    one, other = geodesic_midpoint(factors, gauges), geodesic_midpoint(factors, rotated)
    for W, V in zip(one, other, strict=True):
        torch.testing.assert_close(W, V, rtol=1e-9, atol=1e-9)


@given(network=networks(max_depth=4), seed=st.integers(0, 999), spread=st.sampled_from([0.1, 1.0]))
def test_the_logarithm_of_the_sharpness_is_convex_by_the_dense_hessian(network, seed, spread):
    target, factors = random_problem(network, seed)
    gauges = gauges_of(network, [seed, 1], spread)
    ends = factors, gauged(factors, gauges)
    middle = geodesic_midpoint(factors, gauges)
    low, high = (float(dense_spectrum(W, target)[0].log()) for W in ends)
    assert float(dense_spectrum(middle, target)[0].log()) <= (low + high) / 2 + 1e-10


def test_at_depth_2_with_scalars_the_midpoint_is_that_of_the_geometric_mean_by_hand():
    one = torch.ones(1, 1, dtype=torch.float64)
    middle = geodesic_midpoint([2 * one, 3 * one], [16 * one])
    assert [float(W) for W in middle] == pytest.approx([8.0, 0.75])
    assert dmf.sharpness(middle).value == pytest.approx(2 * (8.0**2 + 0.75**2))


@pytest.mark.parametrize(
    ("network", "left_out"),
    [
        ((3, 4, 3), 0),
        ((2, 4, 4, 3), 0),
        ((2, 5, 5), 0),
        ((1, 3, 2, 2, 1), 0),
        ((2, 3, 4, 4, 3, 3), 0),
        ((2, 3, 5), 2),
        ((5, 3, 2), 2),
        ((2, 3, 3, 5), 2),
    ],
)
def test_where_an_orbit_is_open_in_the_set_of_minimizers(network, left_out):
    """The rank of all gauge directions, against the dimension of the null space of the Hessian."""
    target, factors = random_problem(network, 0)
    sizes = [W.numel() for W in factors]
    directions = []
    for i, width in enumerate(network[1:-1]):
        for row in range(width):
            for column in range(width):
                A = torch.zeros(width, width, dtype=torch.float64)
                A[row, column] = 1
                change = [torch.zeros_like(W) for W in factors]
                change[i], change[i + 1] = A @ factors[i], -factors[i + 1] @ A
                directions.append(torch.cat([U.flatten() for U in change]))
    spectrum = dense_spectrum(factors, target)
    dimension = sum(sizes) - int((spectrum > 1e-9 * spectrum[0]).sum())
    rank = int(torch.linalg.matrix_rank(torch.stack(directions), rtol=1e-9))
    assert dimension - rank == left_out
