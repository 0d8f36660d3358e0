"""The study of trained networks: its columns by dense Hessians, and runs that end far from a minimizer."""

import numpy as np
import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.experiments.experiment import DataSpec, StudySpec
from dmf_sharpness.minimizers.data_sets import prepared
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.oracles import dense_hessian
from dmf_sharpness.studies import trained
from tests.helpers import ensemble_of

SPEC = StudySpec(starts=("fan_in", "orthogonal"), steps=1500, repeats=2, seed=4)


@pytest.fixture(scope="module")
def factorization():
    ensemble = ensemble_of(1, (4, 6, 3), [dmf.balanced_minimizer, dmf.random_minimizer])
    return ensemble, trained.study(ensemble, SPEC)


def test_there_is_a_row_for_every_start(factorization):
    _, table = factorization
    assert len(table) == 2 * 2 * 2
    assert table.lanczos_sharpness.notna().tolist() == (table["repeat"] == 0).tolist()
    assert (table.distance < 1e-4).all()
    np.testing.assert_allclose(table.flat_sharpness, table.flat_made, rtol=1e-12)
    np.testing.assert_allclose(table.flat_sharpness, table.control_sharpness, rtol=1e-12)


def test_single_precision_ends_where_double_precision_does(factorization):
    """Gradient descent with momentum by autograd, from the same start with the same step size."""
    ensemble, table = factorization
    row = table.iloc[0]
    factors = dmf.standard_start(ensemble.widths, "fan_in", [4, 1, 0, 0])
    rate = trained.STEP / max(row.flat_sharpness, float(dmf.sharpness(factors).value))
    W = [factor.clone().requires_grad_() for factor in factors]
    optimizer = torch.optim.SGD(W, lr=rate, momentum=trained.MOMENTUM)
    for _ in range(int(row.steps)):
        optimizer.zero_grad()
        (ensemble.target[0] - W[1] @ W[0]).square().sum().backward()
        optimizer.step()
    hessian = dense_hessian([w.detach() for w in W], ensemble.target[0])
    assert row.sharpness == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-4)
    assert row.lanczos_sharpness == pytest.approx(row.sharpness, rel=1e-12)


def test_columns_on_data():
    data = prepared("diabetes", components=4)
    spec = DataSpec("diabetes", True, False, 4, 1.0, ())
    made = dmf.balanced_minimizer(data.solution, [5], 1)
    ensemble = trained.Ensemble(
        0,
        (10, 5, 1),
        ("balanced",),
        [W[None] for W in made],
        data.target[None],
        data.input_root,
        spec,
    )
    table = trained.study(ensemble, StudySpec(starts=("fan_in",), steps=2000, seed=1))
    (row,) = table.itertuples()
    values = np.linalg.svd(data.inputs, compute_uv=False)
    assert row.condition == pytest.approx(values[0] / values[3])
    assert row.explained == pytest.approx(1 - data.least_loss / float(data.outputs.square().sum()))
    assert np.isnan(row.largest_share)
    assert row.samples == 442
    hessian = dense_hessian(made, data.outputs, data.inputs)
    assert row.made_sharpness == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]))
    assert row.distance < 1e-4
    assert abs(row.sharpness / row.lanczos_sharpness - 1) < 1e-12


def test_a_run_that_diverges_or_ends_too_early_has_no_minimizer():
    target = torch.tensor([[1.0, 0], [0, 1]], dtype=torch.float64)
    nan = [torch.full((2, 2), torch.nan, dtype=torch.float64)] * 2
    measured = trained._measured(nan, Problem(target), None, with_lanczos=True)
    assert np.isnan(list(measured.values())).all()
    zero = [torch.zeros(2, 2, dtype=torch.float64)] * 2
    measured = trained._measured(zero, Problem(target), None, with_lanczos=True)
    assert measured["excess_loss"] == 1
    assert np.isnan(measured["distance"])
    assert np.isnan(measured["sharpness"])
