"""No argument of the library is read as something that it is not."""

import inspect
import math
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.problem import Problem
from tests.helpers import random_problem

M, W = random_problem((3, 4, 4, 2), 1)
FUNCTIONS = {
    dmf.sharpness: {"factors": W},
    dmf.sharpness_at: {"factors": W, "target": M},
    dmf.hessian_spectrum: {"factors": W},
    dmf.hessian_eigenvectors: {"factors": W},
    dmf.hessian_trace: {"factors": W},
    dmf.hessian_frobenius_norm: {"factors": W},
    dmf.is_flat: {"factors": W},
    dmf.flat_sharpness: {"target": M, "depth": 3},
    dmf.spectral_products: {"factors": W},
    dmf.landing_coefficient: {"factors": W, "target": M},
    dmf.predict_landing: {"a": 1.0, "step_ratio": 1.1},
    dmf.balanced_minimizer: {"target": M, "widths": [4, 4], "seed": 0},
    dmf.flat_minimizer: {"target": M, "widths": [4, 4], "seed": 0},
    dmf.random_minimizer: {"target": M, "widths": [4, 4], "seed": 0},
    dmf.bottlenecked_minimizer: {"target": M, "widths": [1, 4], "seed": 0},
    dmf.minimizer_with_sharpness: {
        "target": M,
        "widths": [4, 4],
        "sharpness": 200.0,
        "seed": 0,
    },
    dmf.trace_flat_minimizer: {"target": M, "widths": [4, 4], "seed": 0},
    dmf.trace_flat_ratio: {"target": M, "depth": 3},
    dmf.standard_start: {"widths": [3, 4, 2], "kind": "xavier", "seed": 0},
    dmf.from_module: {"model": W},
    dmf.layer_curvature: {"model": W},
    dmf.polish: {"factors": W, "problem": Problem(M)},
    dmf.hessian_diagonal: {"model": W},
    dmf.end_to_end: {"factors": W},
    dmf.left_factors: {"factors": W},
    dmf.right_factors: {"factors": W},
}
NUMBERS = [
    0, -1, 3, 10**30, 10**400, 2.5, 3.0, -0.0, 5e-324, 1e300, math.nan, math.inf, 1j,
    True, False, None, "3", "nan", b"3", Decimal("2.5"), Fraction(5, 2),
    np.float32(2.5), np.float64("nan"), np.int64(3), np.uint8(3), np.bool_(True), np.complex128(1j),
    np.array(3), np.array(2.5), np.array([3]), np.array([1.5, 2.0]), np.array("3"),
]  # fmt: skip
TENSORS = [
    torch.tensor(3), torch.tensor(2.5), torch.tensor(True), torch.tensor(1 + 1j), torch.tensor([3]),
    torch.tensor([1.5, 2.0]), torch.empty(0), M, M.float(), M.half(), M.int(), M.bool(),
    M.to(torch.complex128), M * torch.nan, M / 0, M[0], M[:0], M[None], M.mT, M.to_sparse(),
    M.to("meta"), torch.nn.Parameter(M), torch.stack([M, M]), M.numpy(),
    torch.zeros(3, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64), -torch.eye(3).double(),
    torch.zeros(3, 0, dtype=torch.float64), gaussian_matrix(3, 9, 1), 1.7e308 * torch.eye(3).double(),
]  # fmt: skip
LISTS = [
    [], (), {}, {3}, [1], [1.5], [4, 4], [4], [4, 5.0], ["4", "4"], "44", [True, 4], [-4, 4], [0, 4],
    [np.int64(4), 4], np.array([4, 4]), torch.tensor([4, 4]), torch.Size([4, 4]), range(4, 6),
    [[1]], [W, W], W, W[:2], [M, M], [W[0].float(), *W[1:]], [W[0], None, W[2]], object(), "auto",
]  # fmt: skip
JUNK = [*NUMBERS, *TENSORS, *LISTS]
CASES = [
    (function, name)
    for function, arguments in FUNCTIONS.items()
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is not parameter.VAR_KEYWORD
]


