"""Networks with biases, frozen layers and tied layers, against dense Hessians by autograd."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dmf_sharpness as dmf
from tests.network.linear_networks import dense_hessian, eigenvalues, random_network, samples


def orthogonal_residual(signal: torch.Tensor, outputs: int, seed: int) -> torch.Tensor:
    """Rows of a residual that is orthogonal to the signal, ``(n, d)``, and to the ones."""
    n = len(signal)
    seen = torch.cat([signal, torch.ones(n, 1, dtype=torch.float64)], 1)
    E = torch.randn(n, outputs, generator=torch.Generator().manual_seed(seed)).double()
    return E - seen @ torch.linalg.lstsq(seen, E).solution


@pytest.mark.parametrize("count", [None, 1, 3, 12])
@pytest.mark.parametrize("tied", [False, True])
def test_the_whole_spectrum_is_the_dense_hessians_on_240_networks(count, tied):
    """30 for each case; without data, and with fewer and with more samples than widths."""
    for seed in range(30):
        network = random_network(seed, tied=tied)
        X = None if count is None else samples(network, count, seed)
        dense = eigenvalues(dense_hessian(network, X))
        model = dmf.from_module(network, X)
        found = dmf.sharpness(model)
        scale = float(dense[0])
        assert abs(found.value - scale) <= 1e-12 * scale
        assert found.converged
        spectrum = dmf.hessian_spectrum(model)
        assert len(spectrum) <= len(dense)
        padded = torch.cat([spectrum, torch.zeros(len(dense) - len(spectrum))])
        assert float((padded - dense).abs().max()) <= 1e-12 * scale
        assert dmf.hessian_trace(model) == pytest.approx(float(dense.sum()), rel=1e-12)
        norm = float(torch.linalg.vector_norm(dense))
        assert dmf.hessian_frobenius_norm(model) == pytest.approx(norm, rel=1e-12)


@given(st.integers(0, 10_000), st.booleans())
def test_a_residual_that_is_orthogonal_to_the_inputs_changes_nothing(seed, mean):
    """The data are not realizable, so the residual does not vanish at the minimum."""
    network = random_network(seed)
    X = samples(network, 12, seed)
    Y = network(X).detach()
    Y = Y + orthogonal_residual(X, Y.shape[1], seed)
    convention = {"reduction": "mean" if mean else "sum", "half": mean}
    dense = eigenvalues(dense_hessian(network, X, Y, **convention))
    found = dmf.sharpness(network, inputs=X, targets=Y, **convention)
    assert abs(found.value - float(dense[0])) <= 1e-12 * float(dense[0])
    assert found.misfit <= 1e-10
    assert found.loss == ("½ mean of squares" if mean else "sum of squares")


def test_below_frozen_layers_the_residual_need_only_be_orthogonal_to_what_is_trained_on():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3), nn.Linear(3, 2)).double()
    network[0].requires_grad_(False)
    X = samples(network, 12, 0)
    Y = network(X).detach()
    Y = Y + orthogonal_residual(network[0](X).detach(), Y.shape[1], 0)
    dense = float(eigenvalues(dense_hessian(network, X, Y))[0])
    assert dmf.sharpness(network, inputs=X, targets=Y).value == pytest.approx(dense, rel=1e-12)
    network[0].requires_grad_(True)  # the negative control: the same residual, all trained
    with pytest.raises(ValueError, match="targets: expected a minimizer"):
        dmf.sharpness(network, inputs=X, targets=Y)


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([1e-6, 1e-2, 1.0]))
def test_what_a_residual_changes_is_below_the_misfit(seed, tied, size):
    network = random_network(seed, tied=tied)
    X = samples(network, 8, seed)
    Y = network(X).detach() + size * samples(network[-1:], 8, seed + 1)[:, :1]
    dense = float(eigenvalues(dense_hessian(network, X, Y))[0])
    found = dmf.sharpness(network, inputs=X, targets=Y, rtol=1e9)
    assert abs(dense - found.value) <= (found.misfit + 1e-12) * found.value


@given(st.integers(0, 10_000), st.booleans())
def test_any_point(seed, tied):
    network = random_network(seed, tied=tied)
    X = samples(network, 8, seed)
    Y = samples(network[-1:], 8, seed)[:, :1].expand(-1, network[-1].out_features)
    hessian = dense_hessian(network, X, Y, "mean")
    dense = eigenvalues(hessian)
    model = dmf.from_module(network, X, Y, reduction="mean")
    point = dmf.sharpness_at(model, lowest=True)
    scale = float(dense.abs().max())
    assert abs(point.value - float(dense[0])) <= 1e-12 * scale
    assert abs(point.lowest - float(dense[-1])) <= 1e-12 * scale
    again = dmf.sharpness_at(model, start=point)
    assert abs(again.value - point.value) <= 1e-12 * scale


@given(st.integers(0, 10_000), st.booleans())
def test_eigenvectors_are_those_of_the_parameters_in_their_order(seed, tied):
    network = random_network(seed, tied=tied)
    X = samples(network, 8, seed)
    hessian = dense_hessian(network, X)
    found = dmf.sharpness(network, inputs=X)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert [U.shape for U in found.eigenvector] == [parameter.shape for parameter in trained]
    v = torch.cat([U.reshape(-1) for U in found.eigenvector])
    assert float((hessian @ v - found.value * v).norm()) <= 1e-10 * found.value
    values, vectors = dmf.hessian_eigenvectors(dmf.from_module(network, X))
    defect = vectors @ hessian - values[:, None] * vectors
    assert float(defect.norm()) <= 1e-10 * found.value
    # Those of eigenvalues near rounding are orthogonal to fewer digits.
    large = vectors[values > 1e-5 * values[0]]
    assert float((large @ large.mT - torch.eye(len(large))).norm()) <= 1e-9


@given(st.integers(0, 10_000))
def test_lanczos_and_the_bound_agree_with_the_dense_method(seed):
    network = random_network(seed)
    X = samples(network, 8, seed)
    dense = dmf.sharpness(network, inputs=X)
    if dense.method == "dense":  # and not that of a network without biases
        other = dmf.sharpness(network, inputs=X, method="lanczos")
        assert other.value == pytest.approx(dense.value, rel=1e-12)
        assert other.gap == pytest.approx(dense.gap, abs=1e-5 * dense.value)
    assert dense.upper_bound >= dense.value * (1 - 1e-12)
    assert dense.stability_limit == 2 / dense.value


def test_the_bias_matters():
    """The negative control: without the ones the value is another one."""
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    X = samples(network, 7, 0)
    without = [layer.weight for layer in network]
    value = dmf.sharpness(network, inputs=X).value
    assert abs(dmf.sharpness(without, inputs=X).value / value - 1) > 1e-3


def test_many_samples_and_a_wide_network_go_by_lanczos():
    network = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 20)).double()
    X = samples(network, 200, 0)
    found = dmf.sharpness(network, inputs=X)
    assert (found.method, found.converged) == ("lanczos", True)
    point = dmf.sharpness_at(dmf.from_module(network, X))
    assert point.value == pytest.approx(found.value, rel=1e-12)
