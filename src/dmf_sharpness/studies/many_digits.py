"""The closed form at eighty digits, against a Hessian of rational numbers without rounding.

A number of float64 is a rational number. So the factors of every minimizer are rational, and they are an
exact global minimizer for their exact product. There the closed form is evaluated in rational arithmetic
up to its last step, the eigenvalue, which is computed with eighty digits.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import reduce

import mpmath
import numpy as np
import pandas as pd
import torch

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.oracles import exact_sharpness, largest_eigenvalue

STUDY = StudyOptions(takes=("seed",))

DIGITS = 80
"""The eigenvalues are computed with this many decimal digits."""
SAMPLES = 2
"""The data have this many samples more than inputs, so that they do not determine the residual."""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """The closed form and the exact Hessian of every minimizer, in matrix factorization and on data.

    The data are random inputs, with outputs whose residual is orthogonal to the inputs exactly.

    Returns:
        Two rows per minimizer, ``on_data`` False and True. ``difference`` is the relative difference of the
        closed form and the largest eigenvalue of the exact Hessian, ``float_difference`` that of
        :func:`dmf_sharpness.sharpness` in float64. ``control_difference`` is that of a formula that does not
        hold there: ``λ_flat``, on data the closed form without the data.
    """
    rng = np.random.default_rng([spec.seed, ensemble.network])
    rows = []
    for b in range(len(ensemble.kinds)):
        given = ensemble.one(b)
        factors = [_rational(W.numpy()) for W in given]
        product = _product(factors)
        inputs, residual = _orthogonal_data(rng, *product.shape)
        sides = {
            False: (product, None, flat_value(product, len(factors))),
            True: (product @ inputs + residual, inputs, closed_form(factors)),
        }
        for on_data, (outputs, X, control) in sides.items():
            exact = exact_sharpness(factors, outputs, X, DIGITS)
            root = None if X is None else torch.from_numpy(X.astype(np.float64))
            values = {
                "difference": closed_form(factors, X),
                "float_difference": mpmath.mpf(float(sharpness(given, input_root=root).value)),
                "control_difference": control,
            }
            with mpmath.workdps(DIGITS):
                off = {name: float(abs(value / exact - 1)) for name, value in values.items()}
            rows.append({"on_data": on_data, **off})
    minimizers = np.repeat(np.arange(len(ensemble.kinds)), 2)
    return pd.concat([ensemble.rows(minimizers), pd.DataFrame(rows)], axis=1)


def closed_form(factors: Sequence[np.ndarray], inputs: np.ndarray | None = None) -> mpmath.mpf:
    """The largest eigenvalue of ``2 Σ_i (R_iX)ᵀ(R_iX) ⊗ L_iL_iᵀ``, of order ``n d_L``, at eighty digits.

    Any root of the input Gram matrix serves in place of the inputs, and they are one themselves.

    Args:
        factors: ``W_i``, arrays of fractions, shape ``(d_i, d_{i-1})``.
        inputs: ``X``, fractions, shape ``(d_0, n)``; None stands for the identity.
    """
    terms = [np.kron(right.T @ right, left @ left.T) for left, right in _split(factors, inputs)]
    return largest_eigenvalue(2 * reduce(np.add, terms), DIGITS)


def flat_value(target: np.ndarray, depth: int) -> mpmath.mpf:
    """``λ_flat = 2L‖M‖₂^{2−2/L}`` at eighty digits, for a target of fractions, shape ``(d_L, d_0)``."""
    with mpmath.workdps(DIGITS):
        return (
            2 * depth * largest_eigenvalue(target @ target.T, DIGITS) ** (1 - mpmath.mpf(1) / depth)
        )


def _split(
    factors: Sequence[np.ndarray], inputs: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """``L_i`` and ``R_iX`` of every layer."""
    first = _identity(factors[0].shape[1]) if inputs is None else inputs
    last = _identity(factors[-1].shape[0])
    for i in range(len(factors)):
        yield _product([*factors[i + 1 :], last]), _product([first, *factors[:i]])


def _product(factors: Sequence[np.ndarray]) -> np.ndarray:
    return reduce(lambda product, W: W @ product, factors)


def _orthogonal_data(
    rng: np.random.Generator, outputs: int, inputs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``X`` and a residual ``E`` with ``E Xᵀ = 0``, as fractions.

    ``X = (I B)`` and ``E = (−D Bᵀ  D)`` for random ``B`` and ``D``, so that no equation has to be solved.

    Returns:
        ``X`` of shape ``(inputs, n)`` and ``E`` of shape ``(outputs, n)``, ``n = inputs + 2``.
    """
    B = _rational(rng.standard_normal((inputs, SAMPLES)))
    D = _rational(rng.standard_normal((outputs, SAMPLES)))
    return np.hstack([_identity(inputs), B]), np.hstack([-D @ B.T, D])


def _rational(matrix: np.ndarray) -> np.ndarray:
    return np.array([[Fraction(x) for x in row] for row in matrix.tolist()], dtype=object)


def _identity(size: int) -> np.ndarray:
    return _rational(np.eye(size))
