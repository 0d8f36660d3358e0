"""The residuals of wrong eigenpairs against the dense Hessian, and the flags of convergence."""

import pytest
import scipy.stats
import torch

import dmf_sharpness as dmf
from dmf_sharpness.hessian import certificate
from dmf_sharpness.hessian.certificate import (
    defect_low_rank,
    direction_residual,
    eigenmatrix_residual,
    low_rank_residual,
    probed_defect,
)
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.chain import chain
from dmf_sharpness.network.factors import end_to_end, flatten, unflatten
from dmf_sharpness.oracles import dense_hessian
from tests.helpers import COMPILED, random_point

SHAPES = [(4, 5, 6, 3), (3, 5, 6, 4), (2, 4, 3, 5, 2), (5, 4), (6, 3, 6), (1, 4, 4, 1)]
DATA = [False, True]


def problem(widths, data):
    """Factors, a root of the Gram matrix, the dense Hessian and the product's derivative ``J``."""
    factors = random_point(widths, 7)
    root = gaussian_matrix(widths[0], 3, 1) if data else None
    hessian = dense_hessian(
        factors, end_to_end(factors) if root is None else end_to_end(factors) @ root, root
    )

    def product(vector):
        M = end_to_end(unflatten(vector, widths))
        return (M if root is None else M @ root).reshape(-1)

    J = torch.autograd.functional.jacobian(product, flatten(factors))
    torch.testing.assert_close(2 * J.mT @ J, hessian)
    return factors, root, hessian, J


def expected_residual(hessian, J, Y, value):
    U = J.mT @ Y.reshape(-1)
    return float((hessian @ U - value * U).norm() / (value * U.norm()))


@pytest.mark.parametrize("widths", SHAPES)
@pytest.mark.parametrize("data", DATA)
def test_the_residual_of_any_matrix_and_value(widths, data):
    factors, root, hessian, J = problem(widths, data)
    Y = gaussian_matrix(widths[-1], widths[0] if root is None else root.shape[1], 3)
    for value in (0.3, 17.0):
        expected = expected_residual(hessian, J, Y, value)
        assert eigenmatrix_residual(factors, Y, value, root) == pytest.approx(expected, rel=1e-12)
        P, Q = torch.eye(widths[-1]).double(), Y.mT
        assert low_rank_residual(factors, P, Q, value, root) == pytest.approx(expected, rel=1e-12)
    small = [1e-2 * W for W in factors]
    for value in (1e-9, 1e3):  # the residual is relative however small the eigenvalue is
        scaled = eigenmatrix_residual(small, Y, value * 1e-4 ** (len(widths) - 2), root)
        assert scaled == pytest.approx(expected_residual(hessian, J, Y, value), rel=1e-12)
    image = (2 * J @ J.mT @ Y.reshape(-1)).reshape(Y.shape)
    defect = defect_low_rank(chain(factors, root), P, Q, 17.0)
    U, values, V = defect.leading
    torch.testing.assert_close((U * values) @ V.mT, image - 17 * Y)
    low_rank_residual_of_parts = low_rank_residual(factors, P, Q, 17.0, root, defect)
    assert low_rank_residual_of_parts == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kept", [1, 2, 3])
@pytest.mark.parametrize("data", DATA)
def test_a_defect_that_is_only_bounded_gives_a_bound(kept, data, monkeypatch):
    """Few directions of the defect are swept, as in a wide network; the rest counts with its norm."""
    widths = (6, 7, 8, 6)
    factors, root, _, J = problem(widths, data)
    Y = gaussian_matrix(6, 6 if root is None else 3, 5)
    value = 40.0
    defect = (2 * J @ J.mT @ Y.reshape(-1)).reshape(Y.shape) - value * Y
    U, values, Vt = torch.linalg.svd(defect, full_matrices=False)
    swept = float((J.mT @ ((U[:, :kept] * values[:kept]) @ Vt[:kept]).reshape(-1)).norm())
    image = float((J.mT @ Y.reshape(-1)).norm())
    bound = (swept + float(values[kept:].norm()) * image / float(Y.norm())) / (value * image)
    tails = [float(values[k:].norm() / values.norm()) for k in range(len(values))]
    for columns, tail in ((kept, 1.0), (1, (tails[kept - 1] + [*tails, 0.0][kept]) / 2)):
        monkeypatch.setattr(certificate, "SWEPT_COLUMNS", columns)
        monkeypatch.setattr(certificate, "TAIL", tail)
        found = low_rank_residual(factors, torch.eye(6).double(), Y.mT, value, root)
        assert found == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize("widths", [(9, 9), (7, 8, 6, 9), (5, 5, 5)])
@pytest.mark.parametrize("data", DATA)
def test_random_directions_bound_a_defect(widths, data):
    """Of rank 1 for one layer, where the estimate varies most, and of full rank for several."""
    factors, root, _, _ = problem(widths, data)
    layers = chain(factors, root)
    P, Q = (gaussian_matrix(end, 1, k) for k, end in enumerate(layers.shape))
    true = defect_low_rank(layers, P, Q, 3.0).size
    bounds = torch.tensor(
        [
            probed_defect(layers, P, Q, 3.0, torch.Generator().manual_seed(k)).size / true
            for k in range(400)
        ]
    )
    assert bounds.min() >= 1
    assert bounds.square().mean() == pytest.approx(certificate.PROBED_MARGIN**2, rel=0.03)
    assert probed_defect(layers, P, Q, 3.0, torch.Generator()).leading is None


