"""The closed form at eighty digits: the row of the ledger, its oracle, and formulas that are not exact."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_sharpness import oracles
from dmf_sharpness.claims.judge import judge
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.basic import random_minimizer
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.studies import many_digits
from dmf_sharpness.studies.run import run
from tests.exact import product, rational
from tests.helpers import ensemble_of, random_point

NETWORKS = [(2, 3, 2), (1, 2, 3, 1), (2, 2, 2, 2, 1)]


def row():
    """The row of the ledger from a small run of the study."""
    ensembles = [ensemble_of(k, widths, [random_minimizer]) for k, widths in enumerate(NETWORKS)]
    table = run("many_digits", ensembles, StudySpec(seed=1))
    table.insert(0, "experiment", "e")
    (claim,) = judge({"studies/many_digits": table})
    return table, claim


def test_the_row_holds_and_all_of_its_control_fails():
    table, claim = row()
    assert claim.id == "C1.digits"
    assert claim.stands
    assert claim.value < 1e-75
    assert claim.control.share == 1
    assert table.on_data.tolist() == [False, True] * len(NETWORKS)


@pytest.mark.parametrize("relative", ["1e-30", "1e-49"])
def test_a_formula_that_is_off_by_little_is_seen(monkeypatch, relative):
    right = many_digits.closed_form

    def wrong(*arguments):
        with mpmath.workdps(many_digits.DIGITS):
            return right(*arguments) * (1 + mpmath.mpf(relative))

    monkeypatch.setattr(many_digits, "closed_form", wrong)
    _, claim = row()
    assert claim.verdict == "fails"
    assert claim.value == pytest.approx(float(relative))


def test_float64_is_right_to_rounding_only():
    table, _ = row()
    assert table.float_difference.between(1e-20, 1e-14).all()


def test_the_residual_of_the_data_is_orthogonal_to_the_inputs_exactly():
    X, E = many_digits._orthogonal_data(np.random.default_rng(0), outputs=3, inputs=2)
    assert (X.shape, E.shape) == ((2, 4), (3, 4))
    assert (E @ X.T == 0).all()
    assert (E != 0).all()


@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=4, max_size=4), min_size=4, max_size=4),
    st.integers(1, 4),
    st.sampled_from([Fraction(1), Fraction(1, 3), Fraction(10) ** 40, Fraction(1, 10**40)]),
)
def test_the_largest_eigenvalue_is_that_of_all(entries, order, unit):
    """Small integers, among which are multiple eigenvalues, zero ones and all negative ones."""
    B = np.array([[unit * entry for entry in row[:order]] for row in entries[:order]], dtype=object)
    A = B + B.T
    with mpmath.workdps(100):
        exact = mpmath.matrix([[mpmath.mpf(x.numerator) / x.denominator for x in row] for row in A])
        values = mpmath.eigsy(exact, eigvals_only=True)
        size = max(map(abs, values))
        assert abs(oracles.largest_eigenvalue(A, 80) - max(values)) <= size * mpmath.mpf("1e-79")


@pytest.mark.parametrize("gap", ["1e-20", "1e-7", "1e-5"])
def test_the_largest_of_two_close_eigenvalues_is_told_from_the_other(gap):
    rotation = np.array([[Fraction(3, 5), Fraction(-4, 5)], [Fraction(4, 5), Fraction(3, 5)]])
    A = rotation @ np.diag([Fraction(1), 1 + Fraction(gap)]) @ rotation.T
    with mpmath.workdps(80):
        missed = abs(oracles.largest_eigenvalue(A, 80) - 1 - mpmath.mpf(gap))
        assert missed < mpmath.mpf("1e-78")


@given(
    st.lists(st.integers(1, 3), min_size=3, max_size=4),
    st.integers(0, 99),
    st.booleans(),
)
def test_differences_of_the_loss_are_what_autograd_gives(widths, seed, on_data):
    """At any point and any outputs, so with a residual in the Hessian."""
    factors = random_point(widths, seed)
    X = gaussian_matrix(widths[0], 4, seed) if on_data else None
    Y = gaussian_matrix(widths[-1], 4 if on_data else widths[0], seed + 1)
    exact = oracles.exact_hessian(
        [rational(W) for W in factors], rational(Y), None if X is None else rational(X)
    )
    dense = oracles.dense_hessian(factors, Y, X)
    size = float(dense.abs().max()) + 1
    assert np.abs(exact.astype(float) - dense.numpy()).max() < 1e-13 * size


@pytest.mark.parametrize("widths", NETWORKS)
def test_the_traces_of_hessian_and_operator_are_the_same_fractions(widths):
    """Sums of the powers of all eigenvalues, in which no digit at all is rounded."""
    factors = [rational(W) for W in random_point(widths, 3)]
    H = oracles.exact_hessian(factors, product(factors))
    K = 2 * sum(np.kron(R.T @ R, L @ L.T) for L, R in many_digits._split(factors, None))
    for _ in range(3):
        assert isinstance(np.trace(H), Fraction)
        assert np.trace(H) == np.trace(K)
        H, K = H @ H, K @ K


def test_the_flat_value_is_that_of_float64():
    target = gaussian_matrix(3, 2, 0)
    expected = 6 * float(torch.linalg.matrix_norm(target, ord=2)) ** (4 / 3)
    assert float(many_digits.flat_value(rational(target), 3)) == pytest.approx(expected, rel=1e-14)
