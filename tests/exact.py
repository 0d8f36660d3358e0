"""Hessians with sixty digits and no limits of range, for what float64 may get wrong at its ends.

Nothing here is taken from the package: the Hessian is written out from the loss, term by term.
"""

from collections.abc import Sequence

import mpmath
from mpmath import matrix, mpf
from torch import Tensor


def exact_hessian(factors: Sequence[Tensor], inputs: Tensor | None = None, outputs=None) -> matrix:
    """The Hessian of ``‖Y − W_{L:1} X‖_F²``; without outputs that of a residual of zero."""
    with mpmath.workdps(60):
        layers = [matrix(W.detach().tolist()) for W in factors]
        d_0 = layers[0].cols
        X = mpmath.eye(d_0) if inputs is None else matrix(inputs.detach().tolist())
        units = []  # a matrix of one 1 for each parameter, and its layer
        for layer, W in enumerate(layers):
            for i in range(W.rows):
                for j in range(W.cols):
                    unit = mpmath.zeros(W.rows, W.cols)
                    unit[i, j] = mpf(1)
                    units.append((layer, unit))
        slopes = [_product(layers, X, {layer: unit}) for layer, unit in units]
        residual = None
        if outputs is not None:
            residual = _product(layers, X, {}) - matrix(outputs.detach().tolist())
        H = mpmath.zeros(len(units), len(units))
        for a, (layer, unit) in enumerate(units):
            for b in range(a, len(units)):
                other, second = units[b]
                H[a, b] = 2 * _inner(slopes[a], slopes[b])
                if residual is not None and other != layer:
                    H[a, b] += 2 * _inner(
                        residual, _product(layers, X, {layer: unit, other: second})
                    )
                H[b, a] = H[a, b]
        return H


def exact_sharpness(factors: Sequence[Tensor], inputs=None, outputs=None) -> mpf:
    """Its largest eigenvalue."""
    with mpmath.workdps(60):
        H = exact_hessian(factors, inputs, outputs)
        size = max(abs(entry) for entry in H)
        if size == 0:
            return mpf(0)
        return max(mpmath.eigsy(H / size, eigvals_only=True)) * size


def exact_gradient_norm(factors: Sequence[Tensor], inputs: Tensor, outputs: Tensor) -> mpf:
    """The norm of the gradient of ``‖Y − W_{L:1} X‖_F²``."""
    with mpmath.workdps(60):
        layers = [matrix(W.detach().tolist()) for W in factors]
        X = matrix(inputs.detach().tolist())
        residual = _product(layers, X, {}) - matrix(outputs.detach().tolist())
        total = mpf(0)
        for layer, W in enumerate(layers):
            right, left = _product(layers[:layer], X, {}), mpmath.eye(layers[-1].rows)
            for later in layers[:layer:-1]:
                left = left * later
            slope = 2 * left.T * residual * right.T
            assert (slope.rows, slope.cols) == (W.rows, W.cols)
            total += _inner(slope, slope)
        return mpmath.sqrt(total)


def relative_error(value: float, exact: mpf) -> float:
    with mpmath.workdps(60):
        return float(abs(mpf(value) / exact - 1))


def _product(layers, X, replaced):
    for layer, W in enumerate(layers):
        X = replaced.get(layer, W) * X
    return X


def _inner(A, B):
    return mpmath.fsum(a * b for a, b in zip(A, B, strict=True))
