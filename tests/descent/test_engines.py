"""The two engines against each other and against plain autograd; momentum and minibatches."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.descent import compiled_engine
from dmf_sharpness.descent.run import Outcome, gradient_descent
from dmf_sharpness.descent.state import Minibatch
from dmf_sharpness.minimizers.targets import gaussian_matrix, regression
from dmf_sharpness.network.factors import flatten, unflatten
from tests.helpers import networks, random_point

compiled = pytest.mark.skipif(not compiled_engine.available(), reason="the kernel was not compiled")


def batch_of(network, count, scale=0.4):
    points = torch.stack([scale * flatten(random_point(network, seed)) for seed in range(count)])
    return unflatten(points, network)


@pytest.mark.parametrize("columns", [2, 4])
@pytest.mark.parametrize("engine", ["torch", pytest.param("compiled", marks=compiled)])
def test_two_steps_by_hand(engine, columns):
    """Of ``‖W_3W_2W_1S − T‖²`` with a root that is not the identity, for one run of three."""
    W = [each.numpy().copy() for each in random_point((2, 3, 4, 3), 1)]
    S, T = gaussian_matrix(2, columns, 2).numpy(), gaussian_matrix(3, columns, 3).numpy()
    run = gradient_descent(
        [torch.from_numpy(each.copy()).expand(3, -1, -1) for each in W], torch.from_numpy(T),
        torch.tensor([1e-3, 2e-3, 3e-3], dtype=torch.float64), 2, input_root=torch.from_numpy(S),
        engine=engine,
    )  # fmt: skip
    for _ in range(2):
        E = 2 * 2e-3 * (W[2] @ W[1] @ W[0] @ S - T)
        W = [
            W[0] - (W[2] @ W[1]).T @ E @ S.T,
            W[1] - W[2].T @ E @ (W[0] @ S).T,
            W[2] - E @ (W[1] @ W[0] @ S).T,
        ]
    for ours, expected in zip(run.factors, W, strict=True):
        assert ours[1].numpy() == pytest.approx(expected, rel=1e-12)
    left = float(((W[2] @ W[1] @ W[0] @ S - T) ** 2).sum())
    assert float(run.loss[1]) == pytest.approx(left, rel=1e-12)


@compiled
@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(1, 19), st.sampled_from([(0.0, False), (0.9, False), (0.5, True)]))
def test_engines_agree(network, count, method):
    momentum, nesterov = method
    target, starts = gaussian_matrix(network[-1], network[0], 0), batch_of(network, count)
    eta = torch.linspace(1e-4, 2e-3, count, dtype=torch.float64)
    runs = [
        gradient_descent(
            starts, target, eta, 100, momentum=momentum, nesterov=nesterov,
            observe_every=7, keep_path=True, engine=engine,
        )
        for engine in ("compiled", "torch")
    ]  # fmt: skip
    ours, reference = (flatten(run.factors) for run in runs)
    assert float((ours - reference).norm(dim=1).div(reference.norm(dim=1)).max()) < 1e-12
    for name in ("step", "loss", "distance", "path"):
        a, b = (getattr(run.trajectory, name) for run in runs)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)


@compiled
@pytest.mark.parametrize("method", [(0.0, False), (0.9, False), (0.5, True)])
def test_engines_agree_on_layers_of_several_tiles(method):
    """Of 7 to 16 rows and columns, of which each has a velocity of its own."""
    momentum, nesterov = method
    target, starts = gaussian_matrix(8, 7, 0), batch_of((7, 16, 11, 8), 9, 0.2)
    runs = [
        gradient_descent(
            starts, target, 1e-3, 60, momentum=momentum, nesterov=nesterov, engine=engine
        )
        for engine in ("compiled", "torch")
    ]
    ours, reference = (flatten(run.factors) for run in runs)
    torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)


@compiled
def test_a_run_is_the_same_to_the_last_bit_wherever_it_stands():
    target, starts = gaussian_matrix(4, 3, 0), batch_of((3, 5, 4), 41)
    eta = torch.linspace(0.001, 0.2, 41, dtype=torch.float64)
    whole = gradient_descent(starts, target, eta, 3000)
    order = torch.randperm(41, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        shuffled = gradient_descent([W[order] for W in starts], target, eta[order], 3000)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(flatten(whole.factors)[order], flatten(shuffled.factors))
    assert torch.equal(whole.outcome[order], shuffled.outcome)
    assert torch.equal(whole.steps[order], shuffled.steps)
    for part in torch.arange(41).split(10):
        split = gradient_descent([W[part] for W in starts], target, eta[part], 3000)
        assert torch.equal(flatten(whole.factors)[part], flatten(split.factors))


@pytest.mark.parametrize("engine", [pytest.param("compiled", marks=compiled), "torch"])
def test_overflow_ends_a_run_at_its_last_finite_iterate(engine):
    target, starts = gaussian_matrix(3, 3, 0), batch_of((3, 4, 3), 3)
    eta = torch.tensor([1e-3, 50.0, 1e-3], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = gradient_descent(starts, target, eta, 400, engine=engine)
    assert run.outcome.tolist() == [Outcome.STEP_LIMIT, Outcome.DIVERGED, Outcome.STEP_LIMIT]
    assert bool(torch.isfinite(flatten(run.factors)).all())
    assert run.steps[1] < 20
    alone = gradient_descent([W[2:] for W in starts], target, 1e-3, 400, engine=engine)
    torch.testing.assert_close(flatten(run.factors)[2:], flatten(alone.factors))


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.7, False), (0.7, True)])
def test_momentum_is_that_of_torch_optim(momentum, nesterov):
    network = (3, 4, 2)
    target, starts = gaussian_matrix(2, 3, 0), batch_of(network, 1)
    W = [layer[0].clone().requires_grad_() for layer in starts]
    optimizer = torch.optim.SGD(W, lr=1e-3, momentum=momentum, nesterov=nesterov)
    for _ in range(60):
        optimizer.zero_grad()
        (target - W[1] @ W[0]).square().sum().backward()
        optimizer.step()
    run = gradient_descent(starts, target, 1e-3, 60, momentum=momentum, nesterov=nesterov)
    torch.testing.assert_close(
        flatten(run.factors)[0], flatten([w.detach() for w in W]), rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize(("momentum", "nesterov", "limit"), [(0.9, False, 3.8), (0.5, True, 1.5)])
def test_the_limit_of_stability_with_momentum(momentum, nesterov, limit):
    target = gaussian_matrix(3, 3, 1)
    factors = dmf.minimizer_with_sharpness(target, [4], 2 * dmf.flat_sharpness(target, 2), 2)
    s = dmf.sharpness(factors)
    start = [
        (W + 1e-8 * U)[None].repeat(2, 1, 1) for W, U in zip(factors, s.eigenvector, strict=True)
    ]
    eta = torch.tensor([0.99, 1.01], dtype=torch.float64) * limit / s.value
    run = gradient_descent(
        start, target, eta, 1000, momentum=momentum, nesterov=nesterov, observe_every=1,
        reference=flatten(factors).expand(2, -1),
    )  # fmt: skip
    kept, left = run.trajectory.distance.nan_to_num(nan=0.0).mT
    assert float(kept[400:].max()) < 1e-8
    assert float(left.max()) > 1e-3


def weights_of(shape, seed):
    """Weights of very different sizes, about half of them zero."""
    rng = np.random.default_rng(seed)
    weights = 10.0 ** rng.uniform(-2, 0.5, shape) * rng.integers(0, 2, shape)
    weights[..., 0, 0] = 1
    return torch.from_numpy(weights)


@compiled
@settings(max_examples=20, deadline=None)
@given(networks(), st.sampled_from([(0.0, False), (0.9, False), (0.5, True)]), st.booleans())
def test_engines_agree_on_missing_entries_and_a_run_does_not_depend_on_others(
    network, method, shared
):
    momentum, nesterov = method
    target, starts = gaussian_matrix(network[-1], network[0], 0), batch_of(network, 11)
    weights = weights_of((network[-1], network[0]) if shared else (11, *target.shape), 1)
    asked = {"momentum": momentum, "nesterov": nesterov, "observe_every": 7, "keep_path": True}
    runs = [
        gradient_descent(starts, target, 2e-3, 100, observed=weights, engine=engine, **asked)
        for engine in ("compiled", "torch")
    ]
    for name in ("step", "loss", "distance", "path"):
        a, b = (getattr(run.trajectory, name) for run in runs)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)
    alone = gradient_descent(
        [W[9:] for W in starts], target, 2e-3, 100,
        observed=weights if shared else weights[9:], engine="compiled", **asked,
    )  # fmt: skip
    assert torch.equal(flatten(alone.factors), flatten(runs[0].factors)[9:])


@pytest.mark.parametrize("engine", [pytest.param("compiled", marks=compiled), "torch"])
@pytest.mark.parametrize("columns", [None, 4])
def test_descent_on_observed_entries_is_that_of_autograd(engine, columns):
    """The loss is written as a sum over the observed entries; the others are missing."""
    network, r = (3, 4, 2), columns or 3
    starts, target, weights = batch_of(network, 3), gaussian_matrix(2, r, 0), weights_of((2, r), 1)
    root = None if columns is None else gaussian_matrix(3, columns, 5)
    run = gradient_descent(
        starts, target.masked_fill(weights == 0, torch.nan), 1e-2, 40, input_root=root,
        observed=weights, engine=engine,
    )  # fmt: skip
    for b in range(3):
        W = [layer[b].clone().requires_grad_() for layer in starts]

        def loss(W):
            product = W[1] @ W[0] if root is None else W[1] @ W[0] @ root
            terms = [
                weights[i, j] * (target[i, j] - product[i, j]) ** 2
                for i in range(2)
                for j in range(r)
                if weights[i, j] > 0
            ]
            return sum(terms)

        for _ in range(40):
            gradients = torch.autograd.grad(loss(W), W)
            W = [
                (w - 1e-2 * g).detach().requires_grad_() for w, g in zip(W, gradients, strict=True)
            ]
        for layer, expected in zip(run.factors, W, strict=True):
            torch.testing.assert_close(layer[b], expected.detach(), rtol=1e-12, atol=1e-14)
        assert float(run.loss[b]) == pytest.approx(float(loss(W).detach()), rel=1e-12)


@pytest.mark.parametrize("engine", [pytest.param("compiled", marks=compiled), "torch"])
def test_the_levels_of_the_outcomes_are_those_of_the_observed_entries(engine):
    """A loss of 1e-20 of the observed entries' squares counts as convergence, however large the others."""
    target = torch.tensor([[1.0, 1e9]], dtype=torch.float64)
    mask = torch.tensor([[True, False]])
    starts = [
        torch.ones(1, 1, 2, dtype=torch.float64) / 2,
        torch.ones(1, 1, 1, dtype=torch.float64),
    ]
    run = gradient_descent(starts, target, 0.1, 5000, observed=mask, engine=engine)
    assert run.outcome.tolist() == [Outcome.CONVERGED]
    assert float(run.loss) <= 1e-20
    away = gradient_descent(starts, target, 3.0, 5000, observed=mask, engine=engine)
    assert away.outcome.tolist() == [Outcome.DIVERGED]
    nothing = gradient_descent(starts, 0 * target, 0.1, 5000, observed=mask, engine=engine)
    assert nothing.outcome.tolist() == [Outcome.CONVERGED]
    zero = [torch.tensor([[[0.0, 3.0]]], dtype=torch.float64), starts[1]]
    there = gradient_descent(zero, 0 * target, 0.1, 5000, observed=mask, engine=engine)
    assert (there.outcome.tolist(), there.steps.tolist()) == ([Outcome.CONVERGED], [0])


