"""Steps, outcomes and observations of runs of two scalars against a loop of Python's own numbers.

The intervals between two observations divide neither the stretches of 2,000 steps, after which runs
that have ended leave the batch, nor the 100 steps between two checks of convergence.
"""

import math

import pytest
import torch

from dmf_sharpness.descent import compiled_engine
from dmf_sharpness.descent.run import Outcome, gradient_descent

compiled = pytest.mark.skipif(not compiled_engine.available(), reason="the kernel was not compiled")
engines = pytest.mark.parametrize("engine", [pytest.param("compiled", marks=compiled), "torch"])
STEPS = 4130
TARGET = 0.5
METHODS = {"plain": (0.0, False), "heavy ball": (0.5, False), "Nesterov": (0.5, True)}
# Starts (w_1, w_2) and step sizes. Some runs converge in the first stretch, some later; some diverge,
# and some are still moving at the end.
SLOW = [((0.9, 0.7), eta) for eta in torch.logspace(-2.6, -0.9, 30, dtype=torch.float64).tolist()]
ENDS = {
    "a minimizer": ((1.0, 0.5), 0.1),
    "far": ((3.0, 2.0), 5.0),
    "too far": ((1e60, 1e50), 1.0),
    "hardly moving": ((0.9, 0.7), 1e-7),
}


def loop(start, eta, momentum, nesterov, steps=STEPS):
    """One run: its losses and points up to the end, and how it ends."""
    (a, b), (u, v) = start, (0.0, 0.0)
    losses, points = [], []
    limit, previous = 1e10 * TARGET**2, -math.inf
    for step in range(steps + 1):
        residual = a * b - TARGET
        loss = residual * residual
        losses.append(loss)
        points.append((a, b))
        if step == 0:
            limit = max(limit, min(1e10 * loss, 1.7976931348623157e308))
        if not loss <= limit:
            return losses, points, Outcome.DIVERGED
        if step % 100 == 0 or step == steps:
            if loss <= 1e-20 * TARGET**2 and loss <= previous:
                return losses, points, Outcome.CONVERGED
            previous = loss
        du, dv = -eta * 2 * residual * b, -eta * 2 * residual * a
        u, v = momentum * u + du, momentum * v + dv
        a, b = (a + momentum * u + du, b + momentum * v + dv) if nesterov else (a + u, b + v)
    return losses, points, Outcome.STEP_LIMIT


def descended(cases, method, engine, every, steps=STEPS):
    momentum, nesterov = METHODS[method]
    layers = torch.tensor([start for start, _ in cases], dtype=torch.float64).T[..., None, None]
    return gradient_descent(
        list(layers), torch.full((1, 1), TARGET, dtype=torch.float64), [eta for _, eta in cases],
        steps, momentum=momentum, nesterov=nesterov, observe_every=every, keep_path=True,
        reference=torch.tensor([0.25, -0.125], dtype=torch.float64),
        directions=torch.tensor([[[1.0, 2.0], [0.5, 0.0]]], dtype=torch.float64).expand(len(cases), 2, 2),
        engine=engine,
    )  # fmt: skip


