"""The studies on part of the target: what is drawn, and both studies on a few minimizers."""

import numpy as np
import pytest
import torch

from dmf_sharpness.claims.judge import judge
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.minimizers.basic import random_minimizer
from dmf_sharpness.studies import observed, observed_threshold
from tests.helpers import ensemble_of

KINDS = ("mask", "weights", "measurements")


@pytest.fixture(scope="module")
def ensemble():
    return ensemble_of(0, (3, 4, 3, 2), [random_minimizer] * 3)


def test_the_share_decides_how_much_is_observed(ensemble):
    for share, count in ((0.5, 3), (1.0, 6), (0.01, 1)):
        spec = StudySpec(observations=KINDS, observed_share=share, seed=4)
        mask, weights, measured = observed.drawn_observations(ensemble, spec).values()
        assert int(mask["observed"].sum()) == count
        assert torch.equal(weights["observed"] > 0, mask["observed"])
        sizes = weights["observed"][mask["observed"]]
        assert 0.1 <= float(sizes.min()) <= float(sizes.max()) <= 10
        assert measured["measurements"].shape == (count, 2, 3)


def test_rows_of_a_few_minimizers(ensemble):
    spec = StudySpec(observations=KINDS, observed_share=0.5, steps=200)
    tables = {
        "studies/observed": observed.study(ensemble, spec).assign(experiment="e"),
        "studies/observed_threshold": observed_threshold.study(ensemble, spec).assign(
            experiment="e"
        ),
    }
    rows = {claim.id: claim for claim in judge(tables)}
    assert list(rows) == ["C1.observed", "C1.observed_spectrum", "C6.observed"]
    assert all(claim.stands for claim in rows.values())
    assert all(claim.n == 9 for claim in rows.values())
    table = tables["studies/observed"]
    np.testing.assert_allclose(table.whole_sharpness[:3], sharpness(ensemble.factors).value)
    # Values and controls come from the columns that the statistic names.
    for column, fallen in (
        ("sharpness", "C1.observed"),
        ("oracle_sharpness", "C1.observed"),
        ("spectrum_difference", "C1.observed_spectrum"),
    ):
        spoiled = table.assign(**{column: 1.001 * table[column] + 1e-9})
        wrong = {claim.id for claim in judge({"studies/observed": spoiled}) if not claim.stands}
        assert wrong == {fallen}
