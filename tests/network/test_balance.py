import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.network.balance import relative_products
from dmf_sharpness.network.least_excess import least_excess
from tests.helpers import random_problem


def test_zero_target_and_batches():
    zero = torch.zeros(2, 3, dtype=torch.float64)
    assert dmf.flat_sharpness(zero, 3) == 0.0
    batch = torch.stack([zero, zero + 1])
    assert dmf.flat_sharpness(batch, 2).tolist() == pytest.approx([0.0, 4 * 6**0.5])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_targets_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="target: expected finite values"):
        dmf.flat_sharpness(torch.tensor([[bad]]), 2)


def test_depth_zero_is_refused():
    with pytest.raises(ValueError, match=r"depth: expected .*at least 1, got 0"):
        dmf.flat_sharpness(torch.ones(1, 1), 0)


@given(st.integers(2, 20), st.floats(0.05, 20))
def test_least_excess_is_the_constrained_minimum(depth, x):
    bound = float(least_excess(torch.tensor(x, dtype=torch.float64), depth))
    assert bound >= -1e-15
    # Attained: the other products equal, the geometric mean one.
    others = x ** (-1 / (depth - 1))
    assert bound == pytest.approx((x**2 + (depth - 1) * others**2) / depth - 1, abs=1e-12)
    # Any other choice with the same geometric mean gives more.
    if depth > 2:
        uneven = (x**2 + (2 * others) ** 2 + (others / 2) ** 2 + (depth - 3) * others**2) / depth
        assert uneven - 1 > bound


@pytest.mark.parametrize("network", [(3, 6, 4), (1, 4, 4, 1), (1, 3, 3, 3, 3, 1)])
@given(seed=st.integers(0, 999))
def test_imbalance_forces_excess_where_balance_is_necessary(network, seed):
    target, factors = random_problem(network, seed)
    depth = len(factors)
    excess = dmf.sharpness(factors).value / dmf.flat_sharpness(target, depth) - 1
    x = relative_products(factors)
    assert excess == pytest.approx(float(x.square().mean() - 1), rel=1e-10)
    assert float(least_excess(x, depth).max()) <= excess + 1e-12


def test_is_flat_wants_a_single_minimizer():
    W = torch.ones(2, 2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="expected a single minimizer"):
        dmf.is_flat([W, W])
