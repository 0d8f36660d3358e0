"""A study that float64 is not accurate enough for ends in one line."""

import pytest

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.paths import minimizer_with_sharpness
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.studies.run import run
from tests.helpers import ensemble_of


def far_from_flat(target, widths, seed):
    return minimizer_with_sharpness(
        target, widths, 1e30 * flat_sharpness(target, len(widths) + 1), seed
    )


def test_a_search_from_too_far_away_says_so():
    ensembles = [ensemble_of(k, (2, 3, 2), [far_from_flat] * 3) for k in range(3)]
    with pytest.raises(UserError, match=r"^studies.flattest: expected minimizers that float64"):
        run("flattest", ensembles, StudySpec(steps=300))
