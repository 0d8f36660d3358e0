"""The bisection for the limit of stability: the verdict on single runs, and the limit of known minimizers."""

import math

import numpy as np
import pytest
import torch

from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.minimizers.basic import random_minimizer
from dmf_sharpness.minimizers.paths import minimizer_with_sharpness
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.network.tangent import retracted
from dmf_sharpness.studies.common import random_directions, sites_of
from dmf_sharpness.studies.threshold import RADIUS, leaves, predicted_threshold, study
from tests.helpers import ensemble_of

NAN = math.nan


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1, 1.1, 1.2, 1.3], True),
        ([1, 0.9, 0.8, 0.7], False),
        ([1, 2.5, 1.5, 2.0], False),  # it was amplified at first, and has shrunk in its second half
        ([1, 2.5, 2.0, 2.6], True),
        ([1, 5, 0.01, 0.001], True),  # it has escaped, and has landed by now
        ([1, 1.2, NAN, NAN], True),
        ([1, 0.5, 1e-9, 2e-9], False),  # it has returned, and moves within rounding
        ([1, math.inf, NAN, NAN], True),
        ([1, NAN, NAN, NAN], False),
    ],
)
def test_the_verdict_on_a_run(sizes, expected):
    along = torch.tensor(sizes, dtype=torch.float64)[:, None]
    assert leaves(along, 3.0).tolist() == [expected]


def test_the_limits_follow_from_the_roots_of_the_two_term_recursions():
    # At the limit −1 is a root of z² − (1 + β − ηλ)z + β, and of z² − (1 − ηλ)((1 + β)z − β).
    for beta in (0.0, 0.3, 0.9):
        momentum = torch.tensor(beta)
        heavy, nesterov = (float(predicted_threshold(momentum, kind)) for kind in (False, True))
        assert 1 + (1 + beta - heavy) + beta == pytest.approx(0, abs=1e-6)
        assert 1 + (1 - nesterov) * (1 + 2 * beta) == pytest.approx(0, abs=1e-6)


def test_every_bisection_has_a_bracket_of_its_own_and_finds_the_limit():
    ensemble = ensemble_of(0, (3, 4, 2), [random_minimizer] * 3)
    table = study(ensemble, StudySpec(steps=600, momenta=(0.0, 0.5)))
    assert len(table) == 9
    assert table.first_low.between(0.4, 0.9).all()
    assert table.first_high.between(1.1, 1.6).all()
    assert table.first_low.nunique() == table.first_high.nunique() == 9
    relative = table.threshold / table.predicted
    np.testing.assert_allclose(relative, 1, atol=2e-6)
    assert relative.nunique() == 9
    expected = {0.0: [2.0], 0.5: [3.0, 1.5]}
    for momentum, rows in table.groupby("momentum"):
        assert sorted(rows.predicted.unique(), reverse=True) == expected[momentum]


def far_from_flat(M, widths, seed):
    return minimizer_with_sharpness(M, widths, 2.5 * flat_sharpness(M, len(widths) + 1), seed)


def test_the_measured_limit_is_that_of_the_minimizer_next_to_the_start():
    ensemble = ensemble_of(0, (3, 4, 4, 2), [far_from_flat] * 4)
    spec = StudySpec(steps=1000, momenta=(0.0,))
    table = study(ensemble, spec)
    sites = sites_of(ensemble)
    size = RADIUS * torch.linalg.vector_norm(sites.centre, dim=1, keepdim=True)
    shift = size * random_directions(*sites.centre.shape, [spec.seed, 0])
    near = retracted(sites.factors(sites.centre + shift), ensemble.problem)
    measured = torch.tensor(table.threshold.tolist(), dtype=torch.float64) / 2 - 1
    expected = sites.closed_form / sharpness(near).value - 1
    assert (measured - expected).abs().max() < 0.1 * measured.abs().max()
