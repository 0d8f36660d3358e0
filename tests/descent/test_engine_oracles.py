"""The engine against oracles of other kinds, and on other devices."""

from itertools import pairwise

import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.compiled import lanes
from dmf_sharpness.hessian import batched
from dmf_sharpness.hessian.batched import batched_top_pair
from dmf_sharpness.hessian.closed_forms import dense
from dmf_sharpness.minimizers.targets import gaussian_matrix, orthogonal_matrix
from dmf_sharpness.network.factors import end_to_end, flatten, unflatten
from tests.fuzz.oracles import curvature, eigenvalues
from tests.helpers import random_point


@pytest.mark.parametrize("widths", [(2, 3, 3, 2), (3, 4, 2), (1, 3, 3, 1)])
def test_finite_differences_of_the_loss(widths):
    """Fourth-order central differences of loss values alone, for the whole spectrum and the top vector."""
    factors = random_point(widths, 3)
    target, w, h = end_to_end(factors), flatten(factors), 2e-3

    def loss(points):
        return (target - end_to_end(unflatten(points, widths))).square().sum((-2, -1))

    steps = torch.tensor([-2.0, -1, 1, 2], dtype=torch.float64) * h
    weights = torch.tensor([1.0, -8, 8, -1], dtype=torch.float64) / (12 * h)
    eye = torch.eye(len(w), dtype=torch.float64)
    moves = steps[:, None, None] * eye  # (4, N, N)
    points = w + moves[:, None, :, None] + moves[None, :, None, :]
    hessian = torch.einsum("a,b,abij->ij", weights, weights, loss(points))
    numeric = torch.linalg.eigvalsh((hessian + hessian.mT) / 2).flip(0)
    s = dmf.sharpness(factors)
    assert s.value == pytest.approx(float(numeric[0]), rel=1e-6)
    spectrum = dmf.hessian_spectrum(factors)
    expected = torch.nn.functional.pad(spectrum, (0, len(w) - len(spectrum)))
    torch.testing.assert_close(numeric, expected, rtol=0, atol=1e-6 * s.value)
    v = flatten(s.eigenvector)
    along = loss(w + steps[:, None] * v)
    second = (-along[0] + 16 * along[1] + 16 * along[2] - along[3]) / (12 * h * h)
    assert s.value == pytest.approx(float(second), rel=1e-6)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("widths", [(4, 8, 8, 4), (6, 20, 20, 5), (1, 5, 5, 1)])
def test_curvlinops(widths):
    """The Hessian of another tool, on the network as it would be trained."""
    curvlinops = pytest.importorskip("curvlinops")
    factors = random_point(widths, 5)
    X, Y = (
        gaussian_matrix(widths[0], 12, 1),
        end_to_end(factors) @ gaussian_matrix(widths[0], 12, 1),
    )
    layers = [torch.nn.Linear(n, m, bias=False, dtype=torch.float64) for n, m in pairwise(widths)]
    for layer, W in zip(layers, factors, strict=True):
        layer.weight.data.copy_(W)
    model = torch.nn.Sequential(*layers)
    operator = curvlinops.HessianLinearOperator(
        model, torch.nn.MSELoss(reduction="sum"), list(model.parameters()), [(X.mT, Y.mT)],
        check_deterministic=False,
    )  # fmt: skip
    matrix = operator @ torch.eye(operator.shape[1], dtype=torch.float64)
    oracle = torch.linalg.eigvalsh((matrix + matrix.mT) / 2)[-1]
    assert dmf.sharpness(factors, X @ X.mT).value == pytest.approx(float(oracle), rel=1e-11)


@pytest.mark.parametrize("widths", [(10, 10, 10, 10), (5, 9, 7), (3, 6, 5, 4, 8), (16, 16)])
@pytest.mark.parametrize("data", [False, True])
def test_batches_by_kernel_and_by_pytorch(widths, data):
    members = [random_point(widths, k) for k in range(11)]
    stack = [torch.stack(layer) for layer in zip(*members, strict=True)]
    root = gaussian_matrix(widths[0], widths[0], 1) if data else None
    root = None if root is None else root @ root.mT
    expected = dense(stack, root)
    for compiled in (True, False):
        found = batched_top_pair(stack, root, compiled)
        torch.testing.assert_close(found.value, expected.value, rtol=1e-12, atol=0)
        simple = (expected.value - expected.second) / expected.value > 1e-6
        torch.testing.assert_close(
            found.eigenmatrix[simple], expected.eigenmatrix[simple], rtol=0, atol=1e-6
        )


