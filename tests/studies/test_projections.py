"""The components along all eigenvectors, against gradient descent by hand."""

import numpy as np
import torch

import dmf_sharpness as dmf
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.network.factors import flatten
from dmf_sharpness.oracles import dense_hessian
from dmf_sharpness.studies.common import random_directions
from dmf_sharpness.studies.projections import study
from tests.helpers import ensemble_of

SPEC = StudySpec(step_ratios=(0.8, 1.2), radii=(1e-8,), steps=40, seed=6)


def test_components_and_factors_are_those_of_descent_by_hand():
    ensemble = ensemble_of(2, (2, 3, 2), [dmf.random_minimizer] * 2)
    table = study(ensemble, SPEC)
    factors, target = ensemble.one(1), ensemble.target[1]
    values, vectors = torch.linalg.eigh(dense_hessian(factors, target))
    centre = flatten(factors)
    shift = random_directions(1, len(centre), [6, 2, 1])[0]
    for ratio in SPEC.step_ratios:
        eta = 2 * ratio / float(values[-1])
        W_1, W_2 = (W.numpy().copy() for W in factors)
        W_1 += 1e-8 * shift[:6].reshape(3, 2).numpy()
        W_2 += 1e-8 * shift[6:].reshape(2, 3).numpy()
        by_hand = []
        for _ in range(6):
            here = torch.from_numpy(np.concatenate([W_1.ravel(), W_2.ravel()])) - centre
            along = (vectors.mT @ here).abs().flip(0)
            by_hand.append(torch.cat([along[:4], torch.linalg.vector_norm(along[4:])[None]]))
            E = W_2 @ W_1 - target.numpy()
            W_1, W_2 = W_1 - eta * 2 * W_2.T @ E, W_2 - eta * 2 * E @ W_1.T
        rows = table[(table.minimizer == 1) & (table.step_ratio == ratio) & (table.step < 6)]
        found = rows.pivot_table(index="step", columns="place", values="component").abs()
        np.testing.assert_allclose(found, torch.stack(by_hand), rtol=1e-4, atol=1e-14)
        grown = rows[rows.growth.notna()]
        assert len(grown) > 0
        np.testing.assert_allclose(grown.growth, (1 - 2 * grown.direction_ratio).abs(), rtol=1e-5)
        np.testing.assert_allclose(
            rows[rows.step == 0].direction_ratio,
            [*(eta / 2 * values.flip(0)[:4]), 0.0],
            rtol=1e-10,
        )


def test_outside_the_linear_phase_there_is_no_factor():
    ensemble = ensemble_of(0, (2, 3, 2), [dmf.random_minimizer])
    far = StudySpec(step_ratios=(0.8,), radii=(1e-2,), steps=40, seed=6)
    assert study(ensemble, far).growth.isna().all()


def test_the_square_of_the_largest_component_drives_the_stable_ones():
    """Once those that decay slowly have decayed as well, they grow by its factor squared per step."""
    ensemble = ensemble_of(0, (4, 5, 5, 4), [dmf.random_minimizer])
    spec = StudySpec(step_ratios=(1.2,), radii=(1e-8,), steps=60, seed=6)
    table = study(ensemble, spec)
    size = table.pivot_table(index="step", columns="place", values="component").abs()
    norm = float(torch.linalg.vector_norm(flatten(ensemble.one(0))))
    window = size[(size[1] > 1e-5 * norm) & (size[1] < 1e-3 * norm)]
    factor = (window.iloc[-1] / window.iloc[0]) ** (1 / (len(window) - 1))
    assert abs(factor[1] / 1.4 - 1) < 1e-3
    stable = table.drop_duplicates("place")
    chosen = stable.place[(stable.direction_ratio < 0.8) & (stable.direction_ratio > 0.2)]
    assert len(chosen) > 3
    np.testing.assert_allclose(np.log(factor[chosen]) / np.log(factor[1]), 2, rtol=0.05)
