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
