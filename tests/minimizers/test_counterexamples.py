import pytest
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.counterexamples import (
    equal_sharp_minimizer,
    one_term_minimizer,
)
from dmf_sharpness.minimizers.targets import gaussian_matrix, matrix_with_singular_values
from dmf_sharpness.network.balance import relative_products
from dmf_sharpness.oracles import dense_spectrum


@given(
    depth=st.integers(2, 6),
    ends=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    ratio=st.floats(1, 5),
    seed=st.integers(0, 999),
)
def test_equal_products_of_any_value(depth, ends, ratio, seed):
    target = gaussian_matrix(ends[1], ends[0], [seed, 1])
    factors = equal_sharp_minimizer(target, [4] * (depth - 1), seed, ratio)
    assert relative_products(factors).tolist() == pytest.approx([ratio] * depth, rel=1e-9)
    # Sharper than flat by the square, says the dense Hessian.
    least = dmf.flat_sharpness(target, depth)
    top = float(dense_spectrum(factors, target)[0])
    assert top == pytest.approx(ratio**2 * least, rel=1e-9)


M = gaussian_matrix(3, 2, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: equal_sharp_minimizer(M, [3, 4], 0, 2.0), "widths: expected equal ones above"),
        (lambda: equal_sharp_minimizer(M, [2, 2], 0, 2.0), "widths: expected equal ones above"),
        (lambda: equal_sharp_minimizer(M, [3, 3], 0, 0.5), "product_ratio: expected at least 1"),
    ],
)
def test_what_cannot_be_had_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@given(st.integers(1, 2), st.lists(st.integers(1, 3), min_size=2, max_size=4), st.integers(0, 99))
def test_the_sharpness_of_one_term_is_the_lower_bound(rank, extra, seed):
    target = matrix_with_singular_values(3, 4, [2.0, 1.0][:rank], seed)
    factors = one_term_minimizer(target, [rank + e for e in extra], seed)
    largest = float(dmf.spectral_products(factors).max())
    assert float(dense_spectrum(factors, target)[0]) == pytest.approx(2 * largest**2, rel=1e-12)


@pytest.mark.parametrize(("hidden", "rank"), [([3], 1), ([3, 2], 2), ([4, 4], 3)])
def test_one_term_needs_room_in_every_layer(hidden, rank):
    target = matrix_with_singular_values(3, 4, [3.0, 2.0, 1.0][:rank], 0)
    with pytest.raises(ValueError, match="widths: expected two or more hidden widths, and all"):
        one_term_minimizer(target, hidden, 0)
