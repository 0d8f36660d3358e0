"""A search for minimizers that are flatter than the lower bounds allow, which should find none.

The sharpness is minimized over the gauges of a minimizer, ``W_i → G_i W_i G_{i-1}⁻¹`` with
``G_i = exp(A_i)`` and ``G_0 = G_L = I``. Every point on the way is a minimizer for the same target,
so no projection onto the set of minimizers is needed. If the target has full rank, the gauges span
the tangent space at a random minimizer. So only a set of lower dimension is out of reach.

The lower bound is ``λ_flat``, or the larger bound that a given imbalance forces. In the second case
one relative spectral product ``x_i`` is held at a given value: after each move, a scalar gauge next
to layer ``i`` restores it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from dmf_sharpness.network.balance import relative_products
from dmf_sharpness.network.curvature import curvature_matrix
from dmf_sharpness.network.factors import Factors


@dataclass(frozen=True)
class Search:
    """The result of a minimization of the sharpness.

    Attributes:
        factors: The minimizer at the end.
        start: The sharpness at the start.
        value: The sharpness at the end.
        least: The least sharpness of all points that were evaluated.
        evaluations: The number of points that were evaluated.
    """

    factors: list[Tensor]
    start: float
    value: float
    least: float
    evaluations: int


def gauged(factors: Factors, generators: Sequence[Tensor]) -> list[Tensor]:
    """The factors ``exp(A_i) W_i exp(A_{i-1})⁻¹`` for generators ``A_1 … A_{L-1}``, one per hidden layer."""
    W = list(factors)
    for i, A in enumerate(generators):
        G = torch.matrix_exp(A)
        W[i] = G @ W[i]
        W[i + 1] = torch.linalg.solve(G, W[i + 1], left=False)
    return W


@dataclass(frozen=True)
class Held:
    """A relative spectral product ``x_i = ‖L_i‖₂‖R_i‖₂ / ‖M‖₂^{1−1/L}`` that is held at a given value.

    Attributes:
        layer: ``i``, from 1 to ``L``.
        value: The value of ``x_i``, positive.
    """

    layer: int
    value: float


def with_product(factors: Factors, held: Held) -> list[Tensor]:
    """The factors after a scalar gauge that gives ``x_i`` its value.

    The gauge ``W_i → c W_i``, ``W_{i+1} → W_{i+1}/c`` divides ``x_i`` by ``c``. For the last layer
    the gauge is applied to ``W_{L−1}`` and ``W_L`` instead, where it multiplies ``x_L`` by ``c``.
    """
    W, i = list(factors), held.layer
    x = relative_products(W)[i - 1]
    if i < len(W):
        c = x / held.value
        W[i - 1], W[i] = c * W[i - 1], W[i] / c
    else:
        c = held.value / x
        W[-2], W[-1] = c * W[-2], W[-1] / c
    return W


def minimize_sharpness(factors: Factors, iterations: int = 500, held: Held | None = None) -> Search:
    """Minimize ``λ_max`` over the gauges of a minimizer, by BFGS from the given factors.

    ``λ_max`` is not differentiable where the top eigenvalue is multiple. In practice BFGS works for
    such functions as well (Lewis and Overton, Mathematical Programming 141, 2013). At a balanced
    minimizer the top eigenvalue is simple, and so ``λ_max`` is smooth, unless ``σ_2 = σ_1``.

    Args:
        factors: ``[W_1 … W_L]`` of a single minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``.
            ``d_0 d_L`` must be small, because a matrix of this order is decomposed at every point.
        iterations: The largest number of BFGS iterations.
        held: A spectral product that is held at a value; None leaves all of them free.

    Raises:
        ValueError: ``held`` names a layer that does not exist, or its value is not positive.
    """
    if held is not None and not (1 <= held.layer <= len(factors) and held.value > 0):
        raise ValueError(
            f"held: expected a layer from 1 to {len(factors)} and a positive value, got {held}"
        )
    hidden = [W.shape[0] for W in factors[:-1]]
    sizes = [width * width for width in hidden]
    seen: list[float] = []

    def generators_of(x: Tensor) -> list[Tensor]:
        blocks = torch.split(x, sizes)
        return [block.reshape(d, d) for block, d in zip(blocks, hidden, strict=True)]

    def moved(x: Tensor) -> list[Tensor]:
        W = gauged(factors, generators_of(x))
        return W if held is None else with_product(W, held)

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        variable = torch.from_numpy(x.copy()).requires_grad_()
        matrix = curvature_matrix(moved(variable))
        value = torch.linalg.eigvalsh(matrix)[-1]
        seen.append(value.item())
        (slope,) = torch.autograd.grad(value.log(), variable)
        return value.log().item(), slope.numpy()

    start = np.zeros(sum(sizes))
    end = scipy.optimize.minimize(
        objective, start, jac=True, method="BFGS", options={"maxiter": iterations, "gtol": 1e-9}
    )
    final = moved(torch.from_numpy(end.x))
    value = float(torch.linalg.eigvalsh(curvature_matrix(final))[-1])
    return Search(final, seen[0], value, min(seen), len(seen))
