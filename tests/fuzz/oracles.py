"""The right numbers, from definitions alone, in NumPy's extended precision.

Its exponents reach to ``1e±4932``: no product of a few float64 matrices leaves the range, so nothing is
scaled here, as it is in the package.
"""

from itertools import product as pairs

import numpy as np

Wide = np.longdouble
SMALLEST, LARGEST = Wide(np.finfo(np.float64).tiny), Wide(np.finfo(np.float64).max)


def wide(tensor):
    """A tensor in extended precision."""
    return tensor.detach().resolve_neg().numpy().astype(Wide)


def chain(matrices):
    """The product ``W_L ⋯ W_1``."""
    result = matrices[0]
    for W in matrices[1:]:
        result = W @ result
    return result


def curvature(factors, root=None):
    """``2 Σ_i (L_iL_iᵀ) ⊗ (R_iS)ᵀ(R_iS)``: at a minimizer its nonzero eigenvalues are the Hessian's."""
    W = [wide(layer) for layer in factors]
    S = np.eye(W[0].shape[1], dtype=Wide) if root is None else wide(root)
    total = Wide(0)
    for i in range(len(W)):
        left = chain([np.eye(W[i].shape[0], dtype=Wide), *W[i + 1 :]])
        right = chain([S, *W[:i]])
        total = total + np.kron(left @ left.T, right.T @ right)
    return 2 * total


def hessian(factors, target, root=None):
    """All second derivatives of ``‖T S − W_{L:1} S‖_F²``, entry by entry."""
    W = [wide(layer) for layer in factors]
    S = np.eye(W[0].shape[1], dtype=Wide) if root is None else wide(root)
    error = (chain(W) - wide(target)) @ S
    places = [(i, *at) for i, layer in enumerate(W) for at in np.ndindex(layer.shape)]

    def replaced(*chosen):
        layers = list(W)
        for i, row, column in chosen:
            layers[i] = np.zeros_like(W[i])
            layers[i][row, column] = 1
        return chain(layers) @ S

    first = [replaced(place) for place in places]
    matrix = np.zeros((len(places), len(places)), dtype=Wide)
    for (a, there), (b, other) in pairs(enumerate(places), repeat=2):
        matrix[a, b] = 2 * (first[a] * first[b]).sum()
        if there[0] != other[0]:
            matrix[a, b] += 2 * (error * replaced(there, other)).sum()
    return matrix


def eigenvalues(matrix):
    """Of a symmetric matrix, ascending, to float64's precision relative to the largest entry."""
    size = np.abs(matrix).max()
    if size == 0:
        return np.zeros(len(matrix), dtype=Wide)
    return np.linalg.eigvalsh((matrix / size).astype(np.float64)).astype(Wide) * size


def norm(matrix):
    """Of all entries."""
    return np.sqrt((np.abs(matrix) ** 2).sum())


def spectral_norm(matrix):
    """The largest singular value."""
    size = np.abs(matrix).max()
    if size == 0:
        return Wide(0)
    return Wide(np.linalg.norm((matrix / size).astype(np.float64), 2)) * size


def in_range(value):
    """Whether float64 holds a number to its full precision."""
    return value == 0 or SMALLEST <= abs(value) <= LARGEST


def close(ours, right, rtol, scale=None):
    """Whether a float64 number is the right one, to a relative error of the scale."""
    return abs(Wide(ours) - right) <= rtol * (abs(right) if scale is None else scale)
