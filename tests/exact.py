"""Numbers with sixty digits and no limits of range, for what float64 may get wrong at its ends.

They come from the oracle in rational arithmetic, which shares no code with what is tested.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import reduce

import mpmath
import numpy as np
from mpmath import matrix, mpf
from torch import Tensor

from dmf_sharpness import oracles


def exact_hessian(factors: Sequence[Tensor], inputs: Tensor | None = None, outputs=None) -> matrix:
    """The Hessian of ``‖Y − W_{L:1} X‖_F²``; without outputs that of a residual of zero."""
    H = oracles.exact_hessian(*_problem(factors, inputs, outputs))
    with mpmath.workdps(60):
        return matrix([[mpf(x.numerator) / x.denominator for x in row] for row in H])


def exact_sharpness(factors: Sequence[Tensor], inputs=None, outputs=None) -> mpf:
    """Its largest eigenvalue."""
    return oracles.exact_sharpness(*_problem(factors, inputs, outputs), digits=60)


def exact_gradient_norm(factors: Sequence[Tensor], inputs: Tensor, outputs: Tensor) -> mpf:
    """The norm of the gradient of ``‖Y − W_{L:1} X‖_F²``."""
    layers, Y, X = _problem(factors, inputs, outputs)
    residual = product([X, *layers]) - Y
    total = Fraction(0)
    for i in range(len(layers)):
        right, left = (
            product([X, *layers[:i]]),
            product([*layers[i + 1 :], rational_identity(len(Y))]),
        )
        total += ((2 * left.T @ residual @ right.T) ** 2).sum()
    with mpmath.workdps(60):
        return mpmath.sqrt(mpf(total.numerator) / total.denominator)


def relative_error(value: float, exact: mpf) -> float:
    with mpmath.workdps(60):
        return float(abs(mpf(value) / exact - 1))


def rational(matrix: Tensor | np.ndarray) -> np.ndarray:
    """The same numbers as fractions."""
    return np.array([[Fraction(x) for x in row] for row in matrix.tolist()], dtype=object)


def rational_identity(size: int) -> np.ndarray:
    return rational(np.eye(size))


def product(factors: Sequence[np.ndarray]) -> np.ndarray:
    """``W_L ⋯ W_1``."""
    return reduce(lambda below, W: W @ below, factors)


def _problem(factors, inputs, outputs):
    layers = [rational(W) for W in factors]
    X = None if inputs is None else rational(inputs)
    if outputs is not None:
        return layers, rational(outputs), X
    return layers, product(layers if X is None else [X, *layers]), X