def same_on_minibatches(network, size, steps, method=(0.0, False)):
    X, Y = gaussian_matrix(network[0], 9, 1), gaussian_matrix(network[-1], 9, 2)
    data, starts = regression(X, Y), batch_of(network, 9, 0.3)
    runs = [
        gradient_descent(
            starts, data.target, 1e-4, steps, input_root=data.input_root, observe_every=19,
            minibatch=Minibatch(X, Y, size, 3), momentum=method[0], nesterov=method[1],
            keep_path=True, engine=engine,
        )
        for engine in ("compiled", "torch")
    ]  # fmt: skip
    for name in ("step", "loss", "distance", "path"):
        a, b = (getattr(run.trajectory, name) for run in runs)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)


@compiled
@settings(max_examples=15, deadline=None)
@given(networks(), st.integers(1, 9), st.sampled_from([(0.0, False), (0.9, False), (0.5, True)]))
def test_engines_agree_on_minibatches(network, size, method):
    same_on_minibatches(network, size, 60, method)


@compiled
def test_after_a_stretch_the_draws_go_on_with_the_next_step():
    same_on_minibatches((3, 4, 2), 2, 2020)


@compiled
@pytest.mark.parametrize("nesterov", [False, True])
def test_after_a_stretch_the_momentum_goes_on(nesterov):
    starts, target = batch_of((3, 4, 2), 2), gaussian_matrix(2, 3, 1)
    ends = [
        gradient_descent(
            starts, target, 1e-6, 2020, momentum=0.99, nesterov=nesterov, engine=engine
        )
        for engine in ("compiled", "torch")
    ]
    assert all((end.steps == 2020).all() for end in ends)
    torch.testing.assert_close(*(flatten(end.factors) for end in ends), rtol=1e-12, atol=1e-14)


