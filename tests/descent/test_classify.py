"""The names of outcomes, from runs that are made up or followed, and the watch beyond the step limit.

On equal layers ``x = y`` descent on ``(1 − xy)²`` is the map ``x ↦ (1 + 2η)x − 2ηx³``. With ``r = 1 + 2η``
it has an orbit of period two from ``r = 2`` to ``√5``, then one of period four, and chaos from about 2.3 on.
"""

import pytest
import torch

from dmf_sharpness.descent import outcomes
from dmf_sharpness.descent.outcomes import EscapeOutcome, classify, watch
from dmf_sharpness.descent.run import DescentRun, Outcome, gradient_descent
from dmf_sharpness.descent.trajectory import Trajectory
from dmf_sharpness.network.problem import Problem


def numbers(values):
    return torch.tensor(values, dtype=torch.float64)


def layers(*values):
    """Two equal layers of one entry, a pair per run."""
    return [numbers(values)[:, None, None]] * 2


def named(ends, farthest, last, radius=1.0, factors=None, step_size=None):
    """The outcomes of runs that ended so, with these distances."""
    count = len(ends)
    codes = torch.tensor([int(end) for end in ends])
    run = DescentRun(
        factors or layers(*[1.0] * count), numbers([0.0] * count), torch.full((count,), 7), codes
    )
    eta = numbers(step_size or [0.1] * count)
    problem = Problem(torch.ones(count, 1, 1, dtype=torch.float64))
    return classify(run, numbers([radius] * count), numbers(farthest), numbers(last), problem, eta)


@pytest.mark.parametrize("radius", [1.0, 1e-9])
def test_a_converged_run_has_returned_only_if_it_was_near_all_the_time(radius):
    cases = [
        (1.0, 0.0, "RETURNED"),
        (9.99, 2.0, "RETURNED"),  # twice the radius still counts
        (9.99, 2.01, "LANDED"),
        (10.0, 0.5, "LANDED"),  # it came back to where it started, but had left
        (500.0, 0.0, "LANDED"),
        (500.0, 400.0, "LANDED"),
    ]
    farthest, last, expected = zip(*cases, strict=True)
    names, period = named(
        [Outcome.CONVERGED] * len(cases),
        [f * radius for f in farthest],
        [x * radius for x in last],
        radius,
    )
    assert [name.name for name in names] == list(expected)
    assert period.tolist() == [0] * len(cases)


def test_diverged_runs_and_runs_that_never_left():
    ends = [Outcome.DIVERGED, Outcome.DIVERGED, Outcome.STEP_LIMIT, Outcome.STEP_LIMIT]
    names, period = named(ends, [500.0, 1.0, 9.99, 0.5], [1.0, 1.0, 9.99, 0.5])
    assert [name.name for name in names] == ["DIVERGED", "DIVERGED", "UNDECIDED", "UNDECIDED"]
    assert period.tolist() == [0] * 4


RATES = {0.3: ("UNDECIDED", 0), 0.55: ("PERIOD_TWO", 2), 0.63: ("BOUNDED", 4), 0.7: ("BOUNDED", 0)}
"""The outcomes at the step limit of runs with these step sizes, and their periods."""


def at_the_limit():
    """Factors of runs with the step sizes of :data:`RATES`; only the first is still on its way."""
    eta, target = numbers(list(RATES)), torch.ones(4, 1, 1, dtype=torch.float64)
    run = gradient_descent(layers(*[1.1] * 4), target, eta, 3000)
    still_moving = layers(1.3, *[1.0] * 3)[0]
    first = (eta == 0.3)[:, None, None]
    return [torch.where(first, still_moving, W) for W in run.factors], eta, target


def test_runs_at_the_step_limit_by_what_they_do_next():
    factors, eta, _ = at_the_limit()
    names, period = named(
        [Outcome.STEP_LIMIT] * 4, [50.0] * 4, [30.0] * 4, factors=factors, step_size=eta.tolist()
    )
    assert [name.name for name in names] == [name for name, _ in RATES.values()]
    assert period.tolist() == [number for _, number in RATES.values()]
    # The same orbits, as runs that have not left, are not followed.
    names, period = named(
        [Outcome.STEP_LIMIT] * 4, [5.0] * 4, [3.0] * 4, factors=factors, step_size=eta.tolist()
    )
    assert [name.name for name in names] == ["UNDECIDED"] * 4
    assert period.tolist() == [0] * 4
    # Nor are runs that have ended, whatever their last iterate would do next.
    names, period = named(
        [Outcome.CONVERGED, Outcome.DIVERGED, Outcome.STEP_LIMIT, Outcome.CONVERGED],
        [50.0] * 4, [30.0] * 4, factors=[W[[1, 1, 1, 2]] for W in factors],
        step_size=eta[[1, 1, 1, 2]].tolist(),
    )  # fmt: skip
    assert [name.name for name in names] == ["LANDED", "DIVERGED", "PERIOD_TWO", "LANDED"]
    assert period.tolist() == [0, 0, 2, 0]


def test_every_run_is_watched_with_its_own_step_size_in_chunks_too(monkeypatch):
    factors, eta, target = at_the_limit()
    order = torch.tensor([2, 0, 1, 3, 1])
    factors, eta, problem = [W[order] for W in factors], eta[order], Problem(target[order])
    whole = watch(factors, problem, eta)
    assert whole.period.tolist() == [4, 0, 2, 0, 2]
    assert whole.settling.tolist() == [False, True, False, False, False]
    monkeypatch.setattr(outcomes, "_CHUNK", 2)
    chunks = watch(factors, problem, eta)
    assert torch.equal(chunks.period, whole.period)
    assert torch.equal(chunks.settling, whole.settling)


