"""Changes of basis of the hidden layers, which keep the product, and the geodesics that they form.

A *gauge* is a list of invertible matrices ``G_1 … G_{L−1}``, one per hidden layer. It turns ``W_i``
into ``G_i W_i G_{i−1}⁻¹``, with ``G_0`` and ``G_L`` the identity, and the minimizers that it makes of
one minimizer are an *orbit*. An orthogonal ``G_i`` changes nothing that can be measured from outside,
so a point of the orbit is given by the positive definite matrices ``P_i = G_iᵀG_i``. Their geodesics
are ``t ↦ exp(tA)``, for symmetric ``A``, up to a change of the point at which they start. Along each
of them ``log λ_max`` is convex (the section on geodesics of ``docs/flatness.md``).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.minimizers.targets import orthogonal_matrix
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


def random_gauges(
    widths: Sequence[int], rng: np.random.Generator, spread: float = 0.3
) -> list[Tensor]:
    """Random gauges whose singular values have logarithms of standard deviation ``spread``.

    Args:
        widths: The hidden widths ``d_1 … d_{L-1}``.
        rng: The random generator.
        spread: As in :func:`dmf_sharpness.random_minimizer`.
    """
    gauges = []
    for d in widths:
        stretch = torch.from_numpy(np.exp(spread * rng.standard_normal(d)))
        gauges.append((orthogonal_matrix(d, rng) * stretch) @ orthogonal_matrix(d, rng))
    return gauges


def gauges_between(factors: Factors, others: Factors) -> list[Tensor]:
    """Gauges that turn a minimizer into another one of its orbit, those nearest to the identity.

    With ``G_i = I + X_i`` the conditions are linear, ``X_i W_i − V_i X_{i−1} = V_i − W_i``. The
    solution of least norm is taken, because a gauge is not unique where a layer has units that no other
    layer reads or writes.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.
        others: ``[V_1 … V_L]``, of the same shapes.

    Returns:
        ``[G_1 … G_{L−1}]``. If there is no gauge, the equations hold in the sense of least squares only.
    """
    sizes = [W.shape[0] ** 2 for W in factors[:-1]]
    equations, differences = [], []
    for i, (W, V) in enumerate(zip(factors, others, strict=True)):
        d_out, d_in = W.shape
        row = [W.new_zeros(W.numel(), size) for size in sizes]
        # For matrices as vectors, row by row, A X B is A ⊗ Bᵀ times X.
        if i < len(sizes):
            row[i] = torch.kron(torch.eye(d_out, dtype=W.dtype), W.mT.contiguous())
        if i > 0:
            row[i - 1] = -torch.kron(V, torch.eye(d_in, dtype=W.dtype))
        equations.append(torch.cat(row, dim=1))
        differences.append((V - W).flatten())
    solution = torch.linalg.pinv(torch.cat(equations), rtol=1e-10) @ torch.cat(differences)
    blocks = zip(torch.split(solution, sizes), factors[:-1], strict=True)
    return [X.reshape(len(W), len(W)) + torch.eye(len(W), dtype=W.dtype) for X, W in blocks]


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
    return along_geodesic(factors, [A / 2 for A in geodesic_generators(gauges)])


def geodesic_generators(gauges: Sequence[Tensor]) -> list[Tensor]:
    """The symmetric ``A_i`` for which ``exp(A_i)`` is ``G_i`` up to an orthogonal factor on the left.

    Half of the distance from ``P = I`` to ``P_i = G_iᵀG_i`` is ``(Σ_i ‖A_i‖_F²)^{1/2}``.
    """
    generators = []
    for G in gauges:
        _, values, Vt = torch.linalg.svd(G)
        generators.append((Vt.mT * values.log()) @ Vt)
    return generators
