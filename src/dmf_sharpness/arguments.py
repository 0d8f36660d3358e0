"""Checks of function arguments: type, shape, device and range.

A tensor of the wrong type, shape or device is refused and never converted. Float32 data converted
to float64 would be accurate to about seven digits only, and compiled code that trusts a wrong shape
would read past the end of the memory. Numbers may come from Python, from NumPy, or from a tensor
without dimensions. Every error message is one line, ``name: expected …, got …``.
"""

import math
import operator
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

Shape = Sequence[int | None]
"""The expected size of each dimension; None accepts any size."""
INT64_MOST = 2**63 - 1
"""The largest 64-bit signed integer, which is the largest one that the compiled code can take."""


def checked_tensor(
    value: object,
    name: str,
    *shapes: Shape,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float64,
    finite: bool = True,
) -> Tensor:
    """``value`` if it is a finite tensor of the given type, detached from the autograd graph.

    The result is a view and not a copy, with the same strides.

    Args:
        value: The argument as the caller gave it.
        name: The name of the argument, for the message.
        shapes: The accepted shapes, such as ``(3, None)``. If none is given, every shape is accepted.
        device: The device where the tensor must be; None accepts every device.
        dtype: The type that its entries must have.
        finite: Whether to refuse NaN and Inf.

    Raises:
        TypeError: ``value`` is not a tensor, its entries have another type, or it is not a plain
            array in memory: it is sparse, nested, masked, on the device ``meta``, or inside a
            transform such as ``torch.func.vmap``.
        ValueError: The shape or the device does not fit, or an entry is not finite.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {shown(value)}")
    if value.dtype != dtype:
        raise TypeError(f"{name}: expected a tensor of {dtype}, got {value.dtype}")
    value = _plain(value, name)
    if device is not None and value.device != device:
        raise ValueError(f"{name}: expected a tensor on {device}, got one on {value.device}")
    if shapes and not any(_fits(value.shape, shape) for shape in shapes):
        expected = " or ".join(dict.fromkeys(map(_written, shapes)))
        raise ValueError(f"{name}: expected shape {expected}, got {tuple(value.shape)}")
    if finite and dtype.is_floating_point and not all_finite(value):
        raise ValueError(f"{name}: expected finite values, got NaN or Inf")
    return value


def all_finite(values: Tensor) -> bool:
    """Whether all values are finite; one pass over the data, unless their sum overflows."""
    # A finite sum has only finite terms. An infinite sum of finite terms is possible, when it
    # overflows, so only then are the terms looked at one by one.
    return math.isfinite(float(values.sum())) or bool(torch.isfinite(values).all())


def checked_integer(value: object, name: str, least: int = 0, most: int = INT64_MOST) -> int:
    """An integer between ``least`` and ``most``, as an ``int``.

    It may be an integer of Python or NumPy, or a tensor without dimensions.

    Raises:
        TypeError: ``value`` is not an integer. A truth value does not count as one, nor does ``3.0``.
        ValueError: It is below ``least`` or above ``most``.
    """
    if isinstance(value, Tensor) and value.ndim == 0 and value.dtype != torch.bool:
        value = _plain(value, name).item()
    if isinstance(value, bool | np.bool | Tensor):
        raise TypeError(f"{name}: expected an integer, got {shown(value)}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # the call tests this
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {shown(value)}") from None
    if number < least:
        raise ValueError(f"{name}: expected at least {least}, got {shown(number)}")
    if number > most:
        raise ValueError(f"{name}: expected at most {most}, got {shown(number)}")
    return number


def checked_number(
    value: object,
    name: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    finite: bool = True,
) -> float:
    """A real number within the given bounds, as a ``float``.

    It may be a number of Python or NumPy, or a tensor without dimensions.

    Args:
        value: The argument as the caller gave it.
        name: The name of the argument, for the message.
        above: Exclusive lower bound.
        least: Inclusive lower bound.
        below: Exclusive upper bound.
        most: Inclusive upper bound.
        finite: Whether to refuse infinity as well; NaN is always refused.

    Raises:
        TypeError: ``value`` is not a real number. A truth value does not count as one.
        ValueError: It is NaN, infinite although it must be finite, or out of bounds.
    """
    number = _real(value, name)
    if (
        math.isnan(number)
        or (finite and math.isinf(number))
        or (above is not None and number <= above)
        or (least is not None and number < least)
        or (below is not None and number >= below)
        or (most is not None and number > most)
    ):
        bounds = _range(above, least, below, most)
        kind = "a finite number" if finite and " in " not in bounds else "a number"
        expected = kind + bounds
        raise ValueError(f"{name}: expected {expected}, got {shown(value)}")
    return number


def checked_positive_numbers(value: object, name: str, count: int, device: torch.device) -> Tensor:
    """``count`` positive numbers, shape ``(count,)``, float64; a single given number is repeated.

    Accepted are all numbers that :func:`checked_number` accepts, and tensors, NumPy arrays and
    lists of them, of any real type. Each number is converted exactly: a float32 number keeps its 24 bits.

    Raises:
        TypeError: ``value`` does not consist of real numbers. Truth values do not count as such.
        ValueError: There are not ``count`` numbers, they are on another device, or one of them is
            not positive or not finite.
    """
    if isinstance(value, Tensor):
        numbers = _real_tensor(value, name)
        if numbers.device != device and numbers.ndim != 0:
            raise ValueError(f"{name}: expected a tensor on {device}, got one on {numbers.device}")
    else:
        numbers = torch.from_numpy(_array(value, name))
    if numbers.ndim != 0 and numbers.shape != (count,):
        raise ValueError(f"{name}: expected shape ({count},), got {tuple(numbers.shape)}")
    numbers = numbers.to(device, torch.float64)
    if not all_finite(numbers) or not bool((numbers > 0).all()):
        got = shown(numbers.tolist())
        raise ValueError(f"{name}: expected positive finite numbers, got {got}")
    return numbers.expand(count)


def checked_choice(value: object, name: str, choices: Sequence[str]) -> str:
    """``value`` if it is one of the given words.

    Raises:
        TypeError: ``value`` is not a string.
        ValueError: It is a string that is not among the choices.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {list(choices)}, got {shown(value)}")
    if value not in choices:
        raise ValueError(f"{name}: expected one of {list(choices)}, got {shown(value)}")
    return value


