"""Each check takes what it is for in every dress, refuses the rest, and says so in one line."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_sharpness.arguments import (
    all_finite,
    checked_choice,
    checked_flag,
    checked_integer,
    checked_number,
    checked_positive_numbers,
    checked_tensor,
    memory_told,
    shown,
)

MATRIX = torch.arange(9, dtype=torch.float64).reshape(3, 3)
CPU = torch.device("cpu")


class Image(torch.Tensor):
    """A subclass such as other libraries define, with an arithmetic of its own."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        assert function is not torch.Tensor.matmul
        return super().__torch_function__(function, types, args, kwargs or {})


def masked():
    from torch.masked import masked_tensor

    return masked_tensor(MATRIX, MATRIX > 0)


def nested():
    return torch.nested.nested_tensor([MATRIX, MATRIX])


def uninitialized():
    return torch.nn.parameter.UninitializedParameter(dtype=torch.float64)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MATRIX,
        lambda: MATRIX.mT,
        lambda: MATRIX[:, ::2],
        lambda: MATRIX[:1].expand(3, 3),
        lambda: torch.nn.Parameter(MATRIX),
        lambda: MATRIX.clone().requires_grad_() * 2,
        lambda: torch.complex(MATRIX, MATRIX).conj().imag,
        lambda: torch.from_numpy(MATRIX.numpy()[::-1].copy()),
        lambda: torch.full((2, 2), 1e308, dtype=torch.float64),
        lambda: torch.full((2, 2), 5e-324, dtype=torch.float64),
    ],
)
def test_tensors_of_any_strides_and_history_are_taken_as_they_are(make):
    value = make()
    checked = checked_tensor(value, "x")
    assert not checked.requires_grad
    assert not checked.is_neg()
    assert checked.numpy().tolist() == value.detach().resolve_neg().numpy().tolist()


def test_a_subclass_of_tensor_is_taken_as_the_tensor_it_holds():
    value = torch.Tensor._make_subclass(Image, MATRIX)
    checked = checked_tensor(value, "x")
    assert type(checked) is torch.Tensor
    assert checked.matmul(checked).tolist() == (MATRIX @ MATRIX).tolist()


@pytest.mark.filterwarnings("ignore")  # PyTorch's, that nested, masked and sparse tensors are young
@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        lambda: [[1.0]],
        lambda: MATRIX.numpy(),
        lambda: MATRIX.float(),
        lambda: MATRIX.half(),
        lambda: MATRIX.long(),
        lambda: MATRIX > 0,
        lambda: torch.complex(MATRIX, MATRIX),
        lambda: torch.quantize_per_tensor(MATRIX.float(), 0.1, 0, torch.qint8),
        lambda: MATRIX.to("meta"),
        lambda: MATRIX.to_sparse(),
        lambda: MATRIX.to_sparse_csr(),
        lambda: torch._efficientzerotensor(3, 3, dtype=torch.float64),
        masked,
        nested,
        uninitialized,
    ],
)
def test_what_is_no_dense_float64_tensor_in_memory_is_refused(make):
    with pytest.raises(TypeError, match=r"^x: expected a .*tensor.*, got ") as told:
        checked_tensor(make(), "x")
    assert "\n" not in str(told.value)


def test_a_tensor_inside_a_transform_is_refused():
    def inside(value):
        with pytest.raises(TypeError, match="x: expected a dense tensor with its values in memory"):
            checked_tensor(value, "x")
        return value.sum()

    torch.func.vmap(inside)(MATRIX)
    torch.func.grad(inside)(MATRIX)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(3, 2)], r"\(3, 2\)"),
        ([(9,)], r"\(9,\)"),
        ([(None,)], r"\(…,\)"),
        ([(3, None, 3), (2, 3)], r"\(3, …, 3\) or \(2, 3\)"),
    ],
)
def test_another_shape_is_refused(shapes, expected):
    with pytest.raises(ValueError, match=rf"^x: expected shape {expected}, got \(3, 3\)$"):
        checked_tensor(MATRIX, "x", *shapes)
    assert checked_tensor(MATRIX, "x", *shapes, (3, None)).shape == (3, 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad):
    value = MATRIX.clone()
    value[1, 2] = bad
    with pytest.raises(ValueError, match="x: expected finite values, got NaN or Inf"):
        checked_tensor(value, "x")
    assert checked_tensor(value, "x", finite=False).shape == (3, 3)
    assert not all_finite(torch.tensor([math.inf, -math.inf], dtype=torch.float64))


def test_another_device_is_refused():
    with pytest.raises(ValueError, match="x: expected a tensor on cuda:0, got one on cpu"):
        checked_tensor(MATRIX, "x", device=torch.device("cuda:0"))


INTEGERS = [
    int,
    np.int8,
    np.int64,
    np.uint64,
    np.array,
    torch.tensor,
    lambda n: torch.tensor(n).int(),
]


@given(st.integers(0, 100), st.sampled_from(INTEGERS))
def test_integers_of_python_numpy_and_pytorch_are_one(n, dress):
    got = checked_integer(dress(n), "n", 0, 100)
    assert type(got) is int
    assert got == n


@pytest.mark.parametrize(
    "value",
    [True, np.True_, torch.tensor(True), 3.0, np.float64(3), torch.tensor(3.0), math.nan, math.inf, "3",
     b"3", None, [3], np.array([3]), torch.tensor([3]), 3 + 0j, Fraction(3), Decimal(3), object()],
)  # fmt: skip
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(TypeError, match=r"^n: expected an integer, got .*$"):
        checked_integer(value, "n")


