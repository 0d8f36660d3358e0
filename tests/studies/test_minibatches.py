"""The columns of the studies of minibatches."""

import numpy as np
import pytest
import torch

from dmf_sharpness.experiments.options import StudySpec
from dmf_sharpness.minimizers.basic import balanced_minimizer, random_minimizer
from dmf_sharpness.oracles import dense_spectrum
from dmf_sharpness.studies import minibatch_runs, minibatches
from tests.helpers import ensemble_of

MAKERS = [balanced_minimizer, random_minimizer]


def test_thresholds_and_growth():
    ensemble, spec = ensemble_of(0, (2, 3, 2), MAKERS), StudySpec(samples=3, seed=4)
    table = minibatches.study(ensemble, spec)
    assert len(table) == 2 * 3 * 2
    assert (table.growth / table.predicted).to_numpy() == pytest.approx(1, abs=1e-4)
    for b, rows in table.groupby("minimizer"):
        X = minibatches.inputs_of(ensemble, spec, rows.problem.iloc[0])
        W = ensemble.one(b)
        top = float(dense_spectrum(W, torch.linalg.multi_dot([*W[::-1], X]), X)[0])
        assert rows.sharpness.to_numpy() == pytest.approx(top, rel=1e-12)
    here = table[table["at"] == "mean_square"]
    assert (here.step_ratio == here.mean_square).all()
    assert here.predicted.to_numpy() == pytest.approx(1, abs=1e-12)
    whole = table[table.batch_size == 3]
    assert whole.growth.to_numpy() == pytest.approx(whole.full_growth.to_numpy(), abs=1e-4)


def test_runs_around_the_threshold():
    ensemble = ensemble_of(0, (2, 3, 2), MAKERS)
    spec = StudySpec(samples=3, step_ratios=(0.8, 1.2), radii=(1e-6,), steps=600, repeats=2)
    table = minibatch_runs.study(ensemble, spec)
    runs, full = (table[table.method == method] for method in ("minibatch", "full"))
    assert (len(runs), len(full)) == (2 * 2 * 2 * 2, 2 * 2 * 2)
    assert (runs.left == (runs.step_ratio > 1)).all()
    assert (full.left == (full.full_ratio > 1)).all()
    assert (runs.left == (runs.farthest >= minibatch_runs.FAR)).all()
    ended = table.outcome.eq("converged") & (table.step_ratio > 1)
    assert (table.end_ratio.notna() == ended).all()
    stayed = full[~full.left & full.end_ratio.notna()]
    assert stayed.end_ratio.to_numpy() == pytest.approx(1, abs=1e-4)
    assert (stayed.exponent > 0).all()
    assert np.isfinite(table.mean_square_ratio).all()