def checked_flag(value: object, name: str) -> bool:
    """A truth value of Python or NumPy, as a ``bool``.

    Raises:
        TypeError: ``value`` is anything else, such as 1 or None.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {shown(value)}")
    return bool(value)


@contextmanager
def memory_told(name: str) -> Iterator[None]:
    """Turn PyTorch's error of several lines about missing memory into a MemoryError of one line.

    Args:
        name: The argument that decides how much memory is needed, for the message.

    Raises:
        MemoryError: A tensor that is made inside the ``with`` block does not fit into memory.
    """
    try:
        yield
    except RuntimeError as error:
        wanted = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
        overflow = "Storage size calculation overflowed" in str(error)
        if wanted is None and not overflow:
            raise
        got = f"none for {wanted[1]}" if wanted else "more than can be addressed"
        raise MemoryError(f"{name}: expected memory for all that is asked, got {got}") from None


def shown(value: object) -> str:
    """A short text of one line that shows a value in an error message."""
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and {value.dtype}"
    try:
        text = " ".join(repr(value).split())
    # A foreign class may raise anything here, and so does an integer of thousands of digits.
    except Exception:
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:59] + "…"


def _fits(got: torch.Size, expected: Shape) -> bool:
    return len(got) == len(expected) and all(
        size is None or size == n for n, size in zip(got, expected, strict=True)
    )


def _written(shape: Shape) -> str:
    sizes = ", ".join("…" if size is None else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


def _range(
    above: float | None, least: float | None, below: float | None, most: float | None
) -> str:
    """The words that describe the bounds in a message, with a space in front."""
    low, high = above if least is None else least, below if most is None else most
    if low is not None and high is not None:
        return f" in {'(' if least is None else '['}{low:g}, {high:g}{')' if most is None else ']'}"
    if low is not None:
        return f" above {low:g}" if least is None else f" of at least {low:g}"
    if high is not None:
        return f" below {high:g}" if most is None else f" of at most {high:g}"
    return ""


def _plain(value: Tensor, name: str) -> Tensor:
    """``value`` as a dense tensor in memory, detached from the autograd graph."""
    if value.layout != torch.strided or value.is_nested or not _in_memory(value):
        raise TypeError(
            f"{name}: expected a dense tensor with its values in memory, got another kind"
        )
    if type(value) not in (Tensor, torch.nn.Parameter):
        value = value.as_subclass(Tensor)  # because a subclass may redefine the arithmetic
    # PyTorch may store a tensor, such as the imaginary part of a conjugate, with the opposite sign
    # and a flag for it. Compiled code sees only the stored numbers, so the sign is resolved here.
    return value.detach().resolve_neg()


def _in_memory(value: Tensor) -> bool:
    try:
        return value.data_ptr() != 0 or value.numel() == 0
    except (RuntimeError, ValueError):  # such a tensor has no address, or not even a shape
        return False


def _real_tensor(value: Tensor, name: str) -> Tensor:
    if value.dtype == torch.bool or value.dtype.is_complex or value.is_quantized:
        raise TypeError(f"{name}: expected real numbers, got a tensor of {value.dtype}")
    return _plain(value, name)


def _array(value: object, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Numbers of Python or NumPy as a float64 array, without dimensions for a single number."""
    if isinstance(value, list | tuple):
        numbers = [_real(x, name) for x in value]
    elif isinstance(value, np.ndarray) and value.ndim > 0:
        if value.dtype.kind not in "iuf":
            raise TypeError(f"{name}: expected real numbers, got {shown(value)}")
        return np.array(value, dtype=np.float64)
    else:
        return np.array(_real(value, name))
    return np.array(numbers, dtype=np.float64)


def _real(value: object, name: str) -> float:
    """A single real number as a ``float``. NaN counts as one, a truth value does not."""
    if type(value) is float:
        return value
    number = value
    if isinstance(value, Tensor):
        if value.ndim == 0:
            number = _real_tensor(value, name).item()
    elif isinstance(value, np.ndarray | np.generic) and value.ndim == 0:
        number = value.item() if value.dtype.kind in "iuf" else None
    if isinstance(number, bool) or not isinstance(number, Real):
        raise TypeError(f"{name}: expected a real number, got {shown(value)}")
    try:
        return float(number)
    except OverflowError:
        raise ValueError(
            f"{name}: expected a number that float64 can hold, got {shown(value)}"
        ) from None
