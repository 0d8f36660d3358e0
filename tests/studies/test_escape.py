import numpy as np
import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import EscapeSpec
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import end_to_end, flatten, unflatten
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.oracles import dense_hessian
from dmf_sharpness.studies.common import growth_per_step
from dmf_sharpness.studies.escape import EscapeOutcome, study
from dmf_sharpness.studies.landscape import flattening_direction, loss_on_plane
from tests.helpers import random_problem


def escapes_of(factors, target, step_ratios, radii, steps):
    widths = (factors[0].shape[1], *(len(W) for W in factors))
    ensemble = Ensemble(0, widths, ("random",), [W[None] for W in factors], target[None], None)
    return study(ensemble, EscapeSpec(1, step_ratios, radii, steps))


@pytest.fixture(scope="module")
def escapes():
    target = gaussian_matrix(4, 4, 1)
    sharp = 1.6 * dmf.flat_sharpness(target, 3)
    factors = dmf.minimizer_with_sharpness(target, [6, 6], sharp, 2)
    return escapes_of(factors, target, (0.7, 0.95, 1.05, 1.2), (1e-9, 1e-6), 3000)


def test_runs_leave_above_the_limit_and_return_below(escapes):
    table = escapes.table
    assert table.step_ratio.tolist() == [0.7, 0.7, 0.95, 0.95, 1.05, 1.05, 1.2, 1.2]
    assert table.escaped.tolist() == [False] * 4 + [True] * 4
    assert table.outcome.tolist() == ["returned"] * 4 + ["landed"] * 4
    landed = table[table.outcome == "landed"]
    assert (landed.end_ratio < 1).all()
    assert (landed.farthest > 10 * landed.radius).all()
    assert table.end_ratio[:4].isna().all()


def test_growth_is_as_predicted(escapes):
    measured = escapes.table[escapes.table.growth.notna()]
    assert len(measured) >= 5
    np.testing.assert_allclose(measured.growth, measured.predicted_growth, rtol=1e-5)


def test_growth_of_a_known_sequence():
    step = torch.arange(60, dtype=torch.float64)
    growing, short = 1e-11 * 1.3**step, torch.full((60,), 1e-3, dtype=torch.float64)
    growth = growth_per_step(torch.stack([growing, -growing, short], dim=1), torch.ones(3))
    np.testing.assert_allclose(growth[:2], 1.3, rtol=1e-12)
    assert np.isnan(growth[2])


def test_flattening_direction_is_a_kernel_direction_that_lowers_the_sharpness():
    target, factors = random_problem((3, 5, 4, 2), 3)
    v_N = flattening_direction(factors, Problem(target))
    hessian = dense_hessian(factors, target)
    assert float(v_N.norm()) == pytest.approx(1)
    assert float((hessian @ v_N).norm()) < 1e-11 * dmf.sharpness(factors).value
    # Along it, to first order, the point stays a minimizer and the curvature along v_1 falls.
    v_1 = flatten(dmf.sharpness(factors).eigenvector)
    there = unflatten(flatten(factors) + 1e-4 * v_N, (3, 5, 4, 2))
    assert float((end_to_end(there) - target).norm()) < 1e-6
    assert v_1 @ dense_hessian(there, target) @ v_1 < v_1 @ hessian @ v_1


def test_flat_minimizers_have_no_flattening_direction():
    target = gaussian_matrix(1, 1, 0)
    factors = dmf.balanced_minimizer(target, [3, 3])
    assert float(flattening_direction(factors, Problem(target)).norm()) == 0.0


def test_loss_on_the_plane_is_the_quadratic_near_the_minimizer():
    target, factors = random_problem((3, 5, 2), 4)
    a = torch.tensor([-1e-4, 0.0, 1e-4], dtype=torch.float64)
    loss = loss_on_plane(
        factors, Problem(target), a, torch.tensor([0.0, 1e-6], dtype=torch.float64)
    )
    assert loss.shape == (2, 3)
    expected = dmf.sharpness(factors).value / 2 * a.square()
    torch.testing.assert_close(loss[0], expected, rtol=1e-3, atol=1e-20)


def test_outcomes_that_count_as_escapes():
    stays = {EscapeOutcome.RETURNED, EscapeOutcome.UNDECIDED}
    assert {outcome for outcome in EscapeOutcome if not outcome.escaped} == stays


def test_too_few_steps_leave_a_run_undecided():
    target, factors = random_problem((3, 5, 2), 5)
    runs = escapes_of(factors, target, (0.999, 1.001), (1e-6,), 50)
    assert runs.table.outcome.tolist() == ["undecided", "undecided"]
    assert not runs.table.escaped.any()


def test_period_two_orbits_are_recognized():
    target = gaussian_matrix(3, 3, 0)
    flat = dmf.balanced_minimizer(target, [4], 1)
    runs = escapes_of(flat, target, (1.05,), (1e-4,), 3000)
    assert runs.table.outcome.tolist() == ["period_two"]
