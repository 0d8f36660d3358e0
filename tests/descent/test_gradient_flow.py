"""The end of gradient flow, against an integrator of high order and against what the flow keeps."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import dmf_sharpness as dmf
from dmf_sharpness.descent.gradient_flow import conserved_drift, conserved_quantities, gradient_flow
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.problem import Problem


def batch_of(widths, kinds, seed):
    starts = [dmf.standard_start(widths, kind, [seed, k]) for k, kind in enumerate(kinds)]
    return [torch.stack(layer) for layer in zip(*starts, strict=True)]


def integrated(factors, target, root, until):
    """The flow at a time, by Dormand and Prince's method of order 8, with gradients written out."""
    shapes = [W.shape for W in factors]
    ends = np.cumsum([W.numel() for W in factors])[:-1]
    S = np.eye(shapes[0][1]) if root is None else root.numpy()

    def slope(_, y):
        W = [part.reshape(s) for part, s in zip(np.split(y, ends), shapes, strict=True)]
        before = [S]
        for w in W:
            before.append(w @ before[-1])
        back, parts = 2 * (before[-1] - target.numpy()), []
        for w, seen in zip(reversed(W), reversed(before[:-1]), strict=True):
            parts.append(back @ seen.T)
            back = w.T @ back
        return -np.concatenate([part.ravel() for part in reversed(parts)])

    y = np.concatenate([W.numpy().ravel() for W in factors])
    end = solve_ivp(slope, (0, until), y, "DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    return [
        torch.from_numpy(part.reshape(s))
        for part, s in zip(np.split(end, ends), shapes, strict=True)
    ]


@pytest.mark.parametrize("widths", [[1, 3, 1], [3, 4, 2], [2, 4, 4, 3]])
@pytest.mark.parametrize("on_data", [False, True])
def test_the_flow_ends_where_an_integrator_of_high_order_does(widths, on_data):
    target = gaussian_matrix(widths[-1], widths[0], 4)
    root = 0.5 * gaussian_matrix(widths[0], widths[0], 5) if on_data else None
    root = None if root is None else root + 1.5 * torch.eye(widths[0], dtype=torch.float64)
    starts = batch_of(widths, ["fan_in", "xavier", "orthogonal"], 7)
    flow = gradient_flow(starts, Problem(target.expand(3, -1, -1), root))
    assert flow.ended.all()
    for b in range(3):
        end = integrated([W[b] for W in starts], target, root, 300.0)
        size = torch.sqrt(sum(W.square().sum() for W in end))
        gap = torch.sqrt(
            sum((a[b] - e).square().sum() for a, e in zip(flow.factors, end, strict=True))
        )
        assert float(gap / size) < 3e-6
    assert float(flow.drift.max()) < 1e-6


def test_two_layers_and_a_scalar_target_end_where_what_is_kept_says():
    M = torch.tensor([[1.3]], dtype=torch.float64)
    starts = batch_of([1, 5, 1], ["fan_in", "xavier", "small", "orthogonal"], 2)
    flow = gradient_flow(starts, Problem(M.expand(4, 1, 1)))
    x, y = starts[0][:, :, 0], starts[1][:, 0, :]
    p, S = (x * y).sum(1), x.square().sum(1) + y.square().sum(1)
    predicted = 2 * torch.sqrt(S**2 - 4 * p**2 + 4 * 1.3**2)
    assert dmf.sharpness(flow.factors).value.numpy() == pytest.approx(predicted.numpy(), rel=1e-6)


def test_a_flow_into_a_saddle_has_no_end():
    starts = [W[None] for W in dmf.standard_start([1, 1, 1], "identity")]
    flow = gradient_flow(starts, Problem(torch.tensor([[[-1.0]]], dtype=torch.float64)))
    assert not flow.ended.any()
    assert torch.isnan(flow.factors[0]).all()


def test_balanced_factors_keep_zeros():
    M = gaussian_matrix(3, 2, 1)
    W = dmf.balanced_minimizer(M, [4, 3], 0)
    assert max(float(Q.abs().max()) for Q in conserved_quantities(W)) < 1e-12
    assert float(conserved_drift(W, W)) == 0
    moved = [2 * W[0], *W[1:]]
    assert float(conserved_drift(W, moved)) > 0.1