@pytest.mark.skipif(not lanes.available(), reason="no compiler when the package was installed")
@pytest.mark.parametrize("widths", [(10, 10, 10, 10), (5, 9, 7), (4, 6, 5, 3), (3, 3, 3)])
@pytest.mark.parametrize("data", [False, True])
def test_the_kernel_settles_ordinary_minimizers_itself(widths, data, monkeypatch):
    """Faults of the kernel that leave a residual would only cost time: LAPACK would mend them."""
    stack = [
        torch.stack([random_point(widths, k)[i] for k in range(11)]) for i in range(len(widths) - 1)
    ]
    root = gaussian_matrix(widths[0], widths[0], 1) if data else None
    expected = dense(stack, root)
    monkeypatch.setattr(batched, "dense", lambda *given: pytest.fail("expected no call of LAPACK"))
    found = batched_top_pair(stack, root)
    torch.testing.assert_close(found.value, expected.value, rtol=1e-13, atol=0)


@pytest.mark.parametrize("compiled", [True, False])
def test_what_an_iteration_did_not_settle_goes_to_lapack(compiled, monkeypatch):
    monkeypatch.setattr(batched, "RESIDUAL", 0.0)
    stack = [torch.stack([W, W]) for W in random_point((5, 9, 7), 1)]
    expected = dense(stack, None)
    found = batched_top_pair(stack, None, compiled)
    assert torch.equal(found.value, expected.value)
    assert torch.equal(found.eigenmatrix, expected.eigenmatrix)


@pytest.mark.skipif(not lanes.available(), reason="no compiler when the package was installed")
def test_the_kernel_on_hard_neighbours():
    """Zero, degenerate and ordinary minimizers share a vector, and none disturbs another."""
    ordinary = [random_point((6, 6, 6, 6), k) for k in range(5)]
    frames = [orthogonal_matrix(6, k) for k in range(3)]
    zero = [torch.zeros(6, 6, dtype=torch.float64)] * 3
    near = [torch.diag(torch.tensor([1, 1 - 1e-9, 0.5, 0.5, 0.1, 0])).double()] * 3
    members = [*ordinary, frames, zero, near]
    stack = [torch.stack(layer) for layer in zip(*members, strict=True)]
    found, expected = batched_top_pair(stack, None), dense(stack, None)
    torch.testing.assert_close(found.value, expected.value, rtol=1e-12, atol=1e-300)
    alone = batched_top_pair([W[:5] for W in stack], None)
    torch.testing.assert_close(alone.value, found.value[:5], rtol=1e-14, atol=0)
    s = dmf.sharpness(stack, method="batched")
    assert bool(s.converged.all())


@pytest.mark.parametrize(("seed", "member"), [(47, 23), (90, 44), (103, 24)])
def test_a_krylov_space_that_ends_early_leaves_no_nan(seed, member):
    """Of some 2,000 operators of rank four one divided by zero, and its residual, NaN, was read as zero."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(50, 4, 4)] * 4 + [(4, 1)]
    *stack, column = (torch.randn(n, generator=generator, dtype=torch.float64) for n in shapes)
    stack[0], root = 0 * stack[0], torch.nn.functional.pad(column, (0, 3))
    found = batched_top_pair(stack, root)
    for k in (0, member):
        exact = eigenvalues(curvature([W[k] for W in stack], root))[-1]
        assert float(found.value[k]) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", ["auto", "dense", "batched", "lanczos", "low-rank"])
def test_a_cuda_device_gives_the_same(method):
    factors = random_point((8, 9, 10, 8), 1)
    X = gaussian_matrix(8, 12, 2)
    for gram in (None, X @ X.mT):
        here = dmf.sharpness(factors, gram, method=method)
        there = dmf.sharpness(
            [W.cuda() for W in factors], None if gram is None else gram.cuda(), method=method
        )
        assert there.value == pytest.approx(here.value, rel=1e-11)
        assert there.converged
        assert there.gap == pytest.approx(here.gap, rel=1e-4)
        assert there.eigenmatrix.is_cuda
        assert all(U.is_cuda for U in there.eigenvector)
    stack = [torch.stack([W, 2 * W]).cuda() for W in factors]
    assert dmf.sharpness(stack, method=method).value.is_cuda
    torch.testing.assert_close(
        dmf.hessian_spectrum([W.cuda() for W in factors]).cpu(), dmf.hessian_spectrum(factors)
    )
