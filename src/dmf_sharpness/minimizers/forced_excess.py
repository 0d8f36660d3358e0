"""The excess sharpness that one product off balance forces where balance is necessary.

At rank 1 it is the :func:`dmf_sharpness.network.least_excess.least_excess` of scalars. At higher rank
two signals can share the imbalance, and it is the value of a small convex problem, whose derivation is
in ``docs/flatness.md``.
"""

import numpy as np
import scipy

from dmf_sharpness.arguments import checked_integer, checked_number
from dmf_sharpness.network.least_excess import least_excess


def forced_excess(x: float, depth: int, layer: int, rank: int) -> float:
    """The least excess ``λ_max/λ_flat − 1`` of minimizers with one relative product equal to ``x``.

    It holds for the targets and widths of :func:`dmf_sharpness.balance_is_necessary`, and is attained.
    At depth 2 and 3, for ``x ≤ 1``, and for the first and the last layer it is the excess of scalars.

    Write ``ρ_i`` for the logarithm of ``‖R_i v‖/s^{i−1}``, for two signals ``v`` and ``v'``. With
    ``ρ_1 = ρ_{L+1} = 0`` the four eigenvalues of ``J Jᵀ``, in units of ``L p*²``, are at least

        ``F_jk = mean_i exp 2(ρ_i^k − ρ_{i+1}^j)``,  ``j, k = 1, 2``,

    and ``ρ_layer^1 − ρ_{layer+1}^2 = log x``. The result is the least value of the largest ``F_jk``.

    Args:
        x: The product ``‖L_layer‖₂‖R_layer‖₂`` in units of ``p*``, positive.
        depth: ``L ≥ 2``.
        layer: The layer, from 1 to ``L``.
        rank: The rank of the target.

    Returns:
        The excess, from below: the value of the dual problem, right to about 1e-15.

    Raises:
        TypeError: An argument is not a number, or not an integer.
        ValueError: An argument is out of its range.

    >>> round(forced_excess(1.5, depth=3, layer=2, rank=1), 6), round(forced_excess(1.5, 3, 2, 2), 6)
    (0.194444, 0.194444)
    >>> round(forced_excess(1.5, depth=4, layer=2, rank=1), 6), round(forced_excess(1.5, 4, 2, 2), 6)
    (0.134857, 0.100697)
    """
    x = checked_number(x, "x", above=0)
    depth = checked_integer(depth, "depth", least=2)
    layer = checked_integer(layer, "layer", least=1, most=depth)
    if checked_integer(rank, "rank", least=1) == 1 or x <= 1 or layer in (1, depth) or depth == 3:
        return float(least_excess(np.array(x), depth))

    # The exponents ρ_i^k − ρ_{i+1}^j as linear functions of the ρ_2 … ρ_L of both signals.
    linear = np.zeros((2, 2, depth, 2, depth + 1))
    for j, k, i in np.ndindex(2, 2, depth):
        linear[j, k, i, k, i] += 1
        linear[j, k, i, j, i + 1] -= 1
    held = linear[1, 0, layer - 1][:, 1:depth].ravel()
    slopes = linear[..., 1:depth].reshape(4, depth, -1)

    # The exponents on the plane where the held one is log x.
    _, _, rows = np.linalg.svd(held[None])
    offset = slopes @ held * (np.log(x) / (held @ held))
    slopes = slopes @ rows[1:].T
    free = slopes.shape[-1]

    def values(z: np.ndarray) -> np.ndarray:
        return np.exp(2 * (slopes @ z + offset)).mean(1)

    def gradients(z: np.ndarray) -> np.ndarray:
        weights = np.exp(2 * (slopes @ z + offset))
        return 2 / depth * np.einsum("bl,bln->bn", weights, slopes)

    # Minimize the bound t of all four.
    largest = values(np.zeros(free)).max()
    end = scipy.optimize.minimize(
        lambda w: w[-1],
        np.append(np.zeros(free), largest),
        jac=lambda w: np.append(np.zeros(free), 1.0),
        constraints={
            "type": "ineq",
            "fun": lambda w: w[-1] - values(w[:-1]),
            "jac": lambda w: np.c_[-gradients(w[:-1]), np.ones(4)],
        },
        method="SLSQP",
        options={"ftol": 1e-16, "maxiter": 500},
    )
    # The least value of a weighted mean of the four is a lower bound, the best one with the multipliers.
    weights = np.maximum(end.multipliers, 0)
    weights /= weights.sum()
    dual = scipy.optimize.minimize(
        lambda z: weights @ values(z),
        end.x[:-1],
        jac=lambda z: weights @ gradients(z),
        method="BFGS",
        options={"gtol": 1e-13},
    )
    return float(dual.fun) - 1
