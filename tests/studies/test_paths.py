"""The study of paths, on networks for which its columns satisfy identities of their own."""

import numpy as np
import pytest
import torch

from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.basic import balanced_minimizer
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.studies.paths import study
from tests.helpers import ensemble_of

SPEC = StudySpec(points=5, path_length=2.0, repeats=3, seed=1)


def test_every_path_has_its_points_and_its_number():
    table = study(ensemble_of(0, (2, 3, 2), [balanced_minimizer] * 2), SPEC)
    assert table.minimizer.tolist() == [0] * 15 + [1] * 15
    assert table.path.tolist() == np.repeat([0, 1, 2] * 2, 5).tolist()
    assert table.t.tolist() == pytest.approx([0, 0.5, 1, 1.5, 2] * 6)
    start = table[table.t == 0]
    np.testing.assert_allclose(start.sharpness, start.flat_sharpness, rtol=1e-12)
    assert (table[table.t > 0].sharpness > table[table.t > 0].flat_sharpness).all()
    # The paths differ, also those of one minimizer.
    assert table[table.t == 2].sharpness.nunique() == 6


def test_the_bounds_of_scalars_of_depth_2():
    """With one hidden unit ``p_1 p_2 = |M|``, so one bound gives the other, and the upper one is attained."""
    targets = [torch.tensor([[m]], dtype=torch.float64) for m in (0.5, 3.0)]
    table = study(ensemble_of(0, (1, 1, 1), [balanced_minimizer] * 2, targets), SPEC)
    norm = np.repeat([0.5, 3.0], 15)
    np.testing.assert_allclose(table.flat_sharpness, 4 * norm, rtol=1e-12)
    np.testing.assert_allclose(table.upper, table.lower + 4 * norm**2 / table.lower, rtol=1e-10)
    np.testing.assert_allclose(table.sharpness, table.upper, rtol=1e-10)
    np.testing.assert_allclose(table.oracle_sharpness, table.upper, rtol=1e-10)
    assert (table[table.t > 0].lower > 2 * np.repeat([0.5, 3.0], 12)).all()


def test_the_bounds_of_a_balanced_minimizer():
    """All products are ``‖M‖^{2/3}`` at depth 3."""
    target = gaussian_matrix(3, 2, 0)
    table = study(ensemble_of(0, (2, 4, 4, 3), [balanced_minimizer], [target]), SPEC)
    start = table[table.t == 0]
    square = float(torch.linalg.matrix_norm(target, ord=2)) ** (4 / 3)
    np.testing.assert_allclose(start.lower, 2 * square, rtol=1e-12)
    np.testing.assert_allclose(start.upper, 6 * square, rtol=1e-12)
    np.testing.assert_allclose(table.oracle_sharpness, table.sharpness, rtol=1e-12)
    assert (table.lower <= table.sharpness * (1 + 1e-12)).all()
    assert (table.sharpness <= table.upper * (1 + 1e-12)).all()
