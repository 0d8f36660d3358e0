"""The excess that a product off balance forces, against searches that end there."""

import itertools

import numpy as np
import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.forced_excess import forced_excess
from dmf_sharpness.minimizers.search import Held, minimize_sharpness
from dmf_sharpness.minimizers.targets import orthogonal_matrix
from dmf_sharpness.network.least_excess import least_excess


@pytest.mark.parametrize(("depth", "layer", "x"), [(4, 2, 1.05), (4, 3, 1.5), (5, 3, 1.2)])
def test_a_search_with_the_product_held_ends_there(depth, layer, x):
    """The product of two different signals; the search knows nothing of the formula."""
    target = 1.7 * orthogonal_matrix(2, depth)
    U, _, Vt = torch.linalg.svd(target)
    search = minimize_sharpness(
        dmf.random_minimizer(target, [2] * (depth - 1), 0), 150, Held(layer, x, (U[:, 1], Vt[0]))
    )
    forced = forced_excess(x, depth, layer, rank=2)
    least = dmf.flat_sharpness(target, depth)
    assert search.value / least - 1 == pytest.approx(forced, abs=1e-8)
    assert search.least / least - 1 >= forced - 1e-12
    assert forced < 0.8 * float(least_excess(np.array(x), depth))


@pytest.mark.parametrize("x", [0.5, 0.99, 1.0, 1.01, 2.0])
def test_it_is_that_of_scalars_where_two_signals_cannot_share(x):
    for depth, layer, rank in itertools.product((2, 3, 5), (1, 2, 5), (1, 3)):
        if layer > depth or (x > 1 and rank > 1 and depth > 3 and 1 < layer < depth):
            continue
        expected = float(least_excess(np.array(x), depth))
        assert forced_excess(x, depth, layer, rank) == pytest.approx(expected, abs=1e-15)


def test_it_rises_from_zero_and_stays_below_that_of_scalars():
    values = [forced_excess(x, 4, 2, 2) for x in (1.0, 1.001, 1.01, 1.1, 1.5, 3.0)]
    assert values == sorted(values)
    assert values[0] == 0
    assert 0 < values[1] < float(least_excess(np.array(1.001), 4))


def test_a_network_and_its_transpose_force_the_same():
    for x in (1.02, 1.5):
        for layer in (2, 3):
            one, other = forced_excess(x, 6, layer, 2), forced_excess(x, 6, 7 - layer, 2)
            assert one == pytest.approx(other, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 3, 1, 1), "x: expected a"),
        ((1.5, 1, 1, 1), "depth: expected at least 2"),
        ((1.5, 3, 4, 1), "layer: expected at most 3"),
        ((1.5, 3, 1, 0), "rank: expected at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        forced_excess(*arguments)
