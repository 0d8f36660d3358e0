"""Calls of gradient descent with small arguments, of which a test changes some."""

import pytest
import torch

from dmf_sharpness.descent import compiled_engine
from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.descent.state import Minibatch
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import flatten, unflatten
from tests.helpers import random_point

compiled = pytest.mark.skipif(not compiled_engine.available(), reason="the kernel was not compiled")
ENGINES = [pytest.param("compiled", marks=compiled), "torch"]
NETWORK, BATCH = (2, 3, 2), 4
N = 12


def starts(network=NETWORK, batch=BATCH):
    points = torch.stack([0.4 * flatten(random_point(network, seed)) for seed in range(batch)])
    return unflatten(points, network)


def call(**changes):
    arguments = {
        "factors": starts(),
        "target": gaussian_matrix(2, 2, 0),
        "step_size": 1e-3,
        "steps": 50,
    }
    return gradient_descent(**(arguments | changes))


def same(ours, expected):
    assert torch.equal(flatten(ours.factors), flatten(expected.factors))
    assert torch.equal(ours.outcome, expected.outcome)
    assert torch.equal(ours.steps, expected.steps)


def ones(*shape, dtype=torch.float64, device="cpu"):
    return torch.ones(shape, dtype=dtype, device=device)


def data(count=9, **changes):
    fields = {
        "inputs": gaussian_matrix(2, count, 1),
        "outputs": gaussian_matrix(2, count, 2),
        "size": 3,
        "seed": 0,
    }
    return {"minibatch": Minibatch(**(fields | changes)), "engine": "auto"}
