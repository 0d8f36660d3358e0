"""What must hold of each call, whatever was given."""

import inspect
import re
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise

import numpy as np
import torch

import dmf_sharpness as dmf
from dmf_sharpness.descent import compiled_engine
from dmf_sharpness.descent.run import Outcome
from dmf_sharpness.descent.state import Minibatch
from dmf_sharpness.network.factors import flatten
from tests.fuzz import oracles
from tests.fuzz.calls import Call
from tests.fuzz.oracles import Wide, close, in_range, wide

DIFFERENTIABLE = ("end_to_end", "left_factors", "right_factors", "spectral_products")
"""Of these the result keeps the graph of the factors."""


class WrongError(AssertionError):
    """A property that does not hold."""


def require(condition, message):
    if not condition:
        raise WrongError(message)


def documented(function):
    """The exceptions that the docstring names."""
    text = inspect.getdoc(getattr(dmf, function))
    raises = re.search(r"^Raises:\n((?: .*\n?|\n)*)", text, flags=re.MULTILINE)
    return set(re.findall(r"^ {4}(\w+):", raises[1], flags=re.MULTILINE)) if raises else set()


def outcome_of(call: Call):
    """What the call returns, or its exception."""
    # The compiled kernels share their work; PyTorch's threads would wait for each other at each step.
    engine = call.given.get("engine")
    torch.set_num_threads(1 if isinstance(engine, str) and engine == "torch" else 2)
    try:
        return getattr(dmf, call.function)(**call.given), None
    except Exception as error:
        return None, error


def check(call: Call, tally):
    """Make the call, see that all holds, and count what came of it.

    Raises:
        WrongError: Something does not hold.
    """
    result, error = outcome_of(call)
    if error is not None:
        _check_error(call, error)
    if call.function == "gradient_descent":
        check_engines(call, tally)
    tally["returned" if error is None else type(error).__name__] += 1
    if error is not None:
        return
    if call.function not in DIFFERENTIABLE:
        require(not any(x.requires_grad for x in tensors(result)), "the result carries a graph")
    if call.kind == "dressed":
        expected, _ = outcome_of(replace(call, given=call.plain))
        require(
            same(alike(result), alike(expected)),
            "another result than with the same values in plain dress",
        )
    if call.kind != "spoiled":
        values = call.given if call.kind == "extreme" else call.plain
        RIGHT[call.function](replace(call, given=values), result)


def _check_error(call, error):
    name, message = type(error).__name__, str(error)
    names = {kind.__name__ for kind in type(error).__mro__}
    missing = isinstance(error, TypeError) and "required positional argument" in message
    require(names & documented(call.function) or missing, f"{name} is in no docstring: {message}")
    require(
        "\n" not in message and 0 < len(message) < 500, f"no message of one line: {name}: {message}"
    )
    require(call.kind in ("spoiled", "extreme"), f"a good call was refused: {name}: {message}")


def alike(result):
    """Of a result what is the same in the last bits: not a basis of an eigenspace, nor a rest of rounding."""
    if isinstance(result, dmf.Sharpness | dmf.PointSharpness):
        return [result.value, result.converged]
    return result[0] if isinstance(result, tuple) else result


