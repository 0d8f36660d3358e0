"""Gradient descent at the ends of the number range: the outcome is right, or the call is refused.

The oracle is the problem's own scaling. With factors times ``s``, the target times ``s^L`` and the step
size times ``s^{2−2L}``, every iterate is ``s`` times what it was, and for a power of two so is every
rounding: far from the ends the two runs agree in each bit, and a run at an end must agree as well.
"""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_sharpness.descent import compiled_engine
from dmf_sharpness.descent.run import Outcome, gradient_descent
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import end_to_end, flatten, unflatten
from tests.fuzz.calls import Call
from tests.fuzz.engines import check_engines
from tests.helpers import random_point

compiled = pytest.mark.skipif(not compiled_engine.available(), reason="the kernel was not compiled")
ENGINES = [pytest.param("compiled", marks=compiled), "torch"]
STEP_LIMIT, CONVERGED, DIVERGED = map(
    int, (Outcome.STEP_LIMIT, Outcome.CONVERGED, Outcome.DIVERGED)
)


def starts(network, batch, scale=0.5):
    points = torch.stack([scale * flatten(random_point(network, seed)) for seed in range(batch)])
    return unflatten(points, network)


def zeros(rows, columns):
    return torch.zeros(rows, columns, dtype=torch.float64)


def unit_target():
    """A target of norm 1 to rounding, whose entries are short binary fractions."""
    return torch.tensor([[0.75, 0.25], [-0.5, 0.375]], dtype=torch.float64)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("power", [-232, -200, -34, 1, 200, 232])
@pytest.mark.parametrize("step_size", [0.05, 3.0])
def test_a_run_is_the_same_at_both_ends_of_the_range(engine, power, step_size):
    """Targets of 1e-20 "diverged" after 0 steps wherever the start was not that small."""
    network, target = (2, 3, 2), unit_target()
    here = gradient_descent(starts(network, 5), target, step_size, 3000, engine=engine)
    s = 2.0**power
    there = gradient_descent(
        [s * W for W in starts(network, 5)], target * s**2, step_size / s**2, 3000, engine=engine
    )
    assert torch.equal(there.outcome, here.outcome)
    assert torch.equal(there.steps, here.steps)
    assert set(here.outcome.tolist()) <= ({DIVERGED} if step_size > 1 else {CONVERGED, STEP_LIMIT})
    ended = here.outcome != DIVERGED
    assert torch.equal(flatten(there.factors)[ended] / s, flatten(here.factors)[ended])
    assert torch.equal(there.loss[ended] / s**4, here.loss[ended])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("norm", [1e-140, 1e140])
def test_a_target_at_an_end_of_the_range_is_taken_and_one_beyond_it_refused(engine, norm):
    target = torch.zeros(2, 2, dtype=torch.float64)
    target[0, 0] = norm
    start = starts((2, 3, 2), 2, 0.5 * norm**0.5)
    run = gradient_descent(start, target, 0.02 / norm, 3000, engine=engine)
    assert CONVERGED in run.outcome.tolist()
    assert (run.loss[run.outcome == CONVERGED] <= 1e-20 * norm**2).all()
    beyond = 1.0001 if norm > 1 else 0.9999
    for other in (beyond * target, torch.stack([target, beyond * target])):
        with pytest.raises(
            ValueError, match=r"^target: expected a Frobenius norm of zero, or from 1e-140"
        ):
            gradient_descent(start, other, 0.02 / norm, 3000, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [5e-324, 1e-200, 7e-141, 1e140, 1e200, 1.7e308])
def test_a_target_whose_squares_leave_the_range_is_refused(engine, value):
    with pytest.raises(
        ValueError, match=r"^target: expected a Frobenius norm of zero, or from .*, got"
    ):
        gradient_descent(
            starts((2, 3, 2), 2), zeros(2, 2).fill_diagonal_(value), 0.1, 9, engine=engine
        )


