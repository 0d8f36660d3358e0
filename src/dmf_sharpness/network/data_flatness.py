"""The least sharpness on data, ``λ_flat``.

For ``‖T − W_{L:1} S‖_F²`` it has two forms, a largest and a least value:

    ``λ_flat = 2L max_z (‖Tz‖^{L−1} ‖Sz‖)^{2/L} = 2 min_c λ_max(c^{2(L−1)} SᵀS + (L−1) c^{−2} TᵀT)``

over unit vectors ``z`` and positive numbers ``c``. No minimizer is below the first one, and each ``c`` gives
a minimizer with its value in the second one. ``docs/data.md`` has the proof. At the best ``z``, with
``τ = ‖Tz‖`` and ``σ = ‖Sz‖``, the best ``c`` is ``(τ/σ)^{1/L}``.
"""

import math
from dataclasses import dataclass

import scipy
import torch
from torch import Tensor

ASCENTS = 300
"""The largest number of steps of the ascent to ``z``."""
ENDED = 1e-10
"""The ascent ends when no entry of ``z`` changes by more than this, for its square is what counts."""
CERTAIN = 1e-10
"""If the two forms agree to this relative difference, the ascent has found the best ``z``."""


@dataclass(frozen=True)
class DataFlatness:
    """The least sharpness of all minimizers of a problem.

    Attributes:
        value: ``λ_flat``.
        gain: The best ``c``.
    """

    value: float
    gain: float


def data_flatness(target: Tensor, input_root: Tensor | None, depth: int) -> DataFlatness:
    """``λ_flat`` on data, if no hidden layer is narrower than the rank of ``T``.

    Args:
        target: ``T``, shape ``(d_L, r)``, float64.
        input_root: ``S``, shape ``(d_0, r)``; None in matrix factorization.
        depth: ``L ≥ 1``. A single layer has the sharpness ``2 ‖S‖₂²`` everywhere.
    """
    T_norm = float(torch.linalg.matrix_norm(target, 2))
    S = torch.eye(target.shape[1]).to(target) if input_root is None else input_root
    S_norm = float(torch.linalg.matrix_norm(S, 2))
    if depth == 1:
        return DataFlatness(2 * S_norm**2, 1.0)
    if T_norm == 0:  # zero factors
        return DataFlatness(0.0, 0.0)
    of_target, of_inputs = (A.mT @ A for A in (target / T_norm, S / S_norm))

    def largest(c: float) -> float:
        matrix = c ** (2 * depth - 2) * of_inputs + (depth - 1) * c**-2 * of_target
        return 2 * float(torch.linalg.eigvalsh(matrix)[-1])

    tau, sigma = _ascended(of_target, of_inputs, depth)
    value, gain = (
        2 * depth * (tau ** (depth - 1) * sigma) ** (2 / depth),
        (tau / sigma) ** (1 / depth),
    )
    if not largest(gain) <= (1 + CERTAIN) * value:
        # A local maximum, or slow convergence. The logarithm of the other form is convex in that of c.
        found = scipy.optimize.minimize_scalar(
            lambda t: math.log(largest(math.exp(t))), bracket=(-1.0, 0.0), tol=1e-12
        )
        value, gain = math.exp(float(found.fun)), math.exp(float(found.x))
    unit = (T_norm ** (depth - 1) * S_norm) ** (2 / depth)
    return DataFlatness(value * unit, gain * (T_norm / S_norm) ** (1 / depth))


def _ascended(of_target: Tensor, of_inputs: Tensor, depth: int) -> tuple[float, float]:
    """``‖Tz‖`` and ``‖Sz‖`` at the best ``z`` that ascents from the singular vectors of ``T`` find.

    The logarithm of the value is ``(L−1) log‖Tz‖ + log‖Sz‖ − L log‖z‖`` but for constants. Where its gradient
    is zero, ``z`` has the direction of the gradient of the first two terms, to which a step moves it.
    """
    values, vectors = torch.linalg.eigh(of_target)
    Z = vectors[:, values > 1e-12]
    for _ in range(ASCENTS):
        first, second = of_target @ Z, of_inputs @ Z
        slope = (depth - 1) * first / (Z * first).sum(0) + second / (Z * second).sum(0)
        before, Z = Z, slope / torch.linalg.vector_norm(slope, dim=0)
        if not float((Z - before).abs().max()) > ENDED:
            break
    tau, sigma = (
        (Z * (square @ Z)).sum(0).clamp(min=0).sqrt() for square in (of_target, of_inputs)
    )
    best = int((tau ** (depth - 1) * sigma).nan_to_num(nan=-1.0).argmax())
    return float(tau[best]), float(sigma[best])
