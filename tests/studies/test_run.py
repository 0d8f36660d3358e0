"""A study that float64 is not accurate enough for ends in one line."""

import pytest
import torch

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.basic import balanced_minimizer
from dmf_sharpness.minimizers.paths import minimizer_with_sharpness
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.studies import flattest
from dmf_sharpness.studies.run import run
from tests.helpers import ensemble_of

SPEC = StudySpec(steps=300)


def far_from_flat(target, widths, seed):
    return minimizer_with_sharpness(
        target, widths, 1e30 * flat_sharpness(target, len(widths) + 1), seed
    )


@pytest.mark.parametrize(
    "error",
    [torch.linalg.LinAlgError("no convergence\nof a library"), ArithmeticError("no convergence")],
)
def test_a_study_that_breaks_down_says_so_in_one_line(monkeypatch, error):
    def breaks_down(ensemble, spec):
        raise error

    monkeypatch.setattr(flattest, "study", breaks_down)
    with pytest.raises(UserError) as caught:
        run("flattest", [ensemble_of(0, (2, 3, 2), [far_from_flat])], SPEC)
    assert str(caught.value) == (
        "studies.flattest: expected minimizers that float64 is accurate enough for, got: no convergence"
    )


def test_a_search_from_far_away_ends_at_flat_minimizers():
    ensembles = [ensemble_of(k, (2, 3, 2), [far_from_flat] * 3) for k in range(3)]
    table = run("flattest", ensembles, SPEC)
    assert (table.start_ratio > 9e29).all()
    assert ((table.end_ratio - 1).abs() < 1e-6).all()


@pytest.mark.parametrize("values", [[[3.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1e-300]]])
def test_the_search_for_the_least_trace_names_the_rank_that_it_needs(values):
    target = torch.tensor(values, dtype=torch.float64)
    ensemble = ensemble_of(0, (2, 2, 2), [balanced_minimizer], [target])
    with pytest.raises(UserError) as caught:
        run("trace", [ensemble], SPEC)
    assert str(caught.value) == "studies.trace: expected targets of full rank 2, got rank 1"