def test_minibatches_are_unbiased_and_the_whole_batch_is_no_noise():
    data = regression(gaussian_matrix(3, 12, 1), gaussian_matrix(2, 12, 2))
    starts = batch_of((3, 4, 2), 2)
    whole = Minibatch(data.inputs, data.outputs, 12, 0)
    noisy = Minibatch(data.inputs, data.outputs, 3, 0)
    options = {"input_root": data.input_root}
    plain = gradient_descent(starts, data.target, 1e-3, 30, **options)
    same = gradient_descent(starts, data.target, 1e-3, 30, minibatch=whole, **options)
    torch.testing.assert_close(flatten(plain.factors), flatten(same.factors))
    other = gradient_descent(starts, data.target, 1e-3, 30, minibatch=noisy, **options)
    assert float((flatten(plain.factors) - flatten(other.factors)).norm()) > 1e-4
    targets, roots = zip(*(noisy.draw(step) for step in range(20000)), strict=True)
    mean = torch.stack([S @ S.mT for S in roots]).mean(0)
    torch.testing.assert_close(mean, data.inputs @ data.inputs.mT, rtol=0.1, atol=0.3)
    assert targets[0].shape == (2, 3)


@pytest.mark.parametrize("engine", [pytest.param("compiled", marks=compiled), "torch"])
@pytest.mark.parametrize("size", [1, 5])
def test_a_step_on_a_part_of_the_data_is_that_of_autograd_on_these_columns(size, engine):
    inputs, outputs = gaussian_matrix(3, 12, 1), gaussian_matrix(2, 12, 2)
    data, starts = regression(inputs, outputs), batch_of((3, 4, 2), 2)
    run = gradient_descent(
        starts, data.target, 1e-3, 3, input_root=data.input_root,
        minibatch=Minibatch(inputs, outputs, size, 7), engine=engine,
    )  # fmt: skip
    for b in range(2):
        W = [layer[b].clone().requires_grad_() for layer in starts]
        for step in range(3):
            columns = np.random.default_rng([7, step]).choice(12, size, replace=False)
            residual = outputs[:, columns] - W[1] @ W[0] @ inputs[:, columns]
            gradients = torch.autograd.grad(12 / size * residual.square().sum(), W)
            W = [
                (w - 1e-3 * g).detach().requires_grad_() for w, g in zip(W, gradients, strict=True)
            ]
        for layer, expected in zip(run.factors, W, strict=True):
            torch.testing.assert_close(layer[b], expected.detach(), rtol=1e-12, atol=1e-14)
        loss = (data.target - W[1] @ W[0] @ data.input_root).square().sum()
        assert float(run.loss[b]) == pytest.approx(float(loss.detach()), rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"momentum": 1.0}, r"momentum: expected a number in \[0, 1\)"),
        ({"nesterov": True}, "nesterov: expected with a positive momentum"),
        ({"target": torch.ones(5, 2, 2, dtype=torch.float64)}, "target: expected shape"),
        ({"target": torch.ones(3, 2, dtype=torch.float64)}, r"target: expected shape \(2, 2\)"),
        ({"directions": torch.ones(2, 1, 5, dtype=torch.float64)}, "directions: expected shape"),
    ],
)
def test_bad_input_is_refused(change, message):
    good = {"factors": batch_of((2, 3, 2), 2), "target": gaussian_matrix(2, 2, 0)}
    with pytest.raises(ValueError, match=message):
        gradient_descent(**(good | {"step_size": 0.1, "steps": 5} | change))