@pytest.mark.parametrize(
    "value", [-1, 2**63, 1 << 14000, np.uint64(2**64 - 1), np.int8(-128)], ids=lambda _: None
)
def test_an_integer_out_of_range_is_refused(value):
    with pytest.raises(
        ValueError, match=r"^n: expected at (least 0|most 9223372036854775807), got .*$"
    ):
        checked_integer(value, "n")


NUMBERS = [float, np.float64, np.array, lambda x: torch.tensor(x, dtype=torch.float64), Fraction]


@given(st.floats(-1e300, 1e300), st.sampled_from(NUMBERS))
def test_real_numbers_of_python_numpy_and_pytorch_are_one(x, dress):
    got = checked_number(dress(x), "x")
    assert type(got) is float
    assert got == x


@pytest.mark.parametrize("value", [np.float32(0.1), torch.tensor(0.1), np.array(0.1, np.float32)])
def test_a_float32_number_is_the_number_it_is(value):
    assert checked_number(value, "x") == 13421773 / 2**27


@pytest.mark.parametrize(
    "value",
    [True, np.True_, torch.tensor(True), 1 + 0j, np.complex64(1), torch.tensor(1j), "1", None, [1.0],
     np.array([1.0]), torch.tensor([1.0]), Decimal(1), np.datetime64("2020"), np.array("1"), object()],
)  # fmt: skip
def test_what_is_no_real_number_is_refused(value):
    with pytest.raises(TypeError, match=r"^x: expected .*real number.*, got .*$"):
        checked_number(value, "x")


@pytest.mark.parametrize(
    ("value", "limits", "expected"),
    [
        (math.nan, {}, "a finite number"),
        (math.inf, {}, "a finite number"),
        (1 << 2000, {}, "a number that float64 can hold"),
        (math.nan, {"finite": False}, "a number"),
        (0, {"above": 0}, "a finite number above 0"),
        (-1, {"least": 0, "finite": False}, "a number of at least 0"),
        (1, {"least": 0, "below": 1}, r"a number in \[0, 1\)"),
        (np.float64("nan"), {"least": 0, "below": 1}, r"a number in \[0, 1\)"),
        (2, {"above": 0, "most": 1}, r"a number in \(0, 1\]"),
        (2, {"most": 1}, "a finite number of at most 1"),
        (2, {"below": 1}, "a finite number below 1"),
    ],
)
def test_a_number_out_of_range_is_refused(value, limits, expected):
    with pytest.raises(ValueError, match=rf"^x: expected {expected}, got "):
        checked_number(value, "x", **limits)


def test_infinity_is_taken_where_it_may_be():
    assert checked_number(math.inf, "x", above=0, finite=False) == math.inf


@pytest.mark.parametrize(
    "value",
    [[1, 2], (1.0, np.float32(2)), np.array([1, 2], dtype=np.int8), np.array([2.0, 1.0])[::-1],
     torch.tensor([1, 2]), torch.tensor([1.0, 2.0]).half(), torch.nn.Parameter(torch.tensor([1.0, 2.0]))],
)  # fmt: skip
def test_positive_numbers_are_taken_from_lists_arrays_and_tensors(value):
    got = checked_positive_numbers(value, "x", 2, CPU)
    assert got.dtype == torch.float64
    assert got.tolist() == [1, 2]
    assert checked_positive_numbers(3, "x", 2, CPU).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("value", "error"),
    [([1], ValueError), ([1, 2, 3], ValueError), ([[1, 2]], TypeError), ([1, 0], ValueError),
     ([1, math.nan], ValueError), ([1, -1], ValueError), ([True, False], TypeError), ("12", TypeError),
     (np.array([True, False]), TypeError), (np.array([1j, 2]), TypeError), (0, ValueError),
     (torch.tensor([1j, 2]), TypeError), (torch.ones(2).to("meta"), TypeError), (None, TypeError),
     (np.array([1, 2], dtype=object), TypeError), (torch.ones(2, 1), ValueError), (range(2), TypeError)],
)  # fmt: skip
def test_what_is_not_so_many_positive_numbers_is_refused(value, error):
    with pytest.raises(error, match=r"^x: expected .*, got .*$") as told:
        checked_positive_numbers(value, "x", 2, CPU)
    assert "\n" not in str(told.value)


def test_words_and_truth_values():
    assert checked_choice("b", "w", ("a", "b")) == "b"
    assert checked_flag(np.True_, "f") is True
    for value in ("c", "", "a\nb"):
        with pytest.raises(ValueError, match=r"^w: expected one of \['a', 'b'\], got .*$"):
            checked_choice(value, "w", ("a", "b"))
    for value in (None, 1, MATRIX, ["a"]):
        with pytest.raises(TypeError, match=r"^w: expected one of \['a', 'b'\], got .*$"):
            checked_choice(value, "w", ("a", "b"))
        with pytest.raises(TypeError, match=r"^f: expected True or False, got .*$"):
            checked_flag(value, "f")


def test_a_value_is_shown_in_one_short_line_whatever_it_is():
    class Rude:
        def __repr__(self):
            raise RuntimeError("no")

    for value in (MATRIX, MATRIX.numpy(), "a\nb" * 100, Rude(), 10**5000, ["\n"], 1.5):
        text = shown(value)
        assert "\n" not in text
        assert len(text) <= 60


def test_memory_that_is_not_there_is_one_line():
    for count in (2**58, 2**62):
        with pytest.raises(MemoryError, match=r"^f: expected memory .*, got .*$"), memory_told("f"):
            torch.empty(count, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="size"), memory_told("f"):
        torch.ones(2) + torch.ones(3)