def test_a_norm_at_the_end_is_taken_though_each_entry_is_below():
    entry = 1e-140 / math.sqrt(400)
    target = torch.full((20, 20), entry, dtype=torch.float64)
    assert gradient_descent(starts((20, 2, 20), 1, 1e-71), target, 1e138, 3).steps.tolist() == [3]


@pytest.mark.parametrize("engine", ENGINES)
def test_runs_toward_a_target_of_zero_converge(engine):
    """They "diverged" after 0 steps: nothing was within 1e10 times a norm of zero."""
    run = gradient_descent(starts((3, 4, 3), 6), zeros(3, 3), 0.1, 20_000, engine=engine)
    start = end_to_end(starts((3, 4, 3), 6)).square().sum((1, 2))
    done = run.outcome == CONVERGED
    assert done.sum() >= 3
    assert DIVERGED not in run.outcome.tolist()
    assert (run.loss[done] <= 1e-20 * start[done]).all()
    assert (run.loss[~done] > 1e-20 * start[~done]).all()
    assert (run.steps[~done] == 20_000).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_diverges_from_a_target_of_zero_is_told(engine):
    start = starts((3, 4, 3), 4, 1.0)
    run = gradient_descent(start, zeros(3, 3), 5.0, 100, engine=engine, observe_every=1)
    assert run.outcome.tolist() == [DIVERGED] * 4
    first = run.trajectory.loss[0]
    for b in range(4):
        losses = run.trajectory.loss[: run.steps[b] + 1, b]
        assert not losses[-1] <= 1e10 * first[b]
        assert (losses[:-1] <= 1e10 * first[b]).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "zero",
    [
        lambda W: [0 * W[0], W[1], W[2]],
        lambda W: [W[0], 0 * W[1], 0 * W[2]],
        lambda W: [1e-300 * W[0], 1e300 * W[1], 0 * W[2]],
        # Ranges that miss each other: no factor is zero.
        lambda W: [W[0] * torch.tensor([[1.0], [0.0]]), W[1] * torch.tensor([0.0, 1.0]), W[2]],
    ],
)
def test_a_start_at_a_target_of_zero_has_converged_at_once(engine, zero):
    W = zero(starts((2, 2, 2, 2), 3))
    run = gradient_descent(W, zeros(2, 2), 0.1, 500, engine=engine)
    assert run.outcome.tolist() == [CONVERGED] * 3
    assert run.steps.tolist() == [0] * 3
    assert run.loss.tolist() == [0.0] * 3
    assert torch.equal(flatten(run.factors), flatten(W))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scale", [1e-75, 1e-100, 1e-160, 1e-300])
def test_a_start_too_small_to_tell_from_zero_is_not_taken_for_converged(engine, scale):
    """The loss underflows to zero, but the product is no zero: what 1e-20 of it is nobody can say."""
    run = gradient_descent(starts((2, 3, 2), 3, scale), zeros(2, 2), 0.1, 500, engine=engine)
    assert run.outcome.tolist() == [STEP_LIMIT] * 3
    assert run.steps.tolist() == [500] * 3


@pytest.mark.parametrize("engine", ENGINES)
def test_targets_of_zero_and_others_in_one_batch(engine):
    targets = torch.stack([zeros(2, 2), unit_target(), zeros(2, 2), 2.0**-60 * unit_target()])
    W = starts((2, 3, 2), 4)
    W[0][2] = 0.0
    whole = gradient_descent(W, targets, 0.05, 2000, engine=engine)
    for b in range(4):
        alone = gradient_descent([w[b : b + 1] for w in W], targets[b], 0.05, 2000, engine=engine)
        assert torch.equal(flatten(whole.factors)[b], flatten(alone.factors)[0])
        assert int(whole.outcome[b]) == int(alone.outcome[0])
        assert int(whole.steps[b]) == int(alone.steps[0])
    assert int(whole.outcome[2]) == CONVERGED
    assert int(whole.steps[2]) == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("target", [unit_target(), zeros(2, 2)])
