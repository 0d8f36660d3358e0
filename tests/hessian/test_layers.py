"""The blocks of single layers and the diagonal, flatness with data, and the monitor."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.data_flat import flat_on_data
from dmf_sharpness.network.problem import Problem
from tests.helpers import random_problem
from tests.network.linear_networks import dense_hessian, eigenvalues, random_network, samples


@given(st.integers(0, 10_000))
def test_blocks_and_diagonal_are_those_of_the_dense_hessian_at_any_point(seed):
    network = random_network(seed)
    X = samples(network, 6, seed)
    Y = samples(network[-1:], 6, seed)[:, :1].expand(-1, network[-1].out_features)
    hessian = dense_hessian(network, X, Y)
    model = dmf.from_module(network, X, Y)
    scale = float(hessian.abs().max())
    diagonal = torch.cat([part.reshape(-1) for part in dmf.hessian_diagonal(model)])
    assert float((diagonal - hessian.diagonal()).abs().max()) <= 1e-12 * scale
    start = 0
    for block in dmf.layer_curvature(model):
        size = sum(p.numel() for p in network[block.layer - 1].parameters() if p.requires_grad)
        part = hessian[start : start + size, start : start + size]
        start += size
        dense = eigenvalues(part)
        assert block.sharpness == pytest.approx(float(dense[0]), rel=1e-11)
        assert block.trace == pytest.approx(float(dense.sum()), rel=1e-11)
        assert block.frobenius_norm == pytest.approx(float(part.norm()), rel=1e-11)
        assert block.stability_limit == 2 / block.sharpness
        assert len(block.names) in (1, 2)
    assert start == len(hessian)


def test_tied_layers_have_no_blocks():
    square = nn.Linear(3, 3).double()
    with pytest.raises(ValueError, match="expected no tied layers"):
        dmf.layer_curvature(nn.Sequential(square, square))


@pytest.mark.parametrize("columns", [3, 5, 12])
def test_on_whitened_data_the_least_sharpness_has_a_closed_form(columns):
    """With ``X Xᵀ`` a multiple of the identity, or with few samples of a projection."""
    torch.manual_seed(0)
    shape = (max(5, columns), min(5, columns))
    Q = torch.linalg.qr(torch.randn(shape, dtype=torch.float64))[0]
    X = 0.7 * (Q if columns <= 5 else Q.mT)
    M = torch.randn(3, 5, dtype=torch.float64)
    least = dmf.flat_sharpness(M, 3, input_root=X)
    # A flat minimizer of the factorization of M on the range of the data, and a random one.
    U = Q if columns < 5 else torch.eye(5, dtype=torch.float64)
    flat = dmf.flat_minimizer(M @ U, [6, 6], seed=1)
    flat[0] = flat[0] @ U.mT
    assert dmf.sharpness(flat, input_root=X).value == pytest.approx(least, rel=1e-12)
    assert dmf.is_flat(flat, input_root=X)
    assert dmf.is_flat(dmf.from_module(flat, X.mT))
    other = dmf.random_minimizer(M, [6, 6], seed=1)
    assert dmf.sharpness(other, input_root=X).value > least
    assert not dmf.is_flat(other, input_root=X)


def test_on_other_data_it_is_that_of_the_constructed_minimizer():
    M, factors = random_problem((4, 5, 5, 3), 0)
    X = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    X[0] *= 10
    flat = flat_on_data(Problem(M @ X, X), [5, 5], 1)
    least = dmf.flat_sharpness(M, 3, input_root=X)
    assert dmf.sharpness(flat, input_root=X).value == pytest.approx(least, rel=1e-12)
    for size in (1.0, 2.0**300, 2.0**-300):
        assert dmf.is_flat([size * W for W in flat], input_gram=X @ X.mT)
        assert not dmf.is_flat([size * W for W in factors], input_root=X)
    assert dmf.is_flat(dmf.from_module(flat, X.mT))
    assert not dmf.is_flat(dmf.from_module(factors, X.mT))
    several = dmf.flat_sharpness(torch.stack([M, 2 * M, 0 * M]), 3, input_root=X)
    assert several.tolist() == pytest.approx([least, least * 2 ** (4 / 3), 0])


def test_one_layer_has_one_sharpness():
    M, _ = random_problem((4, 5, 5, 3), 0)
    X = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert dmf.flat_sharpness(M, 1, input_root=X) == pytest.approx(
        dmf.sharpness([M], input_root=X).value
    )


def test_with_biases_no_least_sharpness_is_known():
    with pytest.raises(ValueError, match="expected no biases, frozen or tied layers"):
        dmf.is_flat(dmf.from_module(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).double()))


def trained(steps: int, step_size: float, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    X = torch.randn(30, 4)
    Y = X @ torch.randn(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=step_size)
    monitor = dmf.SharpnessMonitor(model, X, Y, reduction="mean", **options)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(X), Y).backward()
        optimizer.step()
        monitor.step()
    return model, X, Y, monitor


def test_the_monitor_measures_the_hessian_along_a_loop_of_pytorch():
    model, X, Y, monitor = trained(20, 0.1, every=5)
    assert monitor.steps == [0, 5, 10, 15, 20]
    hessian = dense_hessian(model.double(), X.double(), Y.double(), "mean")
    assert monitor.values[-1] == pytest.approx(float(eigenvalues(hessian)[0]), rel=1e-6)


def test_the_monitor_outlives_a_run_that_diverges():
    _, _, _, monitor = trained(200, 50.0, every=100)
    assert monitor.values[0] > 0
    assert all(value != value for value in monitor.values[1:])


def test_the_monitor_draws_the_limit():
    _, _, _, monitor = trained(10, 0.1, every=5)
    axes = monitor.plot(step_size=0.1)
    sharpness, limit = axes.get_lines()
    assert list(sharpness.get_ydata()) == monitor.values
    assert list(limit.get_ydata()) == [20.0, 20.0]
    from matplotlib import pyplot

    pyplot.close(axes.figure)