def test_the_period_is_looked_for_when_the_transient_is_over():
    eta, target = numbers([0.55]), torch.ones(1, 1, 1, dtype=torch.float64)
    start = layers(1.3)
    path = gradient_descent(
        start, target, eta, outcomes.CLOSE_WATCH, observe_every=1, keep_path=True
    )
    assert outcomes._period(path.observed.iterates).tolist() == [0]
    assert watch(start, Problem(target), eta).period.tolist() == [2]


def test_a_batch_of_which_all_runs_end_is_settling():
    eta, target = numbers([0.2, 0.3]), torch.ones(2, 1, 1, dtype=torch.float64)
    seen = watch(layers(1.3, 0.8), Problem(target), eta)
    assert seen.settling.tolist() == [True, True]
    assert seen.period.tolist() == [0, 0]


def test_a_loss_that_rises_in_one_window_is_not_settling():
    """A run that leaves its minimizer: the loss falls in no window, and rises in the first ones."""
    eta, target = numbers([0.55, 0.01]), torch.ones(2, 1, 1, dtype=torch.float64)
    seen = watch(layers(1 + 1e-9, 1.3), Problem(target), eta)
    assert seen.settling.tolist() == [False, True]


def test_a_loss_that_falls_at_first_and_rises_later_is_not_settling():
    """Two scalar problems side by side: one settles slowly, the other leaves its minimizer meanwhile."""
    layer = torch.diag(numbers([1 + 1e-12, 0.1])).expand(1, 2, 2)
    target, eta = torch.diag(numbers([1, 0.005])).expand(1, 2, 2), numbers([0.515])
    loss = gradient_descent([layer, layer], target, eta, 1024, observe_every=1).observed.loss[:, 0]
    highest = loss[:1024].reshape(8, 128).amax(1)
    assert highest[1] < highest[0]
    assert (highest.diff() > 0).any()
    seen = watch([layer, layer], Problem(target), eta)
    assert seen.settling.tolist() == [False]


def test_settling_is_that_the_largest_loss_falls_from_each_window_to_the_next(monkeypatch):
    """Losses made up: eight windows of 128 steps, of which the first entry is the largest."""
    fall = numbers([8, 7, 6, 5, 4, 3, 2, 1])
    bump, equal = fall.clone(), fall.clone()
    bump[6], equal[3] = 3.5, 6.0
    constant = torch.full((8,), 8.0).double()
    peaks = torch.stack([fall, fall, bump, equal, constant, fall], 1)
    floors = torch.stack([fall.flip(0), *[fall] * 5], 1) / 100
    loss = floors.repeat_interleave(128, 0)
    loss[::128] = peaks
    loss = torch.cat([loss, loss[-1:]])  # the loss after the last step

    def made_up(start, target, step_size, steps, *, keep_path, **options):
        count = len(step_size)
        path = torch.ones(steps + 1, count, 2)
        path[1::2, -1] = 2.0  # the last run, whose loss falls, alternates between two points
        seen = Trajectory(
            step=torch.arange(steps + 1),
            loss=loss,
            distance=loss,
            projections=loss[..., None],
            path=path if keep_path else None,
        )
        ends = torch.full((count,), int(Outcome.STEP_LIMIT))
        return DescentRun(start, loss[-1], ends, ends, seen)

    monkeypatch.setattr(outcomes, "gradient_descent", made_up)
    seen = watch(layers(*[1.0] * 6), Problem(torch.ones(6, 1, 1).double()), numbers([0.1] * 6))
    assert seen.settling.tolist() == [True, True, False, False, False, False]
    assert seen.period.tolist() == [0, 0, 0, 0, 0, 2]


@pytest.mark.parametrize("period", [2, 3, 5, 16, 31, 32])
def test_the_least_period_up_to_the_longest(period):
    one = torch.randn(period, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    path = one.repeat(64 // period + 2, 1, 1)[:65]
    assert outcomes._period(path).tolist() == [period]
    # It closes only to a millionth of its longest step.
    longest = float((path[1:] - path[:-1]).norm(dim=-1).max())
    drift = torch.linspace(0, 1, 65, dtype=torch.float64)[:, None, None] * torch.ones(3) / 3**0.5
    per_period = 64 / period * longest  # the drift in one period is then the longest step
    assert outcomes._period(path + 0.8e-6 * per_period * drift).tolist() == [period]
    assert outcomes._period(path + 1.2e-6 * per_period * drift).tolist() == [0]


def test_longer_periods_and_points_at_rest_have_none():
    one = torch.randn(33, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert outcomes._period(one.repeat(2, 1, 1)[:65]).tolist() == [0]
    rest = torch.ones(65, 1, 3, dtype=torch.float64)
    sign = (-1.0) ** torch.arange(65, dtype=torch.float64)[:, None, None]
    # A step counts from a millionth of the point's size on; here it is 2 a sqrt(3) against sqrt(3).
    assert outcomes._period(rest + 0.4e-6 * sign).tolist() == [0]
    assert outcomes._period(rest + 0.6e-6 * sign).tolist() == [2]
    assert outcomes._period(rest[:32]).tolist() == [0]


def test_which_outcomes_are_escapes():
    escaped = {outcome.name for outcome in EscapeOutcome if outcome.escaped}
    assert escaped == {"LANDED", "PERIOD_TWO", "BOUNDED", "DIVERGED"}
