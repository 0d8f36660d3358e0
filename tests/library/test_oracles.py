import ast
from pathlib import Path

import torch

from dmf_sharpness import oracles
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import flatten, unflatten
from tests.helpers import random_point


def test_oracle_imports_nothing_of_the_package():
    tree = ast.parse(Path(oracles.__file__).read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert not any(name.startswith(("dmf_sharpness", ".")) for name in imported)


def test_dense_hessian_is_that_of_finite_differences():
    network, target = (2, 3, 2), gaussian_matrix(2, 2, 0)
    factors = random_point(network, 1)
    hessian = oracles.dense_hessian(factors, target, chunk_size=4)
    w, h = flatten(factors), 1e-4

    def loss(vector):
        W_1, W_2 = unflatten(vector, network)
        return (target - W_2 @ W_1).square().sum()

    basis = torch.eye(len(w), dtype=torch.float64) * h
    for i in range(len(w)):
        for j in range(len(w)):
            a, b = basis[i], basis[j]
            numerator = loss(w + a + b) - loss(w + a - b) - loss(w - a + b) + loss(w - a - b)
            assert abs(float(numerator) / (4 * h * h) - float(hessian[i, j])) < 1e-5


def test_hessians_of_a_batch_are_those_of_its_members(monkeypatch):
    network, inputs = (3, 4, 2), gaussian_matrix(3, 5, 2)
    points = [random_point(network, seed) for seed in range(7)]
    factors = [torch.stack(layer) for layer in zip(*points, strict=True)]
    target = gaussian_matrix(2, 5, 0)
    targets = torch.stack([target + k for k in range(7)])
    order = 3 * 4 + 4 * 2
    for together in (1, 3, 7):  # with a remainder and without
        monkeypatch.setattr(oracles, "HESSIANS_TOGETHER", together * order**2)
        for goals in (target, targets):
            found = list(oracles.dense_hessians(factors, goals, inputs, chunk_size=6))
            assert len(found) == 7
            for b, hessian in enumerate(found):
                goal = goals if goals.ndim == 2 else goals[b]
                alone = oracles.dense_hessian(points[b], goal, inputs)
                assert torch.allclose(hessian, alone, rtol=0, atol=1e-13 * float(alone.abs().max()))
