"""The least sharpness on data: against dense Hessians, all vectors ``z``, and searches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.data_flat import flat_on_data
from dmf_sharpness.minimizers.targets import (
    gaussian_matrix,
    matrix_with_singular_values,
    regression,
)
from dmf_sharpness.network.data_flatness import data_flatness
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.oracles import dense_hessian


def samples(seed, ratio, inputs=4, outputs=3):
    """Inputs whose singular values fall by about this ratio, with outputs."""
    scale = ratio ** -torch.arange(inputs, dtype=torch.float64)
    return scale[:, None] * gaussian_matrix(inputs, 30, [seed, 0]), gaussian_matrix(
        outputs, 30, [seed, 1]
    )


def greatest(factors, outputs, inputs):
    return float(torch.linalg.eigvalsh(dense_hessian(factors, outputs, inputs))[-1])


SHAPES = st.sampled_from(
    [(4, 3, 3), (4, 4, 3, 3), (3, 5, 4, 5, 4), (4, 2, 1), (1, 2, 2, 3), (2, 3, 3)]
)


@settings(max_examples=20)
@given(st.integers(0, 99), SHAPES, st.sampled_from([1.0, 2.0, 5.0]))
def test_no_minimizer_is_below_it_and_the_constructed_one_has_it(seed, widths, ratio):
    inputs, outputs = samples(seed, ratio, widths[0], widths[-1])
    data, hidden = regression(inputs, outputs), widths[1:-1]
    problem = Problem(data.target, data.input_root)
    flat = data_flatness(data.target, data.input_root, len(widths) - 1)
    made = flat_on_data(problem, hidden, seed)
    product = torch.linalg.multi_dot(made[::-1])
    torch.testing.assert_close(product, data.solution, rtol=1e-9, atol=1e-9)
    assert greatest(made, outputs, inputs) == pytest.approx(flat.value, rel=1e-10)
    other = dmf.random_minimizer(data.solution, hidden, seed, 0.2)
    assert greatest(other, outputs, inputs) >= flat.value * (1 - 1e-10)


def test_it_is_the_largest_value_of_all_vectors():
    data = regression(*samples(3, 2.0))
    flat = data_flatness(data.target, data.input_root, 3).value
    Z = gaussian_matrix(data.target.shape[1], 20_000, 5)
    Z = Z / torch.linalg.vector_norm(Z, dim=0)
    of_target = torch.linalg.vector_norm(data.target @ Z, dim=0)
    of_inputs = torch.linalg.vector_norm(data.input_root @ Z, dim=0)
    best = float((6 * (of_target**2 * of_inputs) ** (2 / 3)).max())
    assert 0.99 * flat <= best <= flat * (1 + 1e-12)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("rank", [1, 3])
def test_without_data_it_is_that_of_matrix_factorization(depth, rank):
    M = matrix_with_singular_values(3, 5, [3.0, 2, 1][:rank], depth)
    expected = float(dmf.flat_sharpness(M, depth))
    assert data_flatness(M, None, depth).value == pytest.approx(expected)
    factors = flat_on_data(Problem(M), [4] * (depth - 1), 1)
    assert greatest(factors, M, None) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(torch.linalg.multi_dot(factors[::-1]), M)


def test_no_search_gets_below_it():
    """Depth 2, steepest descent of the sharpness over changes of the hidden basis, by autograd."""
    data = regression(*samples(4, 2.5))
    flat = data_flatness(data.target, data.input_root, 2).value
    W_1, W_2 = dmf.random_minimizer(data.solution, [3], 1, 0.5)
    basis = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    root, eye = torch.linalg.cholesky(data.input_gram), torch.eye(3, dtype=torch.float64)
    optimizer = torch.optim.Adam([basis], lr=3e-2)
    least = torch.inf
    for _ in range(400):
        change = torch.linalg.matrix_exp(basis)
        A, B = W_2 @ torch.linalg.inv(change), change @ W_1 @ root
        operator = torch.kron(root.mT @ root, A @ A.mT) + torch.kron(B.mT @ B, eye)
        value = 2 * torch.linalg.eigvalsh(operator)[-1]
        least = min(least, float(value.detach()))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert flat * (1 - 1e-10) <= least <= flat * 1.001


def test_a_narrow_layer_and_no_target_are_refused():
    data = regression(*samples(1, 2.0))
    with pytest.raises(ValueError, match=r"^widths: expected .*, got "):
        flat_on_data(Problem(data.target, data.input_root), [2], 0)
    with pytest.raises(ValueError, match=r"^target: expected .*, got "):
        flat_on_data(Problem(0 * data.target, data.input_root), [3], 0)
