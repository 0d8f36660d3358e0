"""Minimizers of targets at the ends of the range of float64."""

import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import end_to_end
from tests.helpers import times

MAKERS = {
    "balanced": lambda M, hidden: dmf.balanced_minimizer(M, hidden, 1),
    "flat": lambda M, hidden: dmf.flat_minimizer(M, hidden, 1),
    "random": lambda M, hidden: dmf.random_minimizer(M, hidden, 1),
    "bottlenecked": lambda M, hidden: dmf.bottlenecked_minimizer(M, [1, *hidden[1:]], 1),
}


@pytest.mark.parametrize("exponent", [-1000, -900, -600, -300, 300, 600, 900, 1000])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("hidden", [[4], [4, 5]])
def test_minimizers_of_targets_of_any_size(kind, hidden, exponent):
    """A scaled target has scaled factors: to the last bit where the scale is one of each factor."""
    target = gaussian_matrix(3, 2, 1)
    depth = len(hidden) + 1
    exponent -= exponent % depth
    (M,) = times([target], exponent)
    made = MAKERS[kind](M, hidden)
    usual = MAKERS[kind](target, hidden)
    q = exponent // depth
    for W, V in zip(made, times(usual, q), strict=True):
        torch.testing.assert_close(W, V, rtol=1e-9, atol=1e-9 * 2.0**q)
    if kind != "bottlenecked":
        residual = times([end_to_end(times(made, -q)) - target], 0)[0]
        assert float(residual.norm() / target.norm()) < 1e-12


@pytest.mark.parametrize("exponent", [-600, -300, 300, 600])
def test_a_prescribed_sharpness_at_any_scale(exponent):
    target = gaussian_matrix(3, 2, 1)
    (M,) = times([target], exponent)
    wanted = 3 * dmf.flat_sharpness(M, 3)
    factors = dmf.minimizer_with_sharpness(M, [4, 4], wanted, 1)
    s = dmf.sharpness(factors, target=M)
    assert s.converged
    assert s.value == pytest.approx(wanted, rel=1e-12)
