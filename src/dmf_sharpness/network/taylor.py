"""Exact higher derivatives of the loss along a direction, by truncated power series.

``f(w + t u)`` is a polynomial in ``t``: carried through the two sweeps of the gradient, the first few
powers of ``t`` give the derivatives without differencing and without a graph.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_sharpness.network.factors import Factors
from dmf_sharpness.network.problem import Problem


def _jet_product(A: Sequence[Tensor], B: Sequence[Tensor]) -> list[Tensor]:
    """Taylor coefficients of ``A(t) B(t)`` from those of ``A`` and ``B``, to the order of both."""
    zero = A[0] @ B[0] * 0
    return [sum((A[j] @ B[n - j] for j in range(n + 1)), start=zero) for n in range(len(A))]


def gradient_jet(
    factors: Factors,
    direction: Factors,
    problem: Problem,
    order: int = 3,
) -> list[list[Tensor]]:
    """Taylor coefficients of ``t ↦ ∇f(w + t u)``, exact: a polynomial in ``t``, cut after ``order``.

    The coefficient of ``t`` is ``H u``, that of ``t²`` is ``T[u,u,·]/2``, that of ``t³``
    ``Q[u,u,u,·]/6``, with ``T`` and ``Q`` the third and fourth derivative of ``f``.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        direction: ``U_i``, shapes of ``factors``.
        problem: ``T`` and ``S``.
        order: Highest power of ``t`` that is kept.

    Returns:
        ``order + 1`` lists shaped like the factors.
    """
    layers = [
        [W, U, *[torch.zeros_like(W)] * (order - 1)]
        for W, U in zip(factors, direction, strict=True)
    ]
    prefixes: list[list[Tensor]] = []
    product = layers[0]
    for layer in layers[1:]:
        prefixes.append(product)
        product = _jet_product(layer, product)
    target, root = problem.target, problem.input_root
    if root is None:
        back = [2 * P for P in product]
        back[0] = back[0] - 2 * target
    else:
        error = [P @ root for P in product]
        error[0] = error[0] - target
        back = [2 * E @ root.mT for E in error]
    by_layer: list[list[Tensor]] = []
    for i in range(len(layers) - 1, 0, -1):
        by_layer.append(_jet_product(back, [R.mT for R in prefixes[i - 1]]))
        back = _jet_product([W.mT for W in layers[i]], back)
    by_layer.append(back)
    return [list(layer) for layer in zip(*by_layer[::-1], strict=True)]
