"""The standard starts have the sizes that their definitions say."""

import numpy as np
import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.experiments import options
from dmf_sharpness.network.starts import STARTS


def test_experiments_know_the_kinds_of_starts():
    schema = options.study_schema()["properties"]["starts"]["items"]
    assert schema["enum"] == list(STARTS)


@pytest.mark.parametrize(
    ("kind", "variance"), [("fan_in", 1 / 400), ("xavier", 2 / 700), ("small", 0.25 / 400)]
)
def test_random_entries_have_the_variance_of_their_kind(kind, variance):
    W = dmf.standard_start([400, 300], kind, 3)[0]
    assert W.shape == (300, 400)
    # The variance of 120,000 normal numbers has a standard error of 0.4 %.
    assert float(W.square().mean()) == pytest.approx(variance, rel=0.02)
    assert abs(float(W.mean())) < 5 * np.sqrt(variance / 120_000)


@pytest.mark.parametrize("widths", [[5, 3], [3, 5], [4, 4]])
def test_orthogonal_factors_have_equal_singular_values(widths):
    W = dmf.standard_start(widths, "orthogonal", 1)[0]
    assert torch.linalg.svdvals(W).numpy() == pytest.approx(1, abs=1e-14)


def test_orthogonal_factors_have_no_preferred_sign():
    signs = [float(dmf.standard_start([1, 1], "orthogonal", seed)[0].sign()) for seed in range(200)]
    assert abs(sum(signs)) < 60  # four standard deviations


def test_the_identity_has_ones_on_the_diagonal():
    W = dmf.standard_start([2, 3, 2], "identity")
    assert torch.equal(dmf.end_to_end(W), torch.eye(2, dtype=torch.float64))


def test_the_same_seed_draws_the_same_start():
    first, again = (dmf.standard_start([3, 4, 2], "xavier", [1, 2]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([2, 3], "he"), r"kind: expected one of \['fan_in'.*got 'he'"),
        (([2], "fan_in"), "widths: expected two or more, got 1"),
        (([2, 0], "fan_in"), "widths: expected .*got 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        dmf.standard_start(*arguments)
