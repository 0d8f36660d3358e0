"""The curve of falling sharpness, the loss on the surface over it, and the runs beside it."""

import numpy as np
import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.paths import minimizer_with_sharpness
from dmf_sharpness.network.factors import end_to_end, flatten, unflatten
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.oracles import dense_spectrum
from dmf_sharpness.studies.valley import study, valley_of
from tests.helpers import ensemble_of

WIDTHS = [(4, 5, 5, 4), (2, 4, 4, 4, 3)]
SPEC = StudySpec(
    points=41, path_length=0.2, step_ratios=(0.9, 1.05, 1.3), radii=(1e-3,), steps=2000
)


def sharp(target, hidden, seed):
    """A minimizer with one and a half times the least sharpness."""
    least = float(dmf.flat_sharpness(target, len(hidden) + 1))
    return minimizer_with_sharpness(target, hidden, 1.5 * least, seed)


@pytest.fixture(scope="module", params=WIDTHS, ids=str)
def case(request):
    ensemble = ensemble_of(0, request.param, [sharp] * 2)
    return ensemble, study(ensemble, SPEC)


def test_the_curve_is_made_of_minimizers_and_falls_as_fast_as_its_gradient(case):
    ensemble, _ = case
    target = ensemble.target[0]
    valley = valley_of(ensemble.one(0), Problem(target), 11, 0.05)
    for point, value in zip(valley.points, valley.value, strict=True):
        factors = unflatten(point, ensemble.widths)
        torch.testing.assert_close(end_to_end(factors), target, rtol=1e-12, atol=1e-12)
        assert float(value) == pytest.approx(float(dense_spectrum(factors, target)[0]), rel=1e-12)
    assert (valley.value.diff() < 0).all()
    # No other path of minimizers falls faster: not one through any of forty random points nearby.
    step = float(valley.arc[1])
    generator = torch.Generator().manual_seed(1)
    for _ in range(40):
        other = torch.randn(valley.points.shape[1], generator=generator, dtype=torch.float64)
        tangent = tangent_part(valley, ensemble.widths, other)
        slope = slope_along(valley, ensemble.widths, tangent, step)
        assert slope >= float(valley.value[1] - valley.value[0]) / step * 1.05


def tangent_part(valley, widths, direction):
    """The part of a direction in the null space of the Hessian of the first point, unit."""
    factors = unflatten(valley.points[0], widths)
    target = end_to_end(factors)
    hessian = torch.autograd.functional.hessian(
        lambda w: (end_to_end(unflatten(w, widths)) - target).square().sum(), valley.points[0]
    )
    values, vectors = torch.linalg.eigh(hessian)
    kernel = vectors[:, values < 1e-10 * values[-1]]
    along = kernel @ (kernel.mT @ direction)
    return along / along.norm()


def slope_along(valley, widths, tangent, step):
    """The slope of the sharpness in a tangent direction, by a small central difference."""
    h = 1e-4 * step
    ends = [dmf.sharpness(unflatten(valley.points[0] + s * tangent, widths)).value for s in (-h, h)]
    return (ends[1] - ends[0]) / (2 * h)


def test_the_map_is_the_loss_on_the_surface(case):
    ensemble, table = case
    grid = table[(table.part == "map") & (table.minimizer == 1)]
    assert len(grid) == SPEC.points * grid.arc.nunique()
    norm = float(flatten(ensemble.one(1)).norm())
    first = grid[grid.arc == 0]
    # Near the minimizer the loss is λ a²/2, and at a = 0 it is zero.
    assert first.loss.min() < 1e-25
    value = float(dense_spectrum(ensemble.one(1), ensemble.target[1])[0])
    before, after = first.iloc[19], first.iloc[21]
    assert before.along_top == pytest.approx(-after.along_top)
    quadratic = value / 2 * (after.along_top * norm) ** 2
    assert (before.loss + after.loss) / 2 == pytest.approx(quadratic, rel=0.02)
    np.testing.assert_allclose(first.curve_ratio, 1.5, rtol=1e-10)


def test_runs_return_or_end_beside_the_curve(case):
    """Near the limit the drift is along the curve, to leading order; the distance is that of the way."""
    _, table = case
    ends = table[table.part == "run"].groupby(["minimizer", "step_ratio"]).last()
    stable, near, far = (ends.xs(ratio, level="step_ratio") for ratio in SPEC.step_ratios)
    assert (stable.arc < 1e-5).all()
    assert (near.arc > 0.01).all()
    assert (near.off < 0.05 * near.arc).all()
    np.testing.assert_allclose(near.end_ratio, near.curve_ratio, rtol=1e-3)
    for rows, ratio in ((near, 1.05), (far, 1.3)):
        converged = rows.end_ratio.dropna()
        assert len(converged) > 0
        assert (converged < 1.5 / ratio).all()


def test_at_the_limit_the_loss_stays_until_the_drift_has_lowered_the_sharpness():
    ensemble = ensemble_of(0, (4, 5, 5, 4), [sharp])
    spec = StudySpec(points=41, path_length=0.2, step_ratios=(1.0,), radii=(1e-2,), steps=8000)
    table = study(ensemble, spec)
    run = table[table.part == "run"].sort_values("step")
    early = run[run.step <= 20].loss
    assert early.min() > 0.7 * early.max()
    assert run.loss.iloc[-1] < 1e-15 * run.loss.iloc[0]
    assert 1.48 < run.end_ratio.iloc[-1] < 1.4999


def test_a_flat_minimizer_has_no_curve_and_a_run_that_diverges_does_no_harm():
    ensemble = ensemble_of(0, (1, 3, 1), [dmf.balanced_minimizer])
    spec = StudySpec(points=5, path_length=0.2, step_ratios=(3.5,), radii=(0.1,), steps=500)
    table = study(ensemble, spec)
    grid = table[table.part == "map"]
    assert grid.arc.eq(0).all()
    assert len(grid) == 5
    assert np.isfinite(grid.loss).all()
    assert table[table.part == "run"].end_ratio.isna().all()
