import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers import search
from dmf_sharpness.minimizers.basic import random_minimizer
from dmf_sharpness.minimizers.flat import path_defect
from dmf_sharpness.minimizers.gauges import gauged
from dmf_sharpness.minimizers.search import (
    Held,
    held_gradient,
    minimize_sharpness,
    sharpness_gradient,
    with_product,
)
from dmf_sharpness.minimizers.targets import gaussian_matrix, matrix_with_singular_values
from dmf_sharpness.network.balance import relative_products
from dmf_sharpness.network.curvature import curvature_matrix
from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.network.least_excess import least_excess
from tests.helpers import random_problem


@pytest.mark.parametrize("network", [(3, 4, 3), (2, 4, 4, 3), (1, 3, 3, 3, 1)])
@given(seed=st.integers(0, 999))
@settings(max_examples=5)
def test_the_least_sharpness_is_the_bound(network, seed):
    target, factors = random_problem(network, seed)
    least = dmf.flat_sharpness(target, len(factors))
    search = minimize_sharpness(factors)
    assert search.start == pytest.approx(dmf.sharpness(factors).value, rel=1e-12)
    assert search.value == pytest.approx(least, rel=1e-6)
    assert search.least >= least * (1 - 1e-12)
    assert float((end_to_end(search.factors) - target).norm() / target.norm()) < 1e-10
    # What it found, and not what it was built to have: the layers pass the top vector on.
    assert path_defect(search.factors) < 1e-4 < path_defect(factors)


@pytest.mark.parametrize("network", [(3, 4, 3), (2, 4, 4, 3), (1, 2, 3, 2, 1), (2, 3, 4, 4, 3, 3)])
@given(seed=st.integers(0, 999))
@settings(max_examples=5)
def test_from_far_away_one_descent_is_enough(network, seed):
    target = gaussian_matrix(network[-1], network[0], [seed, 1])
    factors = random_minimizer(target, network[1:-1], [seed, 2], spread=1.0)
    search = minimize_sharpness(factors)
    assert search.value == pytest.approx(dmf.flat_sharpness(target, len(factors)), rel=1e-11)


@pytest.mark.parametrize("network", [(3, 4, 3), (2, 4, 4, 2), (3, 3, 3, 3)])
@given(seed=st.integers(0, 99))
@settings(max_examples=3)
def test_where_the_top_eigenvalue_is_multiple_it_gets_there_as_well(network, seed):
    """With ``σ_2 = σ_1`` the sharpness has a kink at every flat minimizer."""
    target = matrix_with_singular_values(network[-1], network[0], [2.0] * min(network), seed)
    search = minimize_sharpness(random_minimizer(target, network[1:-1], seed, spread=1.0))
    assert search.value == pytest.approx(dmf.flat_sharpness(target, len(network) - 1), rel=1e-9)


def derivative(factors, generators, held=None):
    """The derivative of ``log λ_max`` along a gauge, by automatic differentiation of the whole chain."""
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    moved = gauged(factors, [torch.matrix_exp(t * A) for A in generators])
    if held is not None:
        moved = with_product(moved, held)
    (slope,) = torch.autograd.grad(torch.linalg.eigvalsh(curvature_matrix(moved))[-1].log(), t)
    return float(slope)


@pytest.mark.parametrize("layer", [None, 1, 2, 3, 4])
@given(seed=st.integers(0, 999))
@settings(max_examples=10)
def test_the_gradient_is_that_of_automatic_differentiation(layer, seed):
    _, factors = random_problem((2, 3, 4, 3, 2), seed)
    held = None if layer is None else Held(layer, 1.5)
    if held is not None:
        factors = with_product(factors, held)
    value, gradient = sharpness_gradient(factors)
    assert float(value) == pytest.approx(dmf.sharpness(factors).value, rel=1e-12)
    if held is not None:
        gradient = held_gradient(factors, gradient, held)
    generators = [gaussian_matrix(d, d, [seed, d, k]) for k, d in enumerate((3, 4, 3))]
    generators = [A + A.mT for A in generators]
    slope = sum(float((A * D).sum()) for A, D in zip(generators, gradient, strict=True))
    assert slope == pytest.approx(derivative(factors, generators, held), rel=1e-7, abs=1e-8)


def test_the_top_eigenvector_of_a_flat_minimizer_is_balanced_itself():
    target = gaussian_matrix(4, 3, 0)
    _, gradient = sharpness_gradient(dmf.flat_minimizer(target, [6, 5], 1))
    assert max(float(D.abs().max()) for D in gradient) < 1e-12
    _, gradient = sharpness_gradient(dmf.random_minimizer(target, [6, 5], 1))
    assert max(float(D.abs().max()) for D in gradient) > 1e-2


def test_a_search_counts_and_keeps_what_it_saw():
    _, factors = random_problem((3, 4, 3), 0)
    stopped = minimize_sharpness(factors, iterations=1)
    ended = minimize_sharpness(factors)
    assert ended.least <= ended.value * (1 + 1e-13) < stopped.value < stopped.start == ended.start
    assert 2 <= stopped.evaluations < ended.evaluations
    assert minimize_sharpness(ended.factors).evaluations == 1  # nothing is left to do


def test_flat_minimizers_by_construction_share_the_path():
    target = gaussian_matrix(4, 3, 0)
    assert path_defect(dmf.flat_minimizer(target, [6, 5], 1, frobenius_imbalance=30)) < 1e-12
    assert path_defect(dmf.minimizer_with_sharpness(target, [6], 100.0, 1)) > 0.1


