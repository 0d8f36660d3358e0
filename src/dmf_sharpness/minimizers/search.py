"""Look for minimizers that are flatter than the bounds allow: there are none.

The sharpness is minimized over the gauges of a minimizer, ``W_i → G_i W_i G_{i-1}⁻¹`` with
``G_i = exp(A_i)`` and ``G_0 = G_L = I``: every point on the way is a minimizer of the same target, and no
retraction is needed. Of a random minimizer of a target of full rank the gauges leave out nothing but a
set of lower dimension: they span the tangent space there.

The bound may be ``λ_flat``, or what a given imbalance forces: then one relative spectral product
``x_i`` is held at a value, by a scalar gauge beside layer i that undoes its change.
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
    """The end of a minimization of the sharpness.

    Attributes:
        factors: The minimizer it ended at.
        start: The sharpness it started with.
        value: The sharpness it ended with.
        least: The least sharpness of all points that were evaluated.
        evaluations: How many points were evaluated.
    """

    factors: list[Tensor]
    start: float
    value: float
    least: float
    evaluations: int


def gauged(factors: Factors, generators: Sequence[Tensor]) -> list[Tensor]:
    """``W_i → exp(A_i) W_i exp(A_{i-1})⁻¹`` for the generators ``A_1 … A_{L-1}`` of the hidden layers."""
    W = list(factors)
    for i, A in enumerate(generators):
        G = torch.matrix_exp(A)
        W[i] = G @ W[i]
        W[i + 1] = torch.linalg.solve(G, W[i + 1], left=False)
    return W


@dataclass(frozen=True)
class Held:
    """A relative spectral product ``x_i = ‖L_i‖₂‖R_i‖₂ / ‖M‖₂^{1−1/L}`` that keeps its value.

    Attributes:
        layer: ``i``, from 1 to L.
        value: Of ``x_i``, positive.
    """

    layer: int
    value: float


def with_product(factors: Factors, held: Held) -> list[Tensor]:
    """The factors with ``x_i`` put to its value.

    ``W_i → c W_i``, ``W_{i+1} → W_{i+1}/c`` divides it by ``c``. For the last layer the same between
    ``W_{L−1}`` and ``W_L``, which multiplies ``x_L`` by ``c``.
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
    """Minimize ``λ_max`` over the gauges of a minimizer, by BFGS from where it stands.

    ``λ_max`` has kinks where its eigenvalue is not simple; BFGS is known to cope with those in practice
    (Lewis and Overton, Mathematical Programming 141, 2013). At a balanced minimizer it is smooth, its
    top eigenvalue simple unless ``σ_2 = σ_1``.

    Args:
        factors: ``[W_1 … W_L]`` of one minimizer, with a small ``d_0 d_L``.
        iterations: Most iterations of BFGS.
        held: A spectral product that keeps a value; None leaves all free.

    Raises:
        ValueError: The layer of ``held`` is none of the factors', or its value is not positive.
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
