"""The landing law with the heavy ball, as docs/landing_law.md derives it in its step 6."""

import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.descent.landing_law import landing_terms
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import flatten
from dmf_sharpness.network.problem import Problem
from tests.helpers import random_problem


def prescribed(network, ratio=1.5, seed=1):
    target = gaussian_matrix(network[-1], network[0], [seed, 0])
    sharp = ratio * dmf.flat_sharpness(target, len(network) - 1)
    return target, dmf.minimizer_with_sharpness(target, network[1:-1], sharp, [seed, 1])


def heavy_ball_landing(target, factors, excess, momentum):
    """``1 − c_end`` and the largest displacement along ``v_1`` of a run that starts at rest."""
    s = dmf.sharpness(factors)
    limit = 2 + 2 * momentum
    eta = limit * (1 + excess) / s.value
    peak = 2 * excess / float(landing_terms(factors, Problem(target)).drift) ** 0.5
    radius = 5e-4 * peak * (1 - momentum) / (1 + momentum)
    start = [(W + radius * U)[None] for W, U in zip(factors, s.eigenvector, strict=True)]
    run = dmf.gradient_descent(
        start, target, eta, int(2e4 + 400 / excess), momentum=momentum, observe_every=1,
        directions=flatten(s.eigenvector)[None, None], reference=flatten(factors)[None],
    )  # fmt: skip
    assert run.outcome[0] == 1
    end = dmf.sharpness([W[0] for W in run.factors]).value
    displaced = float(run.observed.projections.nan_to_num(nan=0.0).abs().max())
    return 1 - eta * end / limit, displaced / peak


@pytest.mark.parametrize("momentum", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("network", [(1, 4, 1), (2, 3, 3, 2), (4, 5, 5, 4)])
def test_the_second_order_coefficient(network, momentum):
    """``(1 − c_end − δ)/δ²`` tends to ``(4/3) ã`` of the momentum: Richardson's limit of two δ."""
    target, factors = prescribed(network)
    measured, peaks = [], []
    for excess in (2e-4, 1e-4):
        landing, peak = heavy_ball_landing(target, factors, excess, momentum)
        measured.append((landing - excess) / excess**2)
        peaks.append(peak)
    limit = 2 * measured[1] - measured[0]
    coefficient = dmf.landing_coefficient(factors, target, refined=True, momentum=momentum)
    assert limit == pytest.approx(4 / 3 * coefficient, rel=0.01)
    plain = dmf.landing_coefficient(factors, target, refined=True)
    assert limit != pytest.approx(4 / 3 * plain, rel=0.5)
    assert 2 * peaks[1] - peaks[0] == pytest.approx(1, abs=1e-3)


def test_momentum_adds_the_same_at_every_minimizer():
    factors = [random_problem((3, 4, 3), seed) for seed in range(4)]
    for target, W in factors:
        terms = landing_terms(W, Problem(target))
        assert torch.equal(terms.refined_for(0.0), terms.refined)
        for momentum, added in [(0.5, 1.5 * 8), (0.8, 1.5 * 80), (1 / 3, 1.5 * 3)]:
            more = float(terms.refined_for(momentum) - terms.refined)
            assert more == pytest.approx(added, rel=1e-9)
            first = dmf.landing_coefficient(W, target, momentum=momentum)
            assert first == float(terms.coefficient)


@pytest.mark.parametrize("momentum", [1.0, -0.1, float("nan")])
def test_momentum_out_of_range_is_refused(momentum):
    target, factors = random_problem((3, 4, 3), 1)
    with pytest.raises(ValueError, match=r"momentum: expected a number in \[0, 1\)"):
        dmf.landing_coefficient(factors, target, refined=True, momentum=momentum)
