"""Derivatives along a direction, and projections onto the tangent space, against dense linear algebra."""

import pytest
import torch

from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import end_to_end, flatten, unflatten
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.tangent import (
    Curvature,
    curvature_of,
    inner,
    retracted,
    stacked,
    tangential,
)
from dmf_sharpness.network.taylor import gradient_jet
from tests.helpers import random_point

WIDTHS = (3, 4, 5, 2)


def mapped(vector, root):
    M = end_to_end(unflatten(vector, WIDTHS))
    return M if root is None else M @ root


@pytest.mark.parametrize("data", [False, True])
def test_the_gradient_along_a_line_has_the_coefficients_of_its_polynomial(data):
    """Interpolated exactly: along a line the gradient of depth 3 is a polynomial of degree five."""
    factors, direction = random_point(WIDTHS, 1), random_point(WIDTHS, 2)
    root = gaussian_matrix(3, 6, 3) if data else None
    target = gaussian_matrix(2, 6 if data else 3, 4)
    w, u = flatten(factors), flatten(direction)

    def gradient(t):
        x = (w + t * u).requires_grad_()
        return torch.autograd.grad((target - mapped(x, root)).square().sum(), x)[0]

    nodes = torch.linspace(-1, 1, 6, dtype=torch.float64)
    values = torch.stack([gradient(float(t)) for t in nodes])
    coefficients = torch.linalg.solve(nodes[:, None] ** torch.arange(6), values)
    for order in (1, 3):
        jet = gradient_jet(factors, direction, Problem(target, root), order)
        assert len(jet) == order + 1
        for n, layers in enumerate(jet):
            torch.testing.assert_close(flatten(layers), coefficients[n], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("data", [False, True])
@pytest.mark.parametrize("rank", [3, 1])
def test_the_projection_is_that_of_the_jacobian(data, rank):
    """Also where a layer is of rank one, and ``J Jᵀ`` has a kernel."""
    factors, direction = random_point(WIDTHS, 1), random_point(WIDTHS, 2)
    if rank == 1:
        factors = [W[:, :1] @ W[:1] for W in factors]
    root = gaussian_matrix(3, 6, 3) if data else None
    J = torch.autograd.functional.jacobian(lambda x: mapped(x, root).reshape(-1), flatten(factors))
    spectrum = torch.linalg.svdvals(J).square() * 2
    curvature = curvature_of(factors, root)
    found = curvature.eigenvalues.flip(0)[: len(spectrum)]
    torch.testing.assert_close(
        found, spectrum[: len(found)], rtol=1e-10, atol=1e-12 * float(spectrum[0])
    )
    rounding = 1e-10 * float(spectrum[0])
    kernel = int((spectrum <= rounding).sum())
    assert int((curvature.eigenvalues == 0).sum()) == kernel
    assert (kernel > 0) == (data or rank == 1)
    kept = spectrum > rounding
    rows = torch.linalg.svd(J, full_matrices=False)[2][kept]
    u = flatten(direction)
    expected = u - rows.mT @ (rows @ u)
    for given in (None, curvature):
        projected = tangential(factors, direction, root, given)
        torch.testing.assert_close(flatten(projected), expected, rtol=1e-9, atol=1e-9)


def test_the_inverse_of_eigenvalues_is_zero_where_they_are():
    values = torch.tensor([0.0, 0.5, 4.0], dtype=torch.float64)
    curvature = Curvature(values, torch.eye(3, dtype=torch.float64))
    assert curvature.inverse.tolist() == [0, 2, 0.25]


def test_a_point_beside_the_minimizers_is_brought_back_orthogonally():
    factors = random_point(WIDTHS, 1)
    target = end_to_end(factors)
    near = [W + 1e-3 * U for W, U in zip(factors, random_point(WIDTHS, 2), strict=True)]
    found = retracted(near, Problem(target))
    torch.testing.assert_close(end_to_end(found), target, rtol=1e-13, atol=1e-13)
    moved = flatten(found) - flatten(near)
    along = tangential(found, unflatten(moved, WIDTHS))
    # The step is normal up to the curvature of the set of minimizers.
    assert float(flatten(along).norm()) < 0.05 * float(moved.norm())
    one = retracted(near, Problem(target), iterations=1)
    defect = float((end_to_end(one) - target).norm())
    assert 1e-12 < defect < 0.1 * float((end_to_end(near) - target).norm()), (
        "it takes several steps"
    )


def test_inner_products_and_stacked_columns():
    A, B = random_point(WIDTHS, 1), random_point(WIDTHS, 2)
    expected = float(flatten(A) @ flatten(B))
    assert float(inner(A, B)) == pytest.approx(expected)
    batch = [torch.stack([W, 2 * W]) for W in A], [torch.stack([W, W]) for W in B]
    assert inner(*batch).tolist() == pytest.approx([expected, 2 * expected])
    Y = torch.arange(6, dtype=torch.float64).reshape(2, 3)
    assert stacked(Y).tolist() == [0, 3, 1, 4, 2, 5]
    assert stacked(Y.expand(4, 2, 3)).shape == (4, 6)