def told(error):
    """One line, ``<argument>: expected …, got …``, and the argument or another that it does not fit."""
    message = str(error)
    assert "\n" not in message
    assert re.match(r"(\w+)(, W_\d+)?: expected .+, got .+", message), message
    assert re.match(r"\w+", message)[0] in {parameter for _, parameter in CASES}


@pytest.mark.parametrize(
    ("function", "name"), CASES, ids=[f"{function.__name__} {name}" for function, name in CASES]
)
def test_whatever_is_given_is_taken_or_refused_in_one_line(function, name):
    for value in JUNK:
        try:
            function(**{**FUNCTIONS[function], name: value})
        except (TypeError, ValueError) as error:
            told(error)
            documented = inspect.getdoc(function)
            assert "TypeError" in documented
            assert "ValueError" in documented


@given(st.sampled_from(CASES), st.data())
@settings(max_examples=150)
def test_two_wrong_arguments_are_no_worse_than_one(case, data):
    function, name = case
    given = dict(FUNCTIONS[function])
    for argument in {
        name,
        data.draw(st.sampled_from([other for owner, other in CASES if owner is function])),
    }:
        given[argument] = data.draw(st.sampled_from(JUNK))
    try:
        function(**given)
    except (TypeError, ValueError) as error:
        told(error)


INTEGERS = [
    3,
    np.int64(3),
    np.uint8(3),
    np.array(3),
    torch.tensor(3),
    torch.tensor(3, dtype=torch.int8),
]
REALS = [
    1.5, np.float32(1.5), np.float64(1.5), np.array(1.5), torch.tensor(1.5), torch.tensor(1.5).half(),
    Fraction(3, 2), torch.tensor(1.5, dtype=torch.float64, requires_grad=True),
]  # fmt: skip


