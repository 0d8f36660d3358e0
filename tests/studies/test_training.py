"""Training from standard starts: the table of the runs, and the sharpness along them."""

import numpy as np
import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.oracles import dense_hessian
from dmf_sharpness.studies import sharpening, training
from tests.helpers import ensemble_of

SPEC = StudySpec(
    starts=("fan_in", "identity"), step_ratios=(0.05, 0.5, 1.2), steps=3000, repeats=2, seed=4
)


def descended(start, target, step_size, steps):
    """Gradient descent by autograd, and the product's loss at its end."""
    W = [factor.clone().requires_grad_() for factor in start]
    for _ in range(steps):
        loss = (target - torch.linalg.multi_dot(W[::-1])).square().sum()
        slopes = torch.autograd.grad(loss, W)
        W = [(w - step_size * g).detach().requires_grad_() for w, g in zip(W, slopes, strict=True)]
    return [w.detach() for w in W]


@pytest.fixture(scope="module")
def scalar():
    ensemble = ensemble_of(1, (1, 3, 1), [dmf.balanced_minimizer] * 2)
    return ensemble, training.study(ensemble, SPEC)


def test_there_is_a_row_for_every_start_and_step_size_and_one_identity(scalar):
    _, table = scalar
    counts = table.groupby(["problem", "start"]).size().unstack()
    assert (counts.fan_in == 6).all()
    assert (counts.identity == 3).all()


def test_a_run_ends_where_autograd_does_and_is_as_sharp_as_the_dense_hessian_says(scalar):
    ensemble, table = scalar
    row = table[(table.start == "fan_in") & (table.flat_ratio == 0.5)].iloc[0]
    assert row.outcome == "converged"
    target = ensemble.target[int(row.minimizer)]
    start = dmf.standard_start((1, 3, 1), "fan_in", [4, 1, int(row.minimizer), int(row["repeat"])])
    flat = 4 * abs(float(target))
    end = descended(start, target, 2 * 0.5 / flat, int(row.steps))
    value = float(torch.linalg.eigvalsh(dense_hessian(end, target))[-1])
    assert row.sharpness_ratio == pytest.approx(value / flat, rel=1e-8)
    assert row.end_ratio == pytest.approx(0.5 * value / flat, rel=1e-8)
    assert row.flat_sharpness == pytest.approx(flat)
    gap = float(torch.linalg.multi_dot(start[::-1]) - target)
    assert row.start_swing == pytest.approx(abs(2 * gap) * 2 * 0.5 / flat)
    assert row.polish < 1e-8


def test_what_the_flow_keeps_gives_its_end(scalar):
    _, table = scalar
    rows = table[table.start == "fan_in"]
    assert np.allclose(rows.flow_ratio, rows.kept_ratio, rtol=1e-5)
    assert (rows.flow_error < 2e-6).all()


def test_no_step_size_beyond_the_limit_converges(scalar):
    _, table = scalar
    assert (table[table.flat_ratio > 1].outcome != "converged").all()
    assert table[table.flat_ratio > 1].sharpness_ratio.isna().all()


def test_deeper_networks_and_matrices_have_no_closed_form_of_the_end():
    ensemble = ensemble_of(0, (2, 3, 2), [dmf.balanced_minimizer])
    table = training.study(ensemble, SPEC)
    assert table.kept_ratio.isna().all()
    ended = table[table.outcome == "converged"]
    assert (ended.sharpness_ratio > 1 - 1e-12).all()


def test_the_sharpness_along_a_run_is_that_of_the_dense_hessian():
    ensemble = ensemble_of(2, (2, 3, 3, 2), [dmf.balanced_minimizer])
    spec = StudySpec(starts=("xavier",), step_ratios=(0.2,), steps=30, seed=9)
    table = sharpening.study(ensemble, spec)
    assert list(table.step) == list(range(31))
    target = ensemble.target[0]
    flat = float(dmf.flat_sharpness(target, 3))
    start = dmf.standard_start((2, 3, 3, 2), "xavier", [9, 2, 0])
    for step in (0, 1, 30):
        point = descended(start, target, 2 * 0.2 / flat, step)
        value = float(torch.linalg.eigvalsh(dense_hessian(point, target))[-1])
        assert table.sharpness_ratio.iloc[step] == pytest.approx(value / flat, rel=1e-9)


def test_the_sharpness_of_a_saddle():
    zero = torch.zeros(2, 1, 1, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    assert sharpening.sharpness_along([zero, zero], Problem(one)).numpy() == pytest.approx(2)


@pytest.mark.parametrize("columns", [3, 4])
def test_the_sharpness_along_a_run_on_data_with_and_without_a_square_root(columns):
    generator = torch.Generator().manual_seed(3)
    shapes = [(2, 5, 4), (2, 2, 5), (2, columns), (4, columns)]
    W_1, W_2, T, S = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    found = sharpening.sharpness_along([W_1, W_2], Problem(T, S))
    dense = [torch.linalg.eigvalsh(dense_hessian([W_1[b], W_2[b]], T, S))[-1] for b in (0, 1)]
    np.testing.assert_allclose(found, torch.stack(dense), rtol=1e-9)