@engines
@pytest.mark.parametrize(
    ("method", "every"),
    [("plain", 7), ("plain", 1999), ("heavy ball", 300), ("Nesterov", 300), ("Nesterov", 2500)],
)
def test_every_observation_is_that_of_a_loop(engine, method, every):
    cases = [*SLOW, *ENDS.values()]
    run = descended(cases, method, engine, every)
    expected = [loop(start, eta, *METHODS[method]) for start, eta in cases]
    assert run.outcome.tolist() == [outcome for _, _, outcome in expected]
    assert run.steps.tolist() == [len(losses) - 1 for losses, _, _ in expected]
    assert len(set(run.steps.tolist())) > 8, "the runs end at many different steps"
    # Runs that have ended keep their last iterate, while their neighbours go on.
    for layer, number in zip(run.factors, (0, 1), strict=True):
        ends = torch.tensor([points[-1][number] for _, points, _ in expected], dtype=torch.float64)
        torch.testing.assert_close(layer[:, 0, 0], ends, rtol=1e-9, atol=1e-12)
    ends = torch.tensor([losses[-1] for losses, _, _ in expected], dtype=torch.float64)
    torch.testing.assert_close(run.loss, ends, rtol=1e-3, atol=1e-26)
    seen, last = run.trajectory, max(run.steps.tolist())
    assert seen.step.tolist() == list(range(0, last + 1, every))
    # NaN after the end of a run, as the engine has it.
    loss, path = (
        seen.loss.new_full((last + 1, len(cases)), math.nan),
        seen.loss.new_full((last + 1, len(cases), 2), math.nan),
    )
    for b, (losses, points, _) in enumerate(expected):
        loss[: len(losses), b] = torch.tensor(losses, dtype=torch.float64)
        path[: len(losses), b] = torch.tensor(points, dtype=torch.float64)
    loss, path = loss[::every], path[::every]
    shift = path - torch.tensor([0.25, -0.125], dtype=torch.float64)
    x, y = shift.unbind(-1)
    close = {"rtol": 1e-9, "atol": 1e-12, "equal_nan": True}
    torch.testing.assert_close(seen.path, path, **close)
    torch.testing.assert_close(seen.loss, loss, rtol=1e-3, atol=1e-26, equal_nan=True)
    torch.testing.assert_close(seen.distance, torch.hypot(x, y), **close)
    torch.testing.assert_close(seen.projections, torch.stack([x + 2 * y, x / 2], -1), **close)


@engines
def test_what_was_not_asked_for_is_not_observed(engine):
    one = [torch.ones(3, 1, 1, dtype=torch.float64)] * 2
    seen = gradient_descent(one, one[0], 0.1, 10, observe_every=5, engine=engine).trajectory
    assert (seen.loss.shape, seen.projections.shape) == ((3, 3), (3, 3, 0))
    assert (seen.path, seen.measured) == (None, None)
    assert gradient_descent(one, one[0], 0.1, 10, engine=engine).trajectory is None


@engines
def test_the_last_step_is_a_check_of_convergence(engine):
    """4,130 is no multiple of 100, and a run below the loss of convergence then has converged."""
    start, eta = (0.9, 0.7), None
    for eta in torch.linspace(2e-3, 2.6e-3, 80, dtype=torch.float64).tolist():
        losses, _, outcome = loop(start, eta, 0.0, False)
        if len(losses) - 1 == STEPS and outcome == Outcome.CONVERGED and losses[4100] > 3e-21:
            break
    else:
        pytest.fail("no such step size")
    run = descended([(start, eta)], "plain", engine, 7)
    assert (run.outcome.tolist(), run.steps.tolist()) == ([Outcome.CONVERGED], [STEPS])
    assert descended([(start, eta)], "plain", engine, 7, STEPS - 25).outcome.tolist() == [0]


@engines
def test_a_small_loss_that_grows_has_not_converged(engine):
    """The loss is below that of convergence at 0, 100 and 200 steps, larger each time."""
    start, eta = (1 + 4e-12, 0.5), 1.005 / 1.25
    losses, _, outcome = loop(start, eta, 0.0, False, 250)
    assert losses[0] < losses[100] < losses[200] < 1e-20 * TARGET**2
    run = descended([(start, eta)], "plain", engine, 100, 250)
    assert run.outcome.tolist() == [outcome] == [Outcome.STEP_LIMIT]


@engines
def test_a_loss_that_stays_the_same_has_not_grown(engine):
    """A run that starts at a minimizer ends at the second check, after 100 steps."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    still = gradient_descent([one, one], one[0], 0.25, 1000, engine=engine)
    assert (still.outcome.tolist(), still.steps.tolist()) == ([Outcome.CONVERGED], [100])
