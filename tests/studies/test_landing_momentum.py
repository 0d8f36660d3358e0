"""The study of the heavy ball's landings: its columns, against runs made here."""

import numpy as np
import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.descent.landing_law import landing_terms
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.basic import balanced_minimizer
from dmf_sharpness.minimizers.paths import minimizer_with_sharpness
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.oracles import dense_hessian
from dmf_sharpness.studies import landing, landing_momentum
from tests.helpers import ensemble_of


def sharper(M, widths, seed):
    return minimizer_with_sharpness(M, widths, 1.5 * dmf.flat_sharpness(M, len(widths) + 1), seed)


@pytest.fixture(scope="module")
def ensemble():
    return ensemble_of(3, (2, 3, 3, 2), [sharper, sharper])


def test_the_columns_are_what_their_names_say(ensemble):
    spec = StudySpec(steps=60_000, step_ratios=(1.002, 1.004), momenta=(0.5, 0.2))
    table = landing_momentum.study(ensemble, spec)
    assert table.momentum.tolist() == [0.5] * 4 + [0.2] * 4
    assert table.excess.tolist() == pytest.approx(
        [0.002] * 2 + [0.004] * 2 + [0.002] * 2 + [0.004] * 2
    )
    assert table.minimizer.tolist() == [0, 1] * 4
    assert set(table.outcome) == {"landed"}
    for row in table.itertuples():
        W, M = ensemble.one(row.minimizer), ensemble.target[row.minimizer]
        spectrum = torch.linalg.eigvalsh(dense_hessian(W, M))
        terms = landing_terms(W, Problem(M))
        c, speed = 1 + row.excess, (1 + row.momentum) / (1 - row.momentum)
        assert row.second_ratio == pytest.approx(c * float(spectrum[-2] / spectrum[-1]))
        assert row.flat_ratio == pytest.approx(c / 1.5)
        assert row.coefficient == pytest.approx(float(terms.coefficient - terms.drift_slope))
        assert row.refined == pytest.approx(row.coefficient + 1.5 * speed**2)
        assert row.predicted == pytest.approx(dmf.predict_landing(row.refined, c), abs=1e-12)
        plain = dmf.predict_landing(row.coefficient + 1.5, c)
        assert row.predicted_plain == pytest.approx(plain, abs=1e-12)
        assert row.amplitude == pytest.approx(2 * row.excess / float(terms.drift) ** 0.5)
        # The measured numbers: the law leaves the next order, and the mirror more.
        assert row.displaced == pytest.approx(row.amplitude, rel=0.05)
        mirror = abs(1 - row.end_ratio - row.excess)
        assert abs(row.end_ratio - row.predicted) < 0.2 * mirror


def test_without_momentum_it_is_the_study_of_gradient_descent(ensemble):
    spec = StudySpec(steps=60_000, step_ratios=(1.002,), momenta=(0.0,))
    heavy, plain = landing_momentum.study(ensemble, spec), landing.study(ensemble, spec)
    for column in ("excess", "refined", "second_ratio", "flat_ratio"):
        np.testing.assert_allclose(heavy[column], plain[column], rtol=1e-12)
    np.testing.assert_allclose(heavy.predicted, plain.predicted_refined, rtol=1e-12)
    np.testing.assert_allclose(1 - heavy.end_ratio, 1 - plain.end_ratio, rtol=1e-6)


def test_runs_at_the_step_limit_are_undecided_and_flat_minimizers_have_no_prediction():
    flat = ensemble_of(0, (3, 3, 3), [balanced_minimizer])
    spec = StudySpec(steps=50, step_ratios=(1.01,), momenta=(0.5,))
    (row,) = landing_momentum.study(flat, spec).itertuples()
    assert row.outcome == "undecided"
    assert np.isnan(row.end_ratio)
    # The drift of a flat minimizer is zero or a rounding error.
    assert np.isnan(row.predicted) or abs(row.refined) > 1e6
