import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.descent.run import Outcome, gradient_descent
from dmf_sharpness.minimizers.targets import gaussian_matrix, regression
from dmf_sharpness.network.factors import flatten, unflatten
from tests.helpers import random_point, random_problem


def batch_of(network, seeds):
    points = torch.stack([flatten(random_point(network, seed)) for seed in seeds])
    return unflatten(points, network)


def autograd_steps(factors, target, step_size, steps, inputs=None):
    """Gradient descent on one run, as one would write it with autograd."""
    W = [layer.clone().requires_grad_() for layer in factors]
    for _ in range(steps):
        signal = inputs
        for layer in W:
            signal = layer if signal is None else layer @ signal
        gradient = torch.autograd.grad((target - signal).square().sum(), W)
        with torch.no_grad():
            for layer, g in zip(W, gradient, strict=True):
                layer -= step_size * g
    return flatten([layer.detach() for layer in W])


@pytest.mark.parametrize("network", [(3, 3, 3, 3), (4, 6, 2), (1, *[3] * 9, 1)])
def test_trajectories_are_those_of_an_autograd_loop(network):
    target, starts = gaussian_matrix(network[-1], network[0], 0), batch_of(network, range(5))
    starts = [0.5 * W for W in starts]
    eta = torch.linspace(1e-4, 5e-3, 5, dtype=torch.float64)
    run = gradient_descent(starts, target, eta, 100)
    for b in range(5):
        expected = autograd_steps([W[b] for W in starts], target, eta[b], 100)
        ours = flatten([W[b] for W in run.factors])
        assert float((ours - expected).norm() / expected.norm()) < 1e-12


def test_data_enters_through_the_input_root():
    inputs, outputs = gaussian_matrix(3, 25, 1), gaussian_matrix(2, 25, 2)
    data = regression(inputs, outputs)
    starts = [0.3 * W for W in batch_of((3, 4, 2), range(3))]
    run = gradient_descent(starts, data.target, 1e-3, 50, input_root=data.input_root)
    for b in range(3):
        expected = autograd_steps([W[b] for W in starts], outputs, 1e-3, 50, inputs)
        torch.testing.assert_close(
            flatten([W[b] for W in run.factors]), expected, rtol=1e-11, atol=1e-12
        )


def test_a_run_does_not_depend_on_its_neighbours():
    target, starts = gaussian_matrix(3, 3, 0), batch_of((3, 4, 3), range(6))
    starts = [0.5 * W for W in starts]
    eta = torch.tensor([0.01, 0.02, 5.0, 0.03, 0.01, 8.0], dtype=torch.float64)
    whole = gradient_descent(starts, target, eta, 700, observe_every=50)
    for b in range(6):
        alone = gradient_descent([W[b : b + 1] for W in starts], target, eta[b : b + 1], 700)
        assert whole.outcome[b] == alone.outcome[0]
        assert whole.steps[b] == alone.steps[0]
        torch.testing.assert_close(
            whole.loss[b], alone.loss[0], rtol=1e-9, atol=1e-30, equal_nan=True
        )


def test_outcomes_and_their_step_counts():
    target = torch.eye(2, dtype=torch.float64)
    factors = dmf.balanced_minimizer(target, [2])
    start = [W[None].repeat(3, 1, 1) * 1.01 for W in factors]
    eta = torch.tensor([0.1, 1e-6, 10.0], dtype=torch.float64)
    run = gradient_descent(start, target, eta, 1000)
    assert run.outcome.tolist() == [Outcome.CONVERGED, Outcome.STEP_LIMIT, Outcome.DIVERGED]
    assert run.steps[0] < 1000
    assert run.steps[1] == 1000
    assert run.steps[2] <= 100
    assert float(run.loss[0]) <= 2e-20


