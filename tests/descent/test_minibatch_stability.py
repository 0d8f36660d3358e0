"""The stability of minibatch steps, against dense Hessians of the batches' losses by autograd."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from dmf_sharpness.descent.minibatch_stability import (
    almost_sure_threshold,
    lyapunov_exponent,
    mean_square_threshold,
    random_chains,
    sample_hessians,
    second_moment_growth,
)
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.oracles import dense_hessian
from tests.helpers import random_problem

CASES = [((2, 3, 2), 3), ((1, 2, 2, 1), 4), ((3, 3, 2), 5)]


# Samples of similar sizes: near η = 2/λ_max a step is nearly zero for the smallest one.
SIMILAR = torch.tensor([[1.0, 1.2, 0.8, 1.1, 0.9]], dtype=torch.float64)


def problem(network, count, seed=0, inputs=None):
    """Factors, and samples that they fit."""
    target, factors = random_problem(network, seed)
    inputs = gaussian_matrix(network[0], count, [seed, 3]) if inputs is None else inputs
    return factors, inputs, target @ inputs


def batch_hessians(factors, inputs, outputs, size):
    """The dense Hessian of ``n/b`` times the loss on each batch."""
    n = inputs.shape[1]
    return [
        n / size * dense_hessian(factors, outputs[:, list(batch)], inputs[:, list(batch)])
        for batch in combinations(range(n), size)
    ]


@pytest.mark.parametrize(("network", "count"), CASES)
def test_the_hessians_of_samples_are_those_of_autograd(network, count):
    factors, inputs, outputs = problem(network, count)
    samples = sample_hessians(factors, inputs)
    for root, expected in zip(
        samples.roots, batch_hessians(factors, inputs, outputs, 1), strict=True
    ):
        ours = samples.basis @ root.mT @ root @ samples.basis.mT
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-11)
    whole = samples.basis * samples.eigenvalues @ samples.basis.mT
    torch.testing.assert_close(
        whole, dense_hessian(factors, outputs, inputs), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize(("network", "count"), CASES)
def test_the_growth_is_that_of_the_mean_over_all_batches(network, count):
    """By powers of the map ``Σ ↦ mean (I − ηH_b) Σ (I − ηH_b)``, from the projection on the range."""
    factors, inputs, outputs = problem(network, count)
    samples = sample_hessians(factors, inputs)
    identity = torch.eye(samples.basis.shape[0], dtype=torch.float64)
    for size in range(1, count + 1):
        threshold = mean_square_threshold(samples, size)
        steps = [
            (eta, [identity - eta * H for H in batch_hessians(factors, inputs, outputs, size)])
            for eta in (threshold, 1.3 * threshold)
        ]
        for eta, maps in steps:
            growth, moments = second_moment_growth(samples, size, eta)
            dense = samples.basis @ moments @ samples.basis.mT
            image = torch.stack([A @ dense @ A for A in maps]).mean(0)
            torch.testing.assert_close(image, growth * dense, rtol=1e-9, atol=1e-11)
            assert float(torch.linalg.eigvalsh(moments)[0]) > -1e-12
            sigma = samples.basis @ samples.basis.mT
            for _ in range(400):
                sigma = torch.stack([A @ sigma @ A for A in maps]).mean(0)
                factor, sigma = sigma.trace(), sigma / sigma.trace()
            assert float(factor) == pytest.approx(growth, rel=1e-3)
            assert float(factor) <= growth * (1 + 1e-12)
        assert second_moment_growth(samples, size, threshold)[0] == pytest.approx(1, abs=1e-12)


def test_the_threshold_rises_with_the_batch_to_that_of_all_data():
    factors, inputs, outputs = problem((3, 4, 2), 5)
    samples = sample_hessians(factors, inputs)
    values = [mean_square_threshold(samples, size) for size in range(1, 6)]
    assert values == sorted(values)
    top = float(torch.linalg.eigvalsh(dense_hessian(factors, outputs, inputs))[-1])
    assert values[-1] == pytest.approx(2 / top, rel=1e-12)
    assert almost_sure_threshold(samples, 5, 0) == (pytest.approx(2 / top, rel=1e-12), 0.0)


@pytest.mark.parametrize(("given", "above_full"), [(None, False), (SIMILAR, True)])
def test_the_scalar_case_is_in_closed_form(given, above_full):
    """There ``η_ms = 2 E[h]/E[h²]`` over the batches, and the exponent is ``E log|1 − ηh|``."""
    factors, inputs, outputs = problem((1, 3, 3, 1), 5, 4, given)
    samples = sample_hessians(factors, inputs)
    ratios = []
    for size in range(1, 5):
        h = np.array([float(H.trace()) for H in batch_hessians(factors, inputs, outputs, size)])
        assert mean_square_threshold(samples, size) == pytest.approx(
            2 * h.mean() / (h**2).mean(), rel=1e-11
        )

        def exponent(eta, h=h):
            return float(np.log(np.abs(1 - eta * h)).mean())

        chains = random_chains(samples, size, 1, steps=400)
        for eta in 0.7 / h.mean(), 2.5 / h.mean():
            value, error = lyapunov_exponent(samples, chains, eta)
            assert abs(value - exponent(eta)) < 5 * error
        value, error = almost_sure_threshold(samples, size, 2)
        expected = brentq(exponent, 0.9 * value, 1.1 * value)
        assert abs(value - expected) < 5 * error
        ratios.append(expected * h.mean() / 2)
    # Noise may hold runs at a minimizer that descent on all data leaves.
    assert (max(ratios) > 1.05) == above_full


def test_almost_sure_is_not_below_mean_square():
    factors, inputs, _ = problem((4, 4, 3), 4, 7)
    samples = sample_hessians(factors, inputs)
    for size in range(1, 4):
        value, error = almost_sure_threshold(samples, size, 5)
        assert 0 < error < 0.02 * value
        assert value > mean_square_threshold(samples, size) - 3 * error
        again, _ = almost_sure_threshold(samples, size, 6)
        assert again == pytest.approx(value, abs=10 * error)


def test_a_single_sample_is_all_data():
    factors, inputs, outputs = problem((2, 3, 2), 1)
    samples = sample_hessians(factors, inputs)
    top = float(torch.linalg.eigvalsh(dense_hessian(factors, outputs, inputs))[-1])
    assert mean_square_threshold(samples, 1) == pytest.approx(2 / top, rel=1e-12)
