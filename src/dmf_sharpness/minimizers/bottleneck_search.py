"""A search behind a bottleneck for minimizers that break the bounds, which should find none."""

import numpy as np
import scipy
import torch
from torch import Tensor

from dmf_sharpness.hessian.bottleneck import weight_root
from dmf_sharpness.minimizers.search import Search
from dmf_sharpness.network.curvature import curvature_matrix
from dmf_sharpness.network.factors import Factors, end_to_end, flatten, unflatten, widths


def bottlenecked_factors(factors: Factors, target: Tensor) -> list[Tensor]:
    """A minimizer for the target near any factors with a bottleneck: two of the factors are corrected.

    Let ``W_m`` be the first factor with ``k`` rows, ``R`` and ``L`` the products of the factors to the
    right of ``W_m`` and to the left of ``W_{m+1}``, and ``U_k Σ_k V_kᵀ`` the best approximation of rank
    ``k`` of the target. ``W_m`` becomes ``W_m (I − R (I − V_k V_kᵀ) R⁺)``, so that the rows of ``W_m R``
    lie in those of the approximation, and ``W_{m+1}`` gets the least change after which the product is
    the approximation. If the factors are a minimizer already, they stay what they are.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``. Every hidden width before the
            bottleneck must be at least ``d_0``, and every one behind it at least ``d_L``.
        target: ``M``, shape ``(d_L, d_0)``.

    Returns:
        The factors of the minimizer. They can be differentiated with respect to ``factors``.

    Raises:
        ValueError: A width is too small.
    """
    W, sizes = list(factors), widths(factors)
    k = min(sizes[1:-1])
    m = sizes.index(k, 1)
    if min(sizes[:m]) < sizes[0] or min(sizes[m + 1 :]) < sizes[-1]:
        raise ValueError(
            f"factors: expected hidden widths of at least {sizes[0]} before the bottleneck and at least "
            f"{sizes[-1]} behind it, got {list(sizes[1:-1])}"
        )
    U, values, Vt = torch.linalg.svd(target, full_matrices=False)
    V = Vt[:k].mT
    if m > 1:
        R = end_to_end(W[: m - 1])
        reached = W[m - 1] @ R
        outside = reached - reached @ V @ V.mT
        W[m - 1] = W[m - 1] - outside @ torch.linalg.solve(R.mT @ R, R.mT)
    else:
        W[0] = W[0] @ V @ V.mT
    wanted = U[:, :k] * values[:k] @ torch.linalg.inv(end_to_end(W[:m]) @ V)
    if m < len(W) - 1:
        L = end_to_end(W[m + 1 :])
        missing = wanted - L @ W[m]
        W[m] = W[m] + L.mT @ torch.linalg.solve(L @ L.mT, missing)
    else:
        W[m] = wanted
    return W


def extreme_ratio(factors: Factors, target: Tensor, largest: bool, iterations: int) -> Search:
    """Maximize or minimize the ratio of sharpness and closed form behind a bottleneck, by BFGS.

    Every point on the way is a global minimizer for the target (:func:`bottlenecked_factors`), and
    nothing of the families at the bounds is put in.

    Args:
        factors: ``[W_1 … W_L]`` of a bottlenecked minimizer, with widths as in :func:`bottlenecked_factors`.
        target: ``M``, shape ``(d_L, d_0)``.
        largest: Whether the ratio is maximized.
        iterations: The largest number of BFGS iterations.

    Returns:
        The search, in which the values are ratios; ``least`` is the most extreme one.

    Raises:
        ValueError: As in :func:`bottlenecked_factors`.
    """
    sizes, root = widths(factors), weight_root(end_to_end(factors), target)
    sign = -1.0 if largest else 1.0
    seen: list[float] = []

    def ratio(W: Factors) -> Tensor:
        matrix = curvature_matrix(W)
        true = torch.linalg.eigvalsh(root @ matrix @ root)[-1]
        return true / torch.linalg.eigvalsh(matrix)[-1]

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        variable = torch.from_numpy(x.copy()).requires_grad_()
        value = ratio(bottlenecked_factors(unflatten(variable, sizes), target))
        seen.append(value.item())
        (slope,) = torch.autograd.grad(sign * value.log(), variable)
        return sign * value.log().item(), slope.numpy()

    end = scipy.optimize.minimize(
        objective,
        flatten(factors).numpy(),
        jac=True,
        method="BFGS",
        options={"maxiter": iterations, "gtol": 1e-9},
    )
    final = bottlenecked_factors(unflatten(torch.from_numpy(end.x), sizes), target)
    extreme = max(seen) if largest else min(seen)
    return Search(final, seen[0], float(ratio(final)), extreme, len(seen))