def tensors(value):
    """All tensors in a result."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors(getattr(value, field.name))


def same(a, b):
    """Whether two results are equal to the last bits: a product of other strides may round otherwise."""
    if is_dataclass(a):
        return all(
            same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name[0] != "_"
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) != isinstance(b, float):  # one of them from an array of no dimension
        return same(float(a), float(b))
    if isinstance(a, torch.Tensor) and a.is_floating_point():
        a, b = a.detach(), b.detach()
        size = b[b.isfinite()].abs().max() if b.isfinite().any() else 1.0
        return a.shape == b.shape and torch.allclose(
            a, b, rtol=1e-6, atol=1e-6 * float(size), equal_nan=True
        )
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, float):
        return a == b or (a != a and b != b) or abs(a - b) <= 1e-6 * max(abs(a), abs(b), 1e-9)
    return a == b


# Gradient descent: both engines alike.


def check_engines(call, tally):
    """The same refusal by both engines; or the same outcomes, steps and iterates to rounding."""
    if not compiled_engine.available():
        return
    (ours, error), (reference, other) = (
        outcome_of(replace(call, given=call.given | {"engine": engine}))
        for engine in ("compiled", "torch")
    )
    if isinstance(call.given.get("minibatch"), Minibatch) and "engine: expected" in str(error):
        return  # all else is checked before the engine is chosen
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
    loss = (given["target"] - signal).square().sum((1, 2))
    going = run.outcome != Outcome.DIVERGED
    size = torch.linalg.matrix_norm(given["target"]) + largest_norm(
        run.factors, given.get("input_root")
    )
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


# The other functions: the right number, or an honest word that there is none.


def right_sharpness(call, result):
    for value, converged, factors in members(result.value, result.converged, call.given["factors"]):
        K = oracles.curvature(factors, *roots(call))
        exact = oracles.eigenvalues(K)[-1]
        if not converged:
            require(call.kind == "extreme", f"not converged: {value}, right is {exact}")
            continue
        require(in_range(exact) or value == 0, f"converged at {value} beyond the range: {exact}")
        tolerance = max(
            1e-9, 3 * float(np.max(result.tolerance)) if call.given.get("tolerance") else 0
        )
        require(close(value, exact, tolerance), f"{value}, right is {exact}")
    if call.kind != "extreme" and call.given["factors"][0].ndim == 2 and result.value > 0:
        v = [wide(U) for U in result.eigenvector]
        require(abs(float(sum((U**2).sum() for U in v)) - 1) < 1e-6, "the eigenvector's length")
        require(float(result.gap) >= 0 or result.gap != result.gap, "the gap")


def roots(call):
    """The root of the Gram matrix, as an argument or none."""
    if call.given.get("input_root") is not None:
        return (call.given["input_root"],)
    gram = call.given.get("input_gram")
    if gram is None:
        return ()
    size = gram.abs().max().clamp(min=1e-300)
    values, vectors = torch.linalg.eigh(gram / size)
    root = torch.from_numpy((wide(vectors) * np.sqrt(wide(values.clamp(min=0)))).astype(np.float64))
    return (_Scaled(root, size),)


class _Scaled:
    """A matrix times the root of a number, for :func:`oracles.wide`."""

    def __init__(self, matrix, size):
        self.matrix, self.size = matrix, size

    def detach(self):
        return self

    def resolve_neg(self):
        return self

    def numpy(self):
        return wide(self.matrix) * np.sqrt(wide(self.size))


def members(values, flags, factors):
    """Each member of a batch, or the one there is."""
    shape = factors[0].shape[:-2]
    if not shape:
        return [(values, flags, factors)]
    flat = [W.reshape(-1, *W.shape[-2:]) for W in factors]
    return [
        (float(values.reshape(-1)[k]), bool(flags.reshape(-1)[k]), [W[k] for W in flat])
        for k in range(len(flat[0]))
    ]


def of_curvature(number, rtol=1e-8):
    """A property of one number made of ``2 Σ_i (L_iL_iᵀ) ⊗ (R_iᵀR_i)``."""

    def right(call, result):
        flags = torch.ones(call.given["factors"][0].shape[:-2], dtype=torch.bool)
        for value, _, factors in members(result, flags, call.given["factors"]):
            exact = number(oracles.curvature(factors, *roots(call)))
            if value != value:
                require(not in_range(exact), f"NaN, right is {exact}")
            else:
                require(close(value, exact, rtol), f"{value}, right is {exact}")

    return right


def right_spectrum(call, values):
    exact = oracles.eigenvalues(oracles.curvature(call.given["factors"], *roots(call)))[::-1]
    top = exact[0] if len(exact) else Wide(0)
    require(len(values) <= len(exact), "more eigenvalues than there are")
    for k, right in enumerate(exact):
        value = values[k].item() if k < len(values) else 0.0
        require(close(value, right, 1e-9, top), f"eigenvalue {k}: {value}, right is {right}")


def right_eigenvectors(call, result):
    values, vectors = result
    exact = oracles.eigenvalues(oracles.curvature(call.given["factors"], *roots(call)))[::-1]
    require(len(values) == len(vectors), "a vector for each value")
    for k, value in enumerate(values.tolist()):
        require(
            close(value, exact[k], 1e-7, exact[0]), f"eigenvalue {k}: {value}, right is {exact[k]}"
        )
    require(
        np.allclose(vectors @ vectors.mT, np.eye(len(values)), atol=1e-6), "orthonormal vectors"
    )


def right_point(call, result):
    exact = oracles.eigenvalues(
        oracles.hessian(call.given["factors"], call.given["target"], *roots(call))
    )
    if not result.converged:
        require(call.kind == "extreme", f"not converged: {result.value}")
        return
    size = np.abs(exact).max()
    require(close(result.value, exact[-1], 1e-7, size), f"{result.value}, right is {exact[-1]}")


def right_is_flat(call, flat):
    W, rtol = call.given["factors"], call.given.get("rtol", 1e-10)
    K = oracles.eigenvalues(oracles.curvature(W))[-1]
    least = (
        2
        * len(W)
        * oracles.spectral_norm(oracles.chain([wide(x) for x in W])) ** (2 - Wide(2) / len(W))
    )
    excess = K - (1 + Wide(rtol)) * least
    if abs(excess) > 1e-8 * K:
        require(flat == (excess < 0), f"{flat}, but λ is {K} and λ_flat {least}")


def right_flat_sharpness(call, result):
    target, depth = wide(call.given["target"]), call.given["depth"]
    stack = target.reshape(-1, *target.shape[-2:])
    for value, M in zip(np.atleast_1d(np.asarray(result)), stack, strict=True):
        exact = 2 * depth * oracles.spectral_norm(M) ** (2 - Wide(2) / depth)
        require(value != value or close(value, exact, 1e-10), f"{value}, right is {exact}")
        require(value == value or not in_range(exact), f"NaN, right is {exact}")


def right_products(call, result):
    W = call.given["factors"]
    flat = [x.detach().reshape(-1, *x.shape[-2:]) for x in W]
    for row, k in zip(result.detach().reshape(-1, len(W)), range(len(flat[0])), strict=True):
        layers = [wide(x[k]) for x in flat]
        for i, value in enumerate(row.tolist()):
            left = (
                oracles.spectral_norm(oracles.chain(layers[i + 1 :])) if i + 1 < len(W) else Wide(1)
            )
            right = oracles.spectral_norm(oracles.chain(layers[:i])) if i else Wide(1)
            exact = left * right
            require(value != value or close(value, exact, 1e-9), f"{value}, right is {exact}")
            require(value == value or not in_range(exact), f"NaN, right is {exact}")


def right_chain(call, result):
    W = call.given["factors"]
    flat = [x.detach().reshape(-1, *x.shape[-2:]) for x in W]
    parts = [result] if isinstance(result, torch.Tensor) else result
    for k in range(len(flat[0])):
        layers = [wide(x[k]) for x in flat]
        for i, part in enumerate(parts):
            inner = {
                "end_to_end": layers,
                "left_factors": layers[i + 1 :],
                "right_factors": layers[:i],
            }
            ours = part.detach().reshape(-1, *part.shape[-2:])[k]
            if inner[call.function]:
                exact = oracles.chain(inner[call.function])
                # A plain product: what is computed on the way must be in the range, too.
                sizes = [np.abs(x) for x in inner[call.function]]
                ways = [
                    oracles.chain(sizes[i:j]).max() for j in range(len(sizes) + 1) for i in range(j)
                ]
                bound = oracles.chain(sizes)
                fits = max(ways) < oracles.LARGEST and min(ways) > 1e-300
                good = np.abs(wide(ours) - exact) <= 1e-12 * bound.max()
                require(not fits or bool(good.all()), f"the product of {call.function}")


def right_minimizer(call, factors):
    W, target = [wide(x) for x in factors], wide(call.given["target"])
    shapes = [target.shape[1], *map(int, call.given["widths"]), target.shape[0]]
    require([x.shape for x in W] == [(b, a) for a, b in pairwise(shapes)], "shapes of the factors")
    error = oracles.norm(oracles.chain(W) - target)
    if call.function != "bottlenecked_minimizer":
        require(error <= 1e-11 * oracles.norm(target), f"misses the target by {error}")
    else:
        size = np.abs(target).max()
        kept = np.linalg.svd((target / size).astype(np.float64), compute_uv=False)[
            min(call.given["widths"]) :
        ]
        best = Wide(np.linalg.norm(kept)) * size
        require(
            abs(error - best) <= 1e-9 * oracles.norm(target), f"misses by {error}, best is {best}"
        )
    if call.function in ("balanced_minimizer", "flat_minimizer", "minimizer_with_sharpness"):
        value = oracles.eigenvalues(oracles.curvature(factors))[-1]
        depth = len(W)
        wanted = call.given.get("sharpness")
        least = 2 * depth * oracles.spectral_norm(target) ** (2 - Wide(2) / depth)
        wanted = least if wanted is None else Wide(float(wanted))
        require(close(value, wanted, 1e-10), f"sharpness {value}, wanted {wanted}")


def right_landing_coefficient(call, a):
    numbers = torch.as_tensor(a)
    require(numbers.shape == call.given["factors"][0].shape[:-2], "the shape")
    require(call.kind == "extreme" or bool((~numbers.isinf()).all()), f"infinite: {a}")


def right_landing(call, end):
    a, ratio = (np.asarray(call.given[name], dtype=np.float64) for name in ("a", "step_ratio"))
    end = np.asarray(end)
    for a_k, c, found in np.nditer(np.broadcast_arrays(a, ratio, end)):
        start = 2 * float(a_k) * (float(c) - 1)
        require((found != found) == (start >= 1), f"{found} at w = {start}")
        require(found != found or found <= 1 + 1e-12, f"{found} is above the limit of stability")


RIGHT = {
    "balanced_minimizer": right_minimizer,
    "bottlenecked_minimizer": right_minimizer,
    "end_to_end": right_chain,
    "flat_minimizer": right_minimizer,
    "flat_sharpness": right_flat_sharpness,
    "gradient_descent": right_descent,
    "hessian_eigenvectors": right_eigenvectors,
    "hessian_frobenius_norm": of_curvature(oracles.norm),
    "hessian_spectrum": right_spectrum,
    "hessian_trace": of_curvature(np.trace),
    "is_flat": right_is_flat,
    "landing_coefficient": right_landing_coefficient,
    "left_factors": right_chain,
    "minimizer_with_sharpness": right_minimizer,
    "predict_landing": right_landing,
    "random_minimizer": right_minimizer,
    "right_factors": right_chain,
    "sharpness": right_sharpness,
    "sharpness_at": right_point,
    "spectral_products": right_products,
}
