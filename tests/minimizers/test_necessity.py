"""When balance is necessary: the theorem, its constructions, and searches on its other side."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.necessity import flat_unbalanced_minimizer
from dmf_sharpness.minimizers.search import Held, minimize_sharpness
from dmf_sharpness.minimizers.targets import matrix_with_singular_values
from dmf_sharpness.network.balance import relative_products
from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.network.least_excess import least_excess
from dmf_sharpness.oracles import dense_spectrum


def of_spectrum(values, rows, columns, seed=0):
    return matrix_with_singular_values(rows, columns, values, seed)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[float], tuple[int, ...]]:
    """Singular values, all equal or not, and widths with and without free units at both ends."""
    rank = draw(st.integers(1, 3))
    values = [1.5] * rank
    if draw(st.booleans()):
        shares = st.floats(0.05, 0.95)
        values = [1.5, *sorted((1.5 * draw(shares) for _ in range(rank - 1)), reverse=True)]
    widths = st.integers(rank, rank + 1)
    size = draw(st.integers(3, 6))
    return values, tuple(draw(st.lists(widths, min_size=size, max_size=size)))


def expected(values, widths):
    """The theorem, written once more, by hand."""
    r = len(values)
    if len(widths) == 3:
        return True
    equal = len(set(values)) == 1
    starts_full = r == widths[0] or r == widths[1]
    ends_full = r == widths[-1] or r == widths[-2]
    return equal and starts_full and ends_full


@given(problem=problems(), seed=st.integers(0, 999))
def test_a_flat_unbalanced_minimizer_exists_if_and_only_if_balance_is_not_necessary(problem, seed):
    values, widths = problem
    target = of_spectrum(values, widths[-1], widths[0], seed)
    necessary = dmf.balance_is_necessary(target, widths[1:-1])
    assert necessary == expected(values, widths)
    if necessary:
        with pytest.raises(ValueError, match="expected one of them to fail"):
            flat_unbalanced_minimizer(target, widths[1:-1], seed)
        return
    factors = flat_unbalanced_minimizer(target, widths[1:-1], seed)
    assert float((end_to_end(factors) - target).norm()) < 1e-12 * float(target.norm())
    least = dmf.flat_sharpness(target, len(factors))
    assert float(dense_spectrum(factors, target)[0]) == pytest.approx(least, rel=1e-12)
    products = relative_products(factors)
    assert float(products.max()) > 1.01
    assert sum(float(x) > 1 + 1e-9 for x in products) == 1
    assert float(products.min()) == pytest.approx(1, rel=1e-12)


FAILING = {
    "spectrum": ([2.0, 1.0], (2, 2, 2, 2)),
    "input": ([2.0, 2.0], (3, 3, 2, 2)),
    "output": ([2.0, 2.0], (2, 2, 3, 3)),
}
"""Problems where one condition fails and the other two hold."""


@pytest.mark.parametrize("condition", FAILING)
def test_each_condition_by_itself_leaves_room(condition):
    values, widths = FAILING[condition]
    target = of_spectrum(values, widths[-1], widths[0])
    assert not dmf.balance_is_necessary(target, widths[1:-1])
    factors = flat_unbalanced_minimizer(target, widths[1:-1], 0, condition)
    assert dmf.is_flat(factors, rtol=1e-13)
    for other in set(FAILING) - {condition}:
        with pytest.raises(ValueError, match=f"expected the condition of the {other} to fail"):
            flat_unbalanced_minimizer(target, widths[1:-1], 0, other)


@pytest.mark.parametrize("ends", list(itertools.product((2, 3), repeat=4)))
def test_the_answer_of_the_transposed_problem_is_the_same(ends):
    """And the two ends count separately: neither can stand for the other."""
    d_0, d_1, d_2, d_3 = ends
    target = of_spectrum([2.0, 2.0], d_3, d_0)
    answer = dmf.balance_is_necessary(target, [d_1, d_2])
    assert answer == dmf.balance_is_necessary(target.mT.contiguous(), [d_2, d_1])
    assert answer == (2 in (d_0, d_1) and 2 in (d_2, d_3))


@given(log_difference=st.floats(-13, -0.5), log_rtol=st.floats(-12, -1))
def test_singular_values_within_rtol_count_as_equal(log_difference, log_rtol):
    difference, rtol = 10**log_difference, 10**log_rtol
    if abs(log_difference - log_rtol) < 0.05:
        return
    target = torch.diag(torch.tensor([1.0, 1 - difference], dtype=torch.float64))
    assert dmf.balance_is_necessary(target, [2, 2], rtol=rtol) == (difference < rtol)


@pytest.mark.parametrize("difference", [2e-9, 1e-7, 1e-4, 1e-2])
def test_nearly_equal_singular_values_leave_room_of_the_order_of_the_root(difference):
    """Products off by up to ``2 √(δ/3)`` at depth 3; no flat minimizer has more than ``√(4δ)``."""
    target = of_spectrum([1.5, 1.5 * (1 - difference)], 2, 2)
    factors = flat_unbalanced_minimizer(target, [2, 2], 0)
    off = float(relative_products(factors).max()) - 1
    room = 2 * (difference / 3) ** 0.5
    assert 0.25 * room < off < 1.1 * room
    assert dmf.is_flat(factors, rtol=1e-13)


@pytest.mark.parametrize("exponent", [-1000, -300, 300, 1000])
def test_the_answer_does_not_depend_on_the_scale(exponent):
    for (values, widths), answer in (
        (FAILING["spectrum"], False),
        (([1.0, 1.0], (3, 2, 2, 3)), True),
    ):
        target = of_spectrum(values, widths[-1], widths[0]) * 2.0**exponent
        assert dmf.balance_is_necessary(target, widths[1:-1]) == answer


def test_a_zero_target_has_only_zero_products_at_flat_minimizers():
    zero = torch.zeros(2, 3, dtype=torch.float64)
    assert dmf.balance_is_necessary(zero, [2, 2])
    with pytest.raises(ValueError, match="target: expected a matrix that is not zero"):
        flat_unbalanced_minimizer(zero, [2, 2], 0)


@pytest.mark.parametrize(
    ("hidden", "rtol", "error", "message"),
    [
        (
            [2, 1],
            1e-9,
            ValueError,
            r"widths: expected every hidden width to be at least 2.*\[2, 1\]",
        ),
        ([], 1e-9, ValueError, "widths: expected at least one hidden width"),
        ([2, 2], 1.0, ValueError, "rtol: expected a number"),
        ([2, 2], -1e-9, ValueError, "rtol: expected a number"),
        ([2, 2], "1", TypeError, "rtol: expected"),
    ],
)
def test_what_has_no_answer_is_refused(hidden, rtol, error, message):
    with pytest.raises(error, match=message):
        dmf.balance_is_necessary(torch.eye(2, dtype=torch.float64), hidden, rtol=rtol)


@pytest.mark.parametrize(
    "widths", [(2, 2, 2, 2), (3, 2, 2, 3), (2, 3, 2, 3), (1, 2, 2, 1), (1, 3, 1, 2)]
)
@given(seed=st.integers(0, 999), x=st.sampled_from([0.9, 1.05, 1.5]), layer=st.integers(1, 3))
@settings(max_examples=5)
def test_where_balance_is_necessary_a_product_off_forces_the_excess_of_scalars(
    widths, seed, x, layer
):
    """At depth 3; the search ends there, and nowhere below."""
    rank = 1 if 1 in widths else 2
    target = of_spectrum([1.5] * rank, widths[-1], widths[0], seed)
    assert dmf.balance_is_necessary(target, widths[1:-1])
    search = minimize_sharpness(
        dmf.random_minimizer(target, widths[1:-1], seed), 300, Held(layer, x)
    )
    least = dmf.flat_sharpness(target, 3)
    bound = float(least_excess(torch.tensor(x, dtype=torch.float64), 3))
    assert search.least / least - 1 >= bound - 1e-12
    assert search.value / least - 1 == pytest.approx(bound, abs=1e-6)