@pytest.mark.parametrize("scale", [1e78, 1e100, 1e200, 1e307])
def test_a_loss_that_overflows_at_the_start_has_diverged(engine, target, scale):
    run = gradient_descent(starts((2, 3, 2), 3, scale), target, 1e-300, 5, engine=engine)
    assert run.outcome.tolist() == [DIVERGED] * 3
    assert run.steps.tolist() == [0] * 3
    assert not run.loss.isfinite().any()


@compiled
def test_the_step_at_which_runs_overflow_is_observed_by_both_engines():
    """One engine's iterate was Inf there, the other's NaN, and that row was left out."""
    W = starts((2, 4, 2, 1), 1)
    W[1], W[2] = W[1] * 1e156, W[2] * 0.01
    runs = [
        gradient_descent(W, zeros(1, 2), 1.0, 9, observe_every=1, keep_path=True, engine=engine)
        for engine in ("compiled", "torch")
    ]
    for run in runs:
        assert run.steps.tolist() == [1]
        assert run.outcome.tolist() == [DIVERGED]
        assert run.trajectory.step.tolist() == [0, 1]
        assert not run.trajectory.path[1].isfinite().all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_large_start_has_not_diverged_because_the_target_is_small(engine):
    """Losses are relative to the larger of the target's and the one at the start."""
    target, network = unit_target(), (2, 3, 2)
    start = starts(network, 3, 1e6)
    run = gradient_descent(start, target, 1e-15, 300, engine=engine)
    assert run.outcome.tolist() == [STEP_LIMIT] * 3
    assert (run.loss < end_to_end(start).square().sum((1, 2))).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("start", "last"), [(1e20, 6), (0.25, 6), (1 + 2**-20, 12)])
def test_a_run_diverges_at_1e10_times_its_first_loss_or_the_targets(engine, start, last):
    """Of ``(1 − w)²`` with ``η = 5``, where every step multiplies the loss by 81."""
    run = gradient_descent(
        [torch.full((1, 1, 1), start, dtype=torch.float64)],
        torch.ones(1, 1, dtype=torch.float64),
        5.0,
        40,
        engine=engine,
    )
    assert run.outcome.tolist() == [DIVERGED]
    assert run.steps.tolist() == [last]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loss_at_the_limit_itself_has_not_diverged(engine):
    """From 0 to 1 + 1e5, where the loss is 1e10 without rounding, and beyond it by the next step."""
    one = torch.ones(1, 1, dtype=torch.float64)
    run = gradient_descent([0 * one[None]], one, 50_000.5, 9, engine=engine)
    assert run.outcome.tolist() == [DIVERGED]
    assert run.steps.tolist() == [2]


@compiled
@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=5),
    st.integers(1, 9),
    st.floats(-70, 70),
    st.sampled_from([None, -140.0, -20.0, 0.0, 20.0, 140.0]),
    st.floats(-4, 1),
    st.sampled_from([0.0, 0.9]),
)
def test_both_engines_end_alike_wherever_the_numbers_are(
    network, batch, start, target, step, momentum
):
    """With ``target=None`` that is zero; the others are powers of ten, as are start and step size."""
    W = starts(tuple(network), batch, 10.0**start)
    T = gaussian_matrix(network[-1], network[0], 1)
    T = 0 * T if target is None else T / torch.linalg.matrix_norm(T) * 10.0**target
    scale = max(float(flatten(W).abs().max()) ** 2, 1.0 if target is None else 10.0**target, 1e-280)
    eta = min(max(10.0**step / scale, 1e-300), 1e280)
    given = {"factors": W, "target": T, "step_size": eta, "steps": 220, "momentum": momentum}
    # To rounding, except where other last bits at the start make another run.
    check_engines(Call("gradient_descent", "extreme", given, given), Counter())
