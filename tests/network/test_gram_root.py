"""The root of a large Gram matrix, by a Cholesky decomposition with pivoting."""

import pytest
import torch

from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network import curvature
from dmf_sharpness.network.curvature import LARGE_GRAM, gram_root


def gram(rank, condition):
    rows = torch.logspace(0, -condition, LARGE_GRAM, dtype=torch.float64)[:, None]
    X = rows * gaussian_matrix(LARGE_GRAM, rank, rank)
    return X @ X.mT


@pytest.mark.parametrize("rank", [1, 40, LARGE_GRAM, LARGE_GRAM + 50])
@pytest.mark.parametrize("condition", [0, 3, 12])
def test_it_is_a_root_and_no_worse_than_that_of_the_eigenvectors(rank, condition, monkeypatch):
    G = gram(rank, condition)
    root = gram_root(G)
    monkeypatch.setattr(curvature, "LARGE_GRAM", LARGE_GRAM + 1)
    symmetric = gram_root(G)
    assert not torch.equal(root, symmetric)
    errors = [float((S @ S.mT - G).abs().amax() / G.abs().amax()) for S in (root, symmetric)]
    assert errors[0] <= max(1e-14, errors[1])
    singular = [torch.linalg.svdvals(S) for S in (root, symmetric)]
    # Of a Gram matrix only the singular values above √ε are known.
    torch.testing.assert_close(*singular, rtol=1e-7, atol=1e-6 * float(singular[0][0]))


@pytest.mark.parametrize("depth", [1e-3, 1e-9, 1e-11])
def test_a_negative_eigenvalue_is_refused(depth):
    G = gram(40, 0)
    v = torch.linalg.eigh(G)[1][:, 0]
    G -= depth * float(torch.linalg.eigvalsh(G)[-1]) * torch.outer(v, v)
    with pytest.raises(ValueError, match="positive semidefinite matrix, got the eigenvalue -"):
        gram_root((G + G.mT) / 2)


def test_a_matrix_with_nothing_on_its_diagonal_is_refused():
    G = torch.zeros(LARGE_GRAM, LARGE_GRAM, dtype=torch.float64)
    G[0, 1] = G[1, 0] = 1.0
    with pytest.raises(ValueError, match="positive semidefinite matrix, got the eigenvalue -1"):
        gram_root(G)