def test_the_margin_of_random_directions_is_that_of_the_distribution():
    """The probability that a bound is too small is that of χ², exactly, for a defect of rank 1."""
    probes, margin = certificate.PROBES, certificate.PROBED_MARGIN
    assert scipy.stats.chi2(probes).cdf(probes / margin**2) < 1e-13


def test_a_pair_without_an_image_has_no_residual():
    factors = [torch.zeros(3, 3).double()] * 3
    identity = torch.eye(3).double()
    assert low_rank_residual(factors, identity, identity, 0.0) == 0
    assert eigenmatrix_residual(factors, identity, 0.0) == 0


def test_the_residual_of_a_batch_of_directions():
    """The value of one member is wrong, of one zero; one has no Hessian at all."""
    widths = (3, 4, 3)
    members = [random_point(widths, k) for k in range(3)] + [
        [torch.zeros(4, 3).double(), torch.zeros(3, 4).double()]
    ]
    stack = [torch.stack(layer) for layer in zip(*members, strict=True)]
    directions = [
        torch.stack(layer)
        for layer in zip(*[random_point(widths, 9 + k) for k in range(4)], strict=True)
    ]
    values = torch.tensor([2.0, 30.0, 0.0, 0.0], dtype=torch.float64)
    found = direction_residual(stack, directions, values)
    assert found.shape == (4,)
    for k, (factors, value) in enumerate(zip(members, values.tolist(), strict=True)):
        hessian, U = (
            dense_hessian(factors, end_to_end(factors)),
            flatten([D[k] for D in directions]),
        )
        norm = float((hessian @ U - value * U).norm())
        assert float(found[k]) == pytest.approx(norm / (value or 1), rel=1e-12, abs=1e-300)
    assert float(found[3]) == 0


@pytest.mark.parametrize(
    ("widths", "method"),
    [
        ((1, 3, 3, 1), "scalar"),
        ((4, 3), "depth-1"),
        ((4, 6, 5), "depth-2"),
        *[((4, 5, 5, 4), method) for method in COMPILED],
        ((4, 5, 5, 4), "dense"),
        ((4, 5, 5, 4), "batched"),
        ((4, 60, 60, 4), "lanczos"),
        ((30, 32, 34, 30), "low-rank"),
    ],
)
def test_a_result_has_converged_if_and_only_if_its_residual_is_within_the_tolerance(widths, method):
    factors = random_point(widths, 3)
    for tolerance in (1e-300, 1e-6):
        s = dmf.sharpness(factors, method=method, tolerance=tolerance)
        assert (s.converged, s.tolerance, s.method) == (s.residual <= tolerance, tolerance, method)
        pair = [torch.stack([W, 0 * W]) for W in factors]
        both = dmf.sharpness(pair, method=method, tolerance=tolerance)
        assert both.converged.tolist() == (both.residual <= tolerance).tolist()
        if method != "depth-1":  # whose Hessian does not depend on the factors
            assert both.converged.tolist()[1], "the Hessian at zero is zero, without rounding"
            assert both.residual.tolist()[1] == 0
    assert dmf.sharpness(factors, method=method, tolerance=1e-6).converged
    plain = dmf.sharpness(factors, method=method)
    assert plain.tolerance == (1e-5 if method == "low-rank" else 1e-10)


def test_a_member_outside_of_the_range_is_the_only_one_that_has_not_converged():
    factors = random_point((4, 5, 4), 2)
    stack = [torch.stack([W, 1e200 * W, 2 * W]) for W in factors]
    s = dmf.sharpness(stack)
    assert s.converged.tolist() == [True, False, True]
    assert s.residual.isnan().tolist() == [False, True, False]
    assert s.value[1] == torch.inf
    assert float(s.value[2]) == pytest.approx(4 * dmf.sharpness(factors).value, rel=1e-12)
    assert not dmf.sharpness([1e200 * W for W in factors]).converged


def test_the_upper_bound_is_the_sum_of_the_largest_eigenvalues():
    factors = random_point((4, 5, 6, 3), 1)
    root = gaussian_matrix(4, 4, 2)
    expected = 0.0
    for i in range(3):
        left, right = torch.eye(3).double(), root
        for W in factors[:i]:
            right = W @ right
        for W in reversed(factors[i + 1 :]):
            left = left @ W
        norms = [float(torch.linalg.matrix_norm(X, ord=2)) for X in (left, right)]
        expected += 2 * (norms[0] * norms[1]) ** 2
    s = dmf.sharpness(factors, input_root=root)
    assert s.upper_bound == pytest.approx(expected, rel=1e-12)
    scaled = dmf.sharpness([2.0**150 * W for W in factors], input_root=root)
    assert scaled.upper_bound == pytest.approx(2.0**600 * expected, rel=1e-12)


def test_results_are_shown_and_compared_by_their_values():
    """And not by the factors, which may be large, and which do not compare to a truth value."""
    factors = random_point((4, 5, 6, 3), 1)
    one, two = dmf.sharpness(factors), dmf.sharpness([W.clone() for W in factors])
    assert one == two
    assert one != dmf.sharpness([2 * W for W in factors])
    assert "tensor" not in repr(one)
    assert repr(one).startswith(f"Sharpness(value={one.value!r}, residual=")
