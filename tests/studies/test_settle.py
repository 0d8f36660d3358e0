"""Runs that start far from their minimizer, against a loop over two numbers."""

import math

import numpy as np
import pytest
import torch

from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.studies.common import settle, sites_of

# Two minimizers of (xy − 1)², and their sharpness 2(x² + y²).
CENTRES = [(2.0, 0.5), (1.0, 1.0)]
SHARPNESS = [8.5, 4.0]


@pytest.fixture(scope="module")
def sites():
    W_1, W_2 = (
        torch.tensor(w, dtype=torch.float64).reshape(-1, 1, 1) for w in zip(*CENTRES, strict=True)
    )
    one = torch.ones(2, 1, 1, dtype=torch.float64)
    return sites_of(Ensemble(0, (1, 1, 1), ("explicit",) * 2, [W_1, W_2], one, None))


def descended(centre, shift, eta, steps):
    """The iterates of plain gradient descent, and their distances from the minimizer."""
    x, y = centre[0] + shift[0], centre[1] + shift[1]
    path = [(x, y)]
    for _ in range(steps):
        slope = 2 * (x * y - 1)
        x, y = x - eta * slope * y, y - eta * slope * x
        path.append((x, y))
    return path, [math.dist(point, centre) for point in path]


def run(sites, starts, steps, **options):
    """Settle runs from ``(number, shift, step ratio)``."""
    index = torch.tensor([number for number, _, _ in starts])
    shift = torch.tensor([shift for _, shift, _ in starts], dtype=torch.float64)
    eta = torch.tensor([2 * ratio / SHARPNESS[number] for number, _, ratio in starts])
    return settle(sites, index, shift, eta.double(), steps, **options), eta.double().tolist()


def test_the_sites_are_the_minimizers(sites):
    assert sites.value.tolist() == pytest.approx(SHARPNESS)
    assert sites.closed_form.tolist() == pytest.approx(SHARPNESS)
    assert sites.flat.tolist() == pytest.approx([4.0, 4.0])
    assert sites.second.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)


def test_distances_and_ends_are_those_of_the_loop(sites):
    starts = [
        (0, (0.3, 0.2), 0.5),  # comes down to a minimizer close by
        (0, (-0.9, 1.1), 0.5),  # far away, past the flat minimizer
        (0, (0.01, 0.02), 1.1),  # beyond the limit: leaves and lands elsewhere
        (1, (0.2, 0.3), 0.9),
    ]
    settled, etas = run(sites, starts, 3000, observe_every=1)
    assert settled.outcome.tolist() == ["returned", "returned", "landed", "returned"]
    for b, ((number, shift, _), eta) in enumerate(zip(starts, etas, strict=True)):
        path, distances = descended(CENTRES[number], shift, eta, int(settled.run.steps[b]))
        assert settled.farthest[b] == pytest.approx(max(distances), rel=1e-9)
        x, y = path[-1]
        if settled.outcome[b] == "landed":
            assert settled.end_ratio[b] == pytest.approx(eta * (x**2 + y**2), rel=1e-9)
            assert settled.end_ratio[b] < 1
        else:
            assert math.isnan(settled.end_ratio[b])


def test_the_last_point_counts_where_it_was_not_observed(sites):
    """Of 25 steps the last observation is after 20; the run is farther away at its end."""
    start = (0, (1e-6, 2e-6), 1.2)
    settled, (eta,) = run(sites, [start], 25, observe_every=20)
    _, distances = descended(CENTRES[0], start[1], eta, 25)
    assert settled.farthest[0] == pytest.approx(distances[25], rel=1e-6)
    assert distances[25] > 2 * distances[20]


def test_runs_that_settle_have_an_end_ratio_unless_landed_ones_are_asked_for(sites):
    starts = [(0, (0.01, 0.02), 0.92), (0, (0.01, 0.02), 0.97)]
    settled, etas = run(sites, starts, 90)
    paths = [
        descended(CENTRES[0], shift, eta, 90)[0]
        for (_, shift, _), eta in zip(starts, etas, strict=True)
    ]
    (x, y), _ = ends = [path[-1] for path in paths]
    losses = [(x * y - 1) ** 2 for x, y in ends]
    assert losses[0] < 1e-12 < losses[1]
    assert settled.outcome.tolist() == ["undecided", "undecided"]
    assert settled.end_ratio[0] == pytest.approx(etas[0] * (x**2 + y**2), rel=1e-6)
    assert math.isnan(settled.end_ratio[1])
    again, _ = run(sites, starts, 90, landed_only=True)
    assert np.isnan(again.end_ratio).all()


def test_a_run_to_infinity_has_diverged_and_no_end(sites):
    settled, _ = run(sites, [(1, (30.0, -20.0), 2.0)], 1000)
    assert settled.outcome.tolist() == ["diverged"]
    assert math.isnan(settled.end_ratio[0])
    assert settled.farthest[0] > 1e3
