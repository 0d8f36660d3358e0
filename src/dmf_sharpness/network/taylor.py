"""Exact higher derivatives of the loss along a direction, by truncated power series.

``f(w + t u)`` is a polynomial in ``t``. The forward and the backward pass of the gradient are
computed with polynomials in ``t``, cut off after the first few powers. Their coefficients are the
derivatives, exact up to rounding, without finite differences and without automatic differentiation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_sharpness.network.factors import Factors
from dmf_sharpness.network.problem import Problem


def _jet_product(A: Sequence[Tensor], B: Sequence[Tensor]) -> list[Tensor]:
    """Taylor coefficients of ``A(t) B(t)`` from those of ``A`` and ``B``, up to the same order."""
    zero = A[0] @ B[0] * 0
    return [sum((A[j] @ B[n - j] for j in range(n + 1)), start=zero) for n in range(len(A))]


def gradient_jet(
    factors: Factors,
    direction: Factors,
    problem: Problem,
    order: int = 3,
) -> list[list[Tensor]]:
    """Taylor coefficients of ``t ↦ ∇f(w + t u)``, from ``t⁰`` to the power ``order``.

    The coefficient of ``t`` is ``H u``. With the third and fourth derivatives ``f‴`` and ``f⁗`` the
    coefficient of ``t²`` is ``f‴[u, u, ·]/2``, and that of ``t³`` is ``f⁗[u, u, u, ·]/6``.

    Args:
        factors: The point ``w``, ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        direction: The direction ``u``, ``U_i`` in the shapes of the factors.
        problem: The target and the input root.
        order: The highest power of ``t`` that is kept.

    Returns:
        ``order + 1`` lists of tensors in the shapes of the factors.
    """
    # Each layer is the polynomial W_i + t U_i.
    layers = [
        [W, U, *[torch.zeros_like(W)] * (order - 1)]
        for W, U in zip(factors, direction, strict=True)
    ]
    # Forward: the products of the first layers.
    prefixes: list[list[Tensor]] = []
    product = layers[0]
    for layer in layers[1:]:
        prefixes.append(product)
        product = _jet_product(layer, product)
    # The residual, as the backward pass starts with it.
    target, root = problem.target, problem.input_root
    if root is None:
        back = [2 * P for P in product]
        back[0] = back[0] - 2 * target
    else:
        error = [P @ root for P in product]
        error[0] = error[0] - target
        back = [2 * E @ root.mT for E in error]
    # Backward: the gradient of each layer, from the last to the first.
    by_layer: list[list[Tensor]] = []
    for i in range(len(layers) - 1, 0, -1):
        by_layer.append(_jet_product(back, [R.mT for R in prefixes[i - 1]]))
        back = _jet_product([W.mT for W in layers[i]], back)
    by_layer.append(back)
    return [list(layer) for layer in zip(*by_layer[::-1], strict=True)]
