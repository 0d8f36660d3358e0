"""The orbits beyond ``2/λ_flat``: the limit of the second direction, and the period of the balanced orbit."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_sharpness.claims.tolerances import PERIOD_TWO
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.basic import balanced_minimizer
from dmf_sharpness.minimizers.targets import matrix_with_singular_values
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.oracles import dense_hessian
from dmf_sharpness.studies.orbits import second_eigenvalue_ratio, study
from tests.helpers import ensemble_of


@given(
    depth=st.integers(2, 4),
    second=st.floats(0.05, 0.95),
    size=st.tuples(st.integers(2, 3), st.integers(2, 3)),
)
def test_the_second_eigenvalue_at_a_balanced_minimizer_is_that_of_its_hessian(depth, second, size):
    target = matrix_with_singular_values(*size, [2.0, 2 * second], seed=1)
    hidden = [max(size)] * (depth - 1)
    hessian = dense_hessian(balanced_minimizer(target, hidden, seed=2), target)
    expected = torch.linalg.eigvalsh(hessian)[-2] / flat_sharpness(target, depth)
    assert float(second_eigenvalue_ratio(target, depth)) == pytest.approx(float(expected), rel=1e-9)


def test_a_target_of_one_row_has_no_second_singular_value():
    assert second_eigenvalue_ratio(torch.ones(1, 3, dtype=torch.float64), 2) == 0


def orbit_of(depth, c):
    """Two points of the balanced orbit of a target 1, ``x ← x − 2η x^{L−1}(x^L − 1)``, and its derivative."""
    eta, x, slope, points = c / depth, 0.97, 1.0, []
    for t in range(20_002):
        if t >= 20_000:
            points.append(x)
            slope *= 1 - 2 * eta * (
                (2 * depth - 1) * x ** (2 * depth - 2) - (depth - 1) * x ** (depth - 2)
            )
        x -= 2 * eta * x ** (depth - 1) * (x**depth - 1)
    return points, x, slope


@pytest.mark.parametrize("c", [1.02, 1.1, 1.2])
def test_the_derivative_along_the_orbit_at_depth_two(c):
    points, _, slope = orbit_of(2, c)
    assert math.prod(points) * c == pytest.approx(1, rel=1e-9)
    assert slope == pytest.approx(9 - 2 * (1 + c) ** 2, rel=1e-9)
    assert pytest.approx((1 + PERIOD_TWO) ** 2) == 5


@pytest.mark.parametrize(
    ("depth", "limit"), [(2, PERIOD_TWO), (3, 1.2445), (4, 1.2471), (15, 1.2507)]
)
def test_the_period_is_two_up_to_the_limit_and_not_beyond(depth, limit):
    for c, closed in ((limit - 1e-3, True), (limit + 1e-3, False)):
        points, after, _ = orbit_of(depth, c)
        assert (abs(after - points[0]) < 1e-6) == closed
    assert limit >= PERIOD_TWO


def test_an_orbit_alternates_in_the_top_subspace_and_a_wider_one_does_not():
    target = matrix_with_singular_values(3, 3, [10, 7, 2], seed=3)
    ensemble = ensemble_of(0, (3, 3, 3), [balanced_minimizer], [target])
    spec = StudySpec(steps=4000, step_ratios=(0.9, 1.1, 1.25), radii=(1e-3,))
    table = study(ensemble, spec)
    ends = table[table.step == table.step.max()].set_index(["start", "flat_ratio"])
    assert (ends.ended != 2).all()
    for start in ("identity", "minimizer"):
        assert ends.alternation[start, 1.1] < 1e-6
        assert ends.in_top[start, 1.1] == pytest.approx(1, abs=1e-6)
        assert ends.alternation[start, 1.25] > 1e-3
    expected = 1.1 * float(second_eigenvalue_ratio(target, 2))
    assert ends.second_ratio["identity", 1.1] == pytest.approx(expected)
