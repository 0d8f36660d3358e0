"""Changes of basis of the hidden layers, which keep the product, and the geodesics that they form.

A *gauge* is a list of invertible matrices ``G_1 … G_{L−1}``, one per hidden layer. It turns ``W_i``
into ``G_i W_i G_{i−1}⁻¹``, with ``G_0`` and ``G_L`` the identity, and the minimizers that it makes of
one minimizer are an *orbit*. An orthogonal ``G_i`` changes nothing that can be measured from outside,
so a point of the orbit is given by the positive definite matrices ``P_i = G_iᵀG_i``. Their geodesics
are ``t ↦ exp(tA)``, for symmetric ``A``, up to a change of the point at which they start. Along each
of them ``log λ_max`` is convex (the section on geodesics of ``docs/flatness.md``).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_sharpness.network.factors import Factors


def gauged(factors: Factors, gauges: Sequence[Tensor]) -> list[Tensor]:
    """The factors ``G_i W_i G_{i−1}⁻¹``.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.
        gauges: ``[G_1 … G_{L−1}]``, invertible, ``G_i`` of shape ``(d_i, d_i)``.
    """
    W = list(factors)
    for i, G in enumerate(gauges):
        W[i] = G @ W[i]
        W[i + 1] = torch.linalg.solve(G, W[i + 1], left=False)
    return W


def along_geodesic(factors: Factors, generators: Sequence[Tensor]) -> list[Tensor]:
    """The factors after the gauge ``G_i = exp(A_i)``; those at ``t`` of the geodesic are reached by ``tA_i``.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.
        generators: ``[A_1 … A_{L−1}]``, symmetric, ``A_i`` of shape ``(d_i, d_i)``.
    """
    W = list(factors)
    for i, A in enumerate(generators):
        # From one decomposition exp(A) and exp(−A) are inverse to each other up to rounding.
        exponents, Q = torch.linalg.eigh(A)
        W[i] = (Q * exponents.exp()) @ (Q.mT @ W[i])
        W[i + 1] = ((W[i + 1] @ Q) * (-exponents).exp()) @ Q.mT
    return W


def geodesic_midpoint(factors: Factors, gauges: Sequence[Tensor]) -> list[Tensor]:
    """The minimizer halfway along the geodesic from ``factors`` to ``gauged(factors, gauges)``.

    The geodesic from the identity to ``P_i = G_iᵀG_i`` has its middle at ``P_i^{1/2}``, the geometric
    mean of the two. The gauge that leads there is ``P_i^{1/4}``.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.
        gauges: ``[G_1 … G_{L−1}]``, invertible, ``G_i`` of shape ``(d_i, d_i)``.
    """
    generators = []
    for G in gauges:
        _, values, Vt = torch.linalg.svd(G)
        generators.append((Vt.mT * (values.log() / 2)) @ Vt)
    return along_geodesic(factors, generators)
