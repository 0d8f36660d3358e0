"""The nearest minimizer of networks of PyTorch, with biases, frozen layers and tied layers."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import dmf_sharpness as dmf
from dmf_sharpness.network.linear_model import trained_vector
from tests.network.linear_networks import dense_hessian, eigenvalues, random_network, samples


def displaced(network: nn.Sequential, size: float) -> None:
    """Noise in what is trained, in place."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            with torch.no_grad():
                parameter += size * torch.randn_like(parameter)


def load(network: nn.Sequential, model: dmf.LinearModel) -> None:
    """The parameters of the model in the network, in place."""
    for layer, W, b in zip(network, model.factors, model.biases, strict=True):
        with torch.no_grad():
            layer.weight.copy_(W)
            if b is not None:
                layer.bias.copy_(b)


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=15)
def test_the_end_is_a_minimizer_and_the_displacement_is_least(seed, tied):
    network = random_network(seed, tied=tied)
    X = samples(network, 12, seed)
    Y = network(X).detach()
    torch.manual_seed(seed)
    displaced(network, 1e-4)
    model = dmf.from_module(network, X, Y)
    near = dmf.polish(model)
    assert near.residual <= 1e-11
    moved = trained_vector(near.model) - trained_vector(model)
    load(network, near.model)
    assert float((network(X).detach() - Y).norm()) <= 1e-10 * float(Y.norm())
    assert near.distance == pytest.approx(float(moved.norm() / trained_vector(near.model).norm()))
    # Independently: no part of the displacement is in the null space of the Hessian at the end.
    values, vectors = torch.linalg.eigh(dense_hessian(network, X, Y))
    shares = values / values[-1]
    assume(not bool(((shares > 1e-13) & (shares < 1e-8)).any()))  # or the null space is in doubt
    null = vectors[:, shares <= 1e-13]
    assert float((null.mT @ moved).norm()) <= 1e-5 * float(moved.norm())
    # Only what is trained has moved.
    frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    again = [*random_network(seed, tied=tied).parameters()]
    kept = [parameter for parameter in again if not parameter.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(frozen, kept, strict=True))


def test_a_network_trained_in_single_precision_is_brought_to_a_minimizer():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 3))
    X = torch.randn(60, 5)
    Y = X @ torch.randn(5, 3) + 0.1 * torch.randn(60, 3) + 1
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(X), Y).backward()
        optimizer.step()
    model = dmf.from_module(network, X, Y, reduction="mean", promote=True)
    near = dmf.polish(model)
    found = dmf.sharpness(near.model)
    assert found.misfit <= 1e-10
    assert found.loss == "mean of squares"
    assert 0 < near.distance < 1e-3
    network = network.double()
    load(network, near.model)
    dense = eigenvalues(dense_hessian(network, X.double(), Y.double(), "mean"))
    assert found.value == pytest.approx(float(dense[0]), rel=1e-12)
    assert float(dense[-1]) >= -1e-12 * found.value


def test_a_model_without_biases_is_polished_as_its_factors():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Linear(5, 3, bias=False)).double()
    X = samples(network, 9, 0)
    Y = network(X).detach()
    displaced(network, 1e-3)
    model = dmf.from_module(network, X, Y)
    near = dmf.polish(model)
    alone = dmf.polish(model.factors, model.problem)
    for W, V, U in zip(near.factors, alone.factors, near.model.factors, strict=True):
        assert torch.equal(W, V)
        assert torch.equal(W, U)
    assert near.model.biases == [None, None]


def test_what_cannot_be_polished_is_told_in_one_line():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 3)).double()
    X = samples(network, 9, 0)
    model = dmf.from_module(network, X, torch.randn(9, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="expected a minimizer near them, got none"):
        dmf.polish(model)
    with pytest.raises(ValueError, match="problem: expected None beside a model"):
        dmf.polish(model, model.problem)
    with pytest.raises(ValueError, match="problem: expected one beside factors"):
        dmf.polish(model.factors)
