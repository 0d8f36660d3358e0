"""Chains of single neurons: descent never raises the sharpness of the gradient flow's solution.

That is the theorem of Kreisler et al. (arXiv:2305.13064). The gradient flow keeps all differences
``w_i² − w_1²``, so its solution is the point with the same differences and the product ``M``. It is found
here by bisection. The sharpness there is ``2 Σ_i (M/w_i)²``.
"""

import numpy as np
import pytest
import scipy.optimize
import torch

import dmf_sharpness as dmf
from dmf_sharpness.compiled import lanes

ENGINES = [
    "torch",
    pytest.param(
        "compiled",
        marks=pytest.mark.skipif(not lanes.available(), reason="no compiled kernel"),
    ),
]


def flow_solution_sharpness(weights, target):
    squares = weights**2 - (weights**2).min()

    def excess(least):
        return np.log(least + squares).sum() - 2 * np.log(target)

    high = target ** (2 / len(weights)) + 1  # at which the product is too large
    least = scipy.optimize.brentq(excess, 1e-300, high, xtol=1e-300, rtol=1e-15)
    return 2 * (target**2 / (least + squares)).sum()


def test_the_solution_is_where_the_flow_ends():
    """Against descent with small steps, and the closed form at two layers."""
    for depth in (2, 3, 5):
        weights, target = np.linspace(0.6, 1.5, depth), 1.2
        start = [torch.full((1, 1, 1), w, dtype=torch.float64) for w in weights]
        ends = []
        for eta in (2e-3, 1e-3):
            run = dmf.gradient_descent(start, torch.full((1, 1), target).double(), eta, 20_000)
            ends.append(float(dmf.sharpness(run.factors).value))
        predicted = flow_solution_sharpness(weights, target)
        assert 2 * ends[1] - ends[0] == pytest.approx(predicted, rel=1e-4)
    x, y, M = 0.6, 1.5, 1.2
    closed = 2 * np.sqrt((x**2 + y**2) ** 2 - 4 * (x * y) ** 2 + 4 * M**2)
    assert flow_solution_sharpness(np.array([x, y]), M) == pytest.approx(closed, rel=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_descent_never_raises_it(depth, engine):
    """Starts beside minimizers whose sharpness is between 2/η and 2^{3/2}/η, so that all runs leave them."""
    rng = np.random.default_rng([depth, 8])
    target, count = 1.0, 12
    logs = rng.normal(0, 0.5, (count, depth))
    weights = np.exp(logs - logs.mean(1, keepdims=True)) * 0.98  # of a product below the target
    start = [torch.from_numpy(weights[:, i, None, None]) for i in range(depth)]
    sharpness = np.array([flow_solution_sharpness(w, target) for w in weights])
    eta = np.linspace(2.05, 2 * np.sqrt(2), count) / sharpness
    run = dmf.gradient_descent(
        start, torch.ones(1, 1, dtype=torch.float64), eta, 400, observe_every=1,
        keep_path=True, engine=engine,
    )  # fmt: skip
    path = run.observed.iterates.numpy()
    rose = 0
    for b in range(count):
        seen = [w for w in path[:, b] if np.isfinite(w).all()]
        flow = np.array([flow_solution_sharpness(w, target) for w in seen])
        assert (np.diff(flow) <= 1e-12 * flow[:-1]).all()
        assert flow[-1] < flow[0] * (1 - 1e-3)
        loss = run.observed.loss[: len(seen), b].numpy()
        rose += (np.diff(loss) > 0).any()
    assert rose == count, "the loss of the same runs, which does rise"


def test_with_two_layers_it_rises_exactly_where_the_residual_is_large():
    """The control: a start with ``η²g² > 2``, which the theorem leaves out."""
    target, eta = 1.0, 0.2
    for product, rises in [(-2.3, False), (-2.8, True)]:
        x = 1.2
        start = [torch.tensor([[[v]]], dtype=torch.float64) for v in (x, product / x)]
        run = dmf.gradient_descent(
            start, torch.ones(1, 1, dtype=torch.float64), eta, 1, observe_every=1, keep_path=True
        )
        before, after = (
            (w[0] ** 2 + w[1] ** 2) ** 2 - 4 * (w[0] * w[1]) ** 2
            for w in run.observed.iterates[:, 0].numpy()
        )
        assert ((eta * 2 * (product - target)) ** 2 > 2) == rises
        assert (after > before) == rises
