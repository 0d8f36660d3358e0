"""What must hold of each call, whatever was given."""

import inspect
import re
from dataclasses import fields, is_dataclass, replace

import torch

import dmf_sharpness as dmf
from tests.fuzz.calls import Call
from tests.fuzz.engines import check_engines
from tests.fuzz.outcomes import outcome_of, require
from tests.fuzz.right import RIGHT

DIFFERENTIABLE = ("end_to_end", "left_factors", "right_factors", "spectral_products")
"""Of these the result keeps the graph of the factors."""


def documented(function):
    """The exceptions that the docstring names."""
    text = inspect.getdoc(getattr(dmf, function))
    raises = re.search(r"^Raises:\n((?: .*\n?|\n)*)", text, flags=re.MULTILINE)
    return set(re.findall(r"^ {4}(\w+):", raises[1], flags=re.MULTILINE)) if raises else set()


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
