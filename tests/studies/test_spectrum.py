"""The study of the whole spectrum, and the number of zeros by ranks, against numbers known by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.basic import balanced_minimizer, random_minimizer
from dmf_sharpness.minimizers.targets import matrix_with_singular_values
from dmf_sharpness.network.tangent import nonzero_eigenvalues
from dmf_sharpness.oracles import dense_spectrum
from dmf_sharpness.studies.spectrum import study
from tests.helpers import ensemble_of


@pytest.mark.parametrize(
    ("widths", "rank"), [((4, 5, 3), 2), ((4, 2, 3), 2), ((3, 4, 4, 5), 1), ((2, 3, 3, 2), 2)]
)
def test_balanced_minimizers_have_the_dimension_of_matrices_of_their_rank(widths, rank):
    d_0, d_L = widths[0], widths[-1]
    target = matrix_with_singular_values(d_L, d_0, [1.0] * rank, 3)
    factors = balanced_minimizer(target, widths[1:-1], 1)
    assert nonzero_eigenvalues(factors) == rank * (d_0 + d_L - rank)


def test_spare_units_that_are_used_give_more():
    """With a layer whose products have full rank, every change of the product is possible."""
    target = matrix_with_singular_values(3, 3, [1.5, 1.0], 0)
    assert nonzero_eigenvalues(balanced_minimizer(target, [3, 3], 1)) == 8
    assert nonzero_eigenvalues(random_minimizer(target, [3, 3], 1)) == 9


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_the_number_is_that_of_the_dense_hessian(data):
    rank = data.draw(st.integers(1, 3))
    widths = data.draw(st.lists(st.integers(rank, 4), min_size=3, max_size=5))
    target = matrix_with_singular_values(widths[-1], widths[0], [1.5, 1.0, 0.7][:rank], 5)
    make = data.draw(st.sampled_from([balanced_minimizer, random_minimizer]))
    factors = make(target, widths[1:-1], data.draw(st.integers(0, 99)))
    values = dense_spectrum(factors, target)
    nonzero = nonzero_eigenvalues(factors)
    # The least of the others may be small, but not as small as rounding errors.
    assert float(values[nonzero - 1]) > 1e-12 * float(values[0])
    assert float(values[nonzero:].abs().sum()) < 1e-13 * float(values[0])


def test_the_table_has_every_eigenvalue_of_both():
    target = matrix_with_singular_values(3, 3, [2.0], 0)
    table = study(ensemble_of(0, (3, 2, 3), [balanced_minimizer], [target]), StudySpec())
    # W_1 = √2 (u, 0), so 2(‖W_1‖² + ‖W_2‖²) = 8 once, and 4 for each of the other four.
    expected = np.array([1, 0.5, 0.5, 0.5, 0.5] + [0] * 7)
    np.testing.assert_allclose(table.closed_form, expected, atol=1e-14)
    np.testing.assert_allclose(table.dense, expected, atol=1e-14)
    assert table.place.tolist() == list(range(1, 13))
    assert (table["rank"].iloc[0], table.zeros.iloc[0], table.predicted_zeros.iloc[0]) == (1, 7, 7)
    # The terms of the operator have the ranks 3 · 1 and 1 · 3, and overlap in one direction.
    assert table.control_zeros.iloc[0] == 6
