"""Gradient descent by both engines: the same refusal, or the same runs to rounding."""

from dataclasses import replace

import torch

from dmf_sharpness.descent import compiled_engine
from dmf_sharpness.descent.run import Outcome
from dmf_sharpness.network.factors import flatten
from tests.fuzz.outcomes import outcome_of, require


def check_engines(call, tally):
    """The same refusal by both engines; or the same outcomes, steps and iterates to rounding."""
    if not compiled_engine.available():
        return
    (ours, error), (reference, other) = (
        outcome_of(replace(call, given=call.given | {"engine": engine}))
        for engine in ("compiled", "torch")
    )
    require(
        type(error) is type(other) and str(error) == str(other),
        f"compiled: {error!r}, torch: {other!r}",
    )
    if error is not None:
        return
    tally["both engines"] += 1
    if call.kind == "plain":
        right_descent(call, ours)
        right_descent(call, reference)
    if agree(ours, reference, call.given["factors"]):
        return
    # Steps may cancel: rounding is then as large as that of the largest iterates on the way.
    if agree(ours, reference, call.given["factors"], way=on_the_way(call)):
        return
    # Rounding grows where a run is unstable: so much that another last bit makes another run?
    require(unstable(call, reference), "the engines disagree")
    tally["unstable"] += 1


def on_the_way(call):
    """The largest entry of each run's iterates, one number per run."""
    followed = {"engine": "torch", "observe_every": 1, "keep_path": True, "measure": None}
    followed["reference"] = flatten(call.given["factors"]).detach()
    run, _ = outcome_of(replace(call, given=call.given | followed))
    return run.trajectory.path.abs().nan_to_num(nan=0.0).amax((0, 2))


def agree(a, b, start, rtol=1e-7, way=None):
    """Whether two runs ended alike, with the same iterates and observations to rounding.

    A step may take the iterate to a small part of what it was: rounding is as large as the start's, or
    as that of the largest iterates on the ``way``, one number per run.
    The losses at the end follow from the iterates: :func:`right_descent`.
    """
    if not (torch.equal(a.outcome, b.outcome) and torch.equal(a.steps, b.steps)):
        return False
    going = a.outcome != Outcome.DIVERGED
    ours, reference = flatten(a.factors)[going], flatten(b.factors)[going]
    sizes = (flatten(start).detach().abs().amax(1) if way is None else way)[going]
    if not all(map(_near, ours, reference, [rtol] * len(ours), sizes)):
        return False
    if a.trajectory is None or b.trajectory is None:
        return a.trajectory is b.trajectory
    same_steps = torch.equal(a.trajectory.step, b.trajectory.step)
    return same_steps and all(
        _near(getattr(a.trajectory, name), getattr(b.trajectory, name), 1e-5)
        for name in ("loss", "distance", "projections", "path", "measured")
    )


def _near(a, b, rtol, size=1e-145):
    if a is None or b is None:
        return a is b
    if a.shape != b.shape:
        return False
    # Sums of squares beyond the range are zero or infinite, in one order of summation or the other.
    a, b = (x.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf) for x in (a, b))
    large = (a.abs() > 1e145) & (b.abs() > 1e145)
    scale = b.masked_fill(large, 0.0).abs().amax().clamp(min=float(size)) if b.numel() else 1.0
    return bool((((a - b).abs() <= rtol * scale) | large).all())


def unstable(call, reference):
    """Whether changing the start in its last bits changes the outcome as well."""
    W = call.given["factors"]
    for k in range(1, 6):
        moved = [layer.detach().clone() * (1 + k * 1e-15) for layer in W]
        other, _ = outcome_of(
            replace(call, given=call.given | {"engine": "torch", "factors": moved})
        )
        if not agree(other, reference, W, 1e-9):
            return True
    return False


def right_descent(call, run):
    given, W = call.given, call.given["factors"]
    require([x.shape for x in run.factors] == [x.shape for x in W], "shapes of the factors")
    steps = int(given["steps"])
    require(bool((run.steps <= steps).all()), "more steps than asked")
    require(bool((run.steps[run.outcome == Outcome.STEP_LIMIT] == steps).all()), "stopped early")
    signal = (
        run.factors[0] if given.get("input_root") is None else run.factors[0] @ given["input_root"]
    )
    for layer in run.factors[1:]:
        signal = layer @ signal
    weights = torch.ones((), dtype=torch.float64)
    if given.get("observed") is not None:
        weights = given["observed"].double()
    loss = (weights * (given["target"] - signal).square()).sum((1, 2))
    going = run.outcome != Outcome.DIVERGED
    size = torch.linalg.matrix_norm(given["target"]) + largest_norm(
        run.factors, given.get("input_root")
    )
    size = size * weights.max().clamp(min=1.0).sqrt()
    error = (loss.sqrt() - run.loss.sqrt()).abs()
    require(bool((error <= 1e-13 * size)[going].all()), "the loss")
    if given.get("observe_every") is not None:
        seen = run.trajectory
        require(seen.step[0] == 0 and bool((seen.step <= steps).all()), "times of observation")
        there = seen.step[:, None] <= run.steps
        require(
            bool((~seen.loss.isnan() == there).all() or not loss.isfinite().all()),
            "NaN while it runs",
        )


def largest_norm(factors, root):
    """The norm of what the terms of the product add up to where none takes from another."""
    total = factors[0].abs() if root is None else factors[0].abs() @ root.abs()
    for layer in factors[1:]:
        total = layer.abs() @ total
    return torch.linalg.matrix_norm(total)