def test_observations_are_of_every_so_many_steps():
    target, starts = gaussian_matrix(2, 2, 0), batch_of((2, 3, 2), [1, 2])
    v = torch.zeros(2, 1, 12, dtype=torch.float64)
    v[:, 0, 0] = 1
    run = gradient_descent(starts, target, 1e-3, 10, observe_every=5, directions=v)
    path = run.trajectory
    assert path.step.tolist() == [0, 5, 10]
    assert path.distance[0].tolist() == [0, 0]
    shift = flatten(run.factors) - flatten(starts)
    torch.testing.assert_close(path.distance[2], shift.norm(dim=1))
    torch.testing.assert_close(path.projections[2, :, 0], shift[:, 0])
    torch.testing.assert_close(path.loss[2], run.loss)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_size": 0.0}, "step_size: expected positive finite numbers, got"),
        ({"step_size": float("nan")}, "step_size: expected positive finite numbers, got"),
        ({"step_size": torch.ones(3)}, r"step_size: expected shape \(2,\), got \(3,\)"),
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"target": torch.full((2, 2), torch.nan, dtype=torch.float64)}, "target: expected finite"),
        ({"factors": random_point((2, 3, 2), 0)}, "factors: expected a batch"),
        ({"factors": [W / 0 for W in batch_of((2, 3, 2), [1, 2])]}, "expected finite values"),
    ],
)
def test_bad_input_is_refused(change, message):
    target = gaussian_matrix(2, 2, 0)
    good = {"factors": batch_of((2, 3, 2), [1, 2]), "target": target, "step_size": 0.1, "steps": 5}
    with pytest.raises(ValueError, match=message):
        gradient_descent(**(good | change))


def test_a_minimizer_is_left_above_the_limit_and_kept_below():
    target, factors = random_problem((3, 5, 3), 1)
    s = dmf.sharpness(factors)
    start = [
        (W + 1e-6 * U)[None].repeat(2, 1, 1) for W, U in zip(factors, s.eigenvector, strict=True)
    ]
    eta = torch.tensor([0.95, 1.05], dtype=torch.float64) * 2 / s.value
    run = gradient_descent(start, target, eta, 300)
    kept, left = (flatten([W[b] for W in run.factors]) - flatten(factors) for b in (0, 1))
    assert float(kept.norm()) < 1e-6
    assert float(left.norm()) > 1e-3


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_the_sharpness_is_recorded_on_the_way_without_a_path(engine):
    network = (3, 4, 2)
    target, starts = random_problem(network, 3)
    starts = [torch.stack([W, 1.1 * W, 30 * W]) for W in starts]

    def measure(W):
        return dmf.sharpness(W).value[:, None]

    eta = torch.tensor([1e-3, 2e-3, 1.0], dtype=torch.float64)
    asked = {"observe_every": 50, "engine": engine}
    run = gradient_descent(starts, target, eta, 2600, measure=measure, **asked)
    path = gradient_descent(starts, target, eta, 2600, keep_path=True, **asked).trajectory.path
    seen = run.trajectory
    assert seen.path is None
    assert seen.measured.shape == (*seen.loss.shape, 1)
    finite = torch.isfinite(path).all(-1)
    assert finite[:, :2].any()
    expected = measure(unflatten(path[finite], network))
    torch.testing.assert_close(seen.measured[finite], expected, rtol=1e-12, atol=0)
    assert seen.measured[~finite].isnan().all()
    assert (~finite).any(), "the run with the large step has ended"


def test_observations_without_times_are_refused():
    target, starts = random_problem((2, 2, 2), 0)
    with pytest.raises(ValueError, match="observe_every"):
        gradient_descent([W[None] for W in starts], target, 0.01, 10, keep_path=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_runs_unchanged_on_a_cuda_device():
    target, starts = random_problem((3, 4, 3), 1)
    starts = [torch.stack([W, 1.01 * W]) for W in starts]
    here = gradient_descent(starts, target, 1e-3, 200, observe_every=20)
    there = gradient_descent([W.cuda() for W in starts], target.cuda(), 1e-3, 200, observe_every=20)
    for a, b in zip(here.factors, there.factors, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(
        here.trajectory.loss, there.trajectory.loss.cpu(), rtol=1e-9, atol=1e-18
    )