@pytest.mark.parametrize("network", [(3, 4, 3), (2, 5, 4), (1, 3, 3, 1), (1, 2, 3, 2, 1)])
@given(seed=st.integers(0, 999), ratio=st.sampled_from([0.5, 0.95, 1.02, 1.5, 3.0]))
@settings(max_examples=5)
def test_with_a_product_off_balance_the_forced_excess_is_the_least(network, seed, ratio):
    target, factors = random_problem(network, seed)
    depth = len(factors)
    held = Held(seed % depth + 1, ratio)
    search = minimize_sharpness(factors, 300, held)
    bound = float(least_excess(torch.tensor(ratio, dtype=torch.float64), depth))
    excess = search.value / dmf.flat_sharpness(target, depth) - 1
    assert excess == pytest.approx(bound, abs=1e-6)
    assert search.least / dmf.flat_sharpness(target, depth) - 1 >= bound - 1e-12
    assert float(relative_products(search.factors)[held.layer - 1]) == pytest.approx(ratio)
    assert float((end_to_end(search.factors) - target).norm() / target.norm()) < 1e-9


@given(seed=st.integers(0, 999), ratio=st.floats(0.1, 10), layer=st.integers(1, 4))
def test_a_product_is_put_to_its_value_and_the_target_stays(seed, ratio, layer):
    target, factors = random_problem((2, 3, 4, 3, 2), seed)
    moved = with_product(factors, Held(layer, ratio))
    assert float(relative_products(moved)[layer - 1]) == pytest.approx(ratio, rel=1e-10)
    torch.testing.assert_close(end_to_end(moved), target, rtol=1e-10, atol=1e-11)


PAIR = (
    torch.tensor([0.6, -0.8], dtype=torch.float64),
    torch.tensor([0.0, 0.28, 0.96], dtype=torch.float64),
)
"""Unit vectors that are no singular vectors of the factors below."""


def fixed_factors():
    """``W_1`` to ``W_4`` with hidden widths 2, 3 and 4, and their products by NumPy."""
    factors = [
        gaussian_matrix(rows, columns, rows) for rows, columns in ((2, 3), (3, 2), (4, 3), (2, 4))
    ]
    W = [each.numpy() for each in factors]
    after = [W[3] @ W[2] @ W[1], W[3] @ W[2], W[3], np.eye(2)]
    before = [np.eye(3), W[0], W[1] @ W[0], W[2] @ W[1] @ W[0]]
    return factors, after, before


@pytest.mark.parametrize("layer", [1, 2, 3, 4])
def test_a_pair_is_held_in_place_of_the_norms(layer):
    factors, after, before = fixed_factors()
    u, v = (each.numpy() for each in PAIR)
    held = Held(layer, 1.5, PAIR)
    seen = [before[layer - 1] @ v, after[layer - 1].T @ u]
    sizes = [np.sqrt((each**2).sum()) for each in seen]
    norm = np.linalg.svd(after[0] @ factors[0].numpy(), compute_uv=False)[0]
    assert float(held.product(factors)) == pytest.approx(
        sizes[0] * sizes[1] / norm**0.75, rel=1e-13
    )
    # The norms, which Held without a pair holds, are larger.
    assert float(Held(layer, 1.5).product(factors)) > float(held.product(factors)) * 1.01
    for direction, image, size in zip(held.directions(factors), seen, sizes, strict=True):
        assert direction.numpy() == pytest.approx(image / size, rel=1e-13)
    moved = with_product(factors, held)
    assert float(held.product(moved)) == pytest.approx(1.5, rel=1e-13)


@pytest.mark.parametrize("layer", [1, 2, 3, 4])
def test_the_gradient_with_a_pair_held_is_that_of_automatic_differentiation(layer):
    held = Held(layer, 1.5, PAIR)
    factors = with_product(fixed_factors()[0], held)
    gradient = held_gradient(factors, sharpness_gradient(factors)[1], held)
    for k, slope in enumerate(gradient):
        generators = [W.new_zeros(len(W), len(W)) for W in factors[:-1]]
        generators[k] = gaussian_matrix(len(slope), len(slope), k)
        generators[k] = generators[k] + generators[k].mT
        found = float((generators[k] * slope).sum())
        assert found == pytest.approx(derivative(factors, generators, held), rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("layer", [1, 2])
def test_without_a_pair_the_directions_are_top_singular_vectors(layer):
    factors, after, before = fixed_factors()
    a, b = Held(layer + 1, 1.0).directions(factors)
    left, right = after[layer], before[layer]
    assert np.linalg.norm(right.T @ a.numpy()) == pytest.approx(np.linalg.norm(right, 2), rel=1e-13)
    assert np.linalg.norm(left @ b.numpy()) == pytest.approx(np.linalg.norm(left, 2), rel=1e-13)


@pytest.mark.parametrize("held", [Held(0, 1.0), Held(4, 1.0), Held(1, 0.0), Held(1, float("nan"))])
def test_what_cannot_be_held_is_refused(held):
    _, factors = random_problem((2, 3, 3, 2), 0)
    with pytest.raises(ValueError, match="held: expected a layer from 1 to 3 and a positive value"):
        minimize_sharpness(factors, 10, held)


def test_a_line_search_ends_where_no_length_has_both_conditions():
    """As if rounding moved the heights: too high beyond a place, and still falling fast before it."""
    here = search._Point([], 0.0, torch.tensor([-1e-14], dtype=torch.float64))

    def moved(start, step):
        far = float(step) > 0.3
        slope = torch.tensor([0.0 if far else -1e-14], dtype=torch.float64)
        return search._Point([], 1.0 if far else -1.0, slope)

    assert search._line_search(moved, here, torch.ones(1, dtype=torch.float64)) is None