@pytest.mark.parametrize("three", INTEGERS)
def test_integers_of_every_library_are_integers(three):
    assert dmf.flat_sharpness(M, three) == dmf.flat_sharpness(M, 3)
    assert len(dmf.hessian_eigenvectors(W, count=three)[0]) == 3
    wide = dmf.random_minimizer(M, [three, 4], three)
    for a, b in zip(wide, dmf.random_minimizer(M, [3, 4], 3), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(
        dmf.flat_minimizer(M, [4], [three, 1]), dmf.flat_minimizer(M, [4], [3, 1]), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("wanted", REALS)
def test_numbers_of_every_library_are_numbers(wanted):
    factors = dmf.minimizer_with_sharpness(M, [4, 4], wanted * 100, 1)
    assert dmf.sharpness(factors).value == pytest.approx(150, rel=1e-12)
    assert dmf.sharpness(W, tolerance=wanted).tolerance == 1.5
    assert dmf.sharpness_at(W, M, tolerance=wanted).tolerance == 1.5
    assert dmf.is_flat(W, wanted) == dmf.is_flat(W, 1.5)
    assert float(dmf.predict_landing(-1.0, wanted)) == dmf.predict_landing(-1.0, 1.5)
    for a, b in zip(
        dmf.random_minimizer(M, [4], 1, wanted), dmf.random_minimizer(M, [4], 1, 1.5), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("ratio", [1.1, 3.0, 1e3])
def test_a_prescribed_sharpness_that_is_a_tensor_is_met(dtype, ratio):
    """Of what the tensor holds, and not of the number that it was made from."""
    wanted = torch.tensor(ratio * dmf.flat_sharpness(M, 3)).to(dtype)
    if not bool(torch.isfinite(wanted)):
        return
    factors = dmf.minimizer_with_sharpness(M, [4, 4], wanted, 1)
    assert dmf.sharpness(factors).value == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dmf.flat_sharpness(M, 2.5), "depth: expected an integer, got 2.5"),
        (lambda: dmf.flat_sharpness(M, True), "depth: expected an integer, got True"),
        (lambda: dmf.flat_sharpness(M.int(), 2), "target: expected a tensor of real numbers"),
        (lambda: dmf.balanced_minimizer(M, 4), "widths: expected a list of integers, got 4"),
        (lambda: dmf.balanced_minimizer(M, [4.0]), "widths: expected an integer, got 4.0"),
        (lambda: dmf.random_minimizer(M, [4], None), "seed: expected an integer, got None"),
        (lambda: dmf.random_minimizer(M, [4], 1.0), "seed: expected an integer, got 1.0"),
        (lambda: dmf.random_minimizer(M, [4], "1"), "seed: expected an integer, got '1'"),
        (lambda: dmf.random_minimizer(M, [4], 1, True), "spread: expected a real number, got True"),
        (
            lambda: dmf.minimizer_with_sharpness(M, [4], True, 0),
            "sharpness: expected a real number",
        ),
        (lambda: dmf.is_flat(W, rtol="0"), "rtol: expected a real number, got '0'"),
        (lambda: dmf.sharpness(W, tolerance=1j), "tolerance: expected a real number, got 1j"),
        (lambda: dmf.sharpness(W, method=None), "method: expected one of"),
        (lambda: dmf.hessian_eigenvectors(W, count=2.0), "count: expected an integer, got 2.0"),
        (lambda: dmf.predict_landing("1", 2.0), "a: expected a real number, got '1'"),
        (lambda: dmf.end_to_end(M), "factors: expected a list of tensors, got a tensor"),
    ],
)
def test_what_is_no_number_of_the_kind_is_a_type_error(call, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dmf.random_minimizer(M, [4], -1), "seed: expected"),
        (lambda: dmf.random_minimizer(M, [4], [1, -1]), "seed: expected"),
        (lambda: dmf.random_minimizer(M, [4], 1, -0.1), "spread: expected"),
        (lambda: dmf.random_minimizer(M, [4], 1, math.nan), "spread: expected"),
        (lambda: dmf.random_minimizer(M, [4, 4], 1, 1e3), "spread: expected"),
        (lambda: dmf.random_minimizer(M, [4, 4], 1, 1e300), "spread: expected"),
        (lambda: dmf.flat_minimizer(M, [4, 4], 1, 0.5), "frobenius_imbalance: expected"),
        (lambda: dmf.flat_minimizer(M, [4, 4], 1, 1e300), "frobenius_imbalance: expected"),
        (lambda: dmf.flat_minimizer(M, [0, 4], 1), "widths: expected"),
        (lambda: dmf.is_flat(W, -1e-3), "rtol: expected"),
        (lambda: dmf.is_flat(W, math.nan), "rtol: expected"),
        (lambda: dmf.sharpness(W, tolerance=-1.0), "tolerance: expected"),
        (lambda: dmf.sharpness(W, tolerance=math.nan), "tolerance: expected"),
        (lambda: dmf.sharpness(W, target=torch.stack([M, M])), "target: expected shape (2, 3)"),
        (lambda: dmf.sharpness_at(W, M[None]), "target: expected shape (2, 3)"),
        (lambda: dmf.predict_landing(torch.ones(2), torch.full((3,), 2.0)), "step_ratio: expected"),
        (lambda: dmf.end_to_end([M, M]), "factors: expected dense matrices"),
        (lambda: dmf.end_to_end([]), "factors: expected dense matrices"),
        (lambda: dmf.end_to_end([W[0], W[1].float()]), "factors: expected dense matrices"),
    ],
)
def test_numbers_out_of_range_are_value_errors(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("make", [dmf.balanced_minimizer, dmf.flat_minimizer, dmf.random_minimizer])
def test_widths_that_no_memory_holds_are_told_in_one_line(make):
    with pytest.raises(
        MemoryError, match=r"^widths: expected memory .*, got more than can be add.*$"
    ):
        make(M, [3, 2**62], 0)
