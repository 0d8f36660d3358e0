"""A description of all flat minimizers, and random samples with equal or unequal spectral products.

Let ``σ_1 = ‖M‖₂``, let ``(u, v)`` be a top singular pair of ``M``, and ``s = σ_1^{1/L}``,
``p* = s^{L−1}``. A flat minimizer consists of a *top path*, which carries the top singular value from
layer to layer, and of a minimizer for the rest of the target. The value of the flat minimizers and the
path, on which adjacent layers share a singular vector, are results of Mulayoff and Michaeli (ICML 2020,
arXiv:2002.04710). The derivation and the conditions on the rest are ours.

*The top path.* The quadratic form of ``2 J Jᵀ`` at ``u vᵀ`` gives
``λ_max ≥ 2 Σ_i ‖L_iᵀu‖²‖R_i v‖²``. For each ``i < L``, ``‖L_iᵀu‖‖R_{i+1}v‖ ≥ uᵀMv = σ_1``. With the
inequality of arithmetic and geometric means the sum is at least ``λ_flat = 2 L p*²``. At a flat
minimizer all these inequalities are equalities. So ``L_iᵀu`` and ``R_{i+1}v`` are parallel to a
common unit vector ``q_i``, and ``W_i q_{i-1} = s q_i`` and ``W_iᵀ q_i = s q_{i-1}``: adjacent
layers share a singular vector, with the singular value ``s``.

*The rest.* Choose orthonormal bases whose first vectors are ``q_0 = v, q_1, …, q_L = u``. In these
bases a flat minimizer is block diagonal, ``W_i = s ⊕ B_i``, and the ``B_i`` are a minimizer for
``M − σ_1 u vᵀ`` with all widths reduced by one. The operator ``J Jᵀ`` then splits into four parts,
for ``x ⊥ u`` and ``y ⊥ v``. On ``u vᵀ`` it is ``L p*²``. On matrices of the forms ``u yᵀ``,
``x vᵀ`` and ``x yᵀ`` its eigenvalues are those of

    ``Σ_i s^{2(L−i)} B_{i−1:1}ᵀB_{i−1:1}``,  ``Σ_i s^{2(i−1)} B_{L:i+1}B_{L:i+1}ᵀ``,
    ``Σ_i (B_{i−1:1}ᵀB_{i−1:1}) ⊗ (B_{L:i+1}B_{L:i+1}ᵀ)``.

*The conditions.* The minimizer is flat if and only if all eigenvalues of these three matrices are
at most ``L p*²``. All spectral products equal ``p*`` if and only if ``‖B_{i−1:1}‖₂ ≤ s^{i−1}`` and
``‖B_{L:i+1}‖₂ ≤ s^{L−i}`` for all ``i``. The second condition implies the first. At depth 2 both
say that ``‖B_1‖₂ ≤ s`` and ``‖B_2‖₂ ≤ s``. For scalars there is no ``x`` and no ``y``, so both hold
for all ``B``. From three matrix factors on, the first condition is weaker than the second.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.minimizers.frames import (
    check_request,
    checked,
    diagonal_cores,
    frames_of,
    in_frames,
    polished,
    unseen_part,
)
from dmf_sharpness.minimizers.targets import Seed, gaussian_matrix, orthogonal_matrix
from dmf_sharpness.network.curvature import curvature_matrix
from dmf_sharpness.network.factors import Factors, end_to_end, left_factors, right_factors

MARGIN = 1e-9
"""The least relative distance of a sample from the border of its condition.

With it the condition does not depend on rounding.
"""


def path_defect(factors: Factors) -> float:
    """The violation of the top-path condition, which holds at every flat minimizer.

    Let ``q_0 = v``, and let ``q_i`` be the unit vector along ``W_i q_{i-1}``. At a flat minimizer
    each pair ``(q_{i-1}, q_i)`` consists of singular vectors of ``W_i`` with the singular value
    ``s`` (see the docstring of this module). The deviation of ``W_i q_{i-1}`` from ``s q_i`` is not
    larger than that of ``W_iᵀ q_i`` from ``s q_{i-1}``, because it is the part of the latter along
    ``q_{i-1}``.

    Args:
        factors: ``[W_1 … W_L]`` of a single minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Returns:
        The largest ``‖W_iᵀ q_i − s q_{i-1}‖ / s`` of all layers.
    """
    product = end_to_end(factors)
    _, values, Vt = torch.linalg.svd(product)
    s, q = float(values[0]) ** (1 / len(factors)), Vt[0]
    defects: list[Tensor] = []
    for W in factors:
        image = W @ q
        q_next = image / torch.linalg.vector_norm(image)
        defects.append(torch.linalg.vector_norm(W.mT @ q_next - s * q) / s)
        q = q_next
    return float(torch.stack(defects).max())


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, ord=2)) if matrix.numel() else 0.0


def products_margin(rest: Factors, s: float) -> float:
    """The largest of all ``‖B_{i−1:1}‖₂/s^{i−1}`` and ``‖B_{L:i+1}‖₂/s^{L−i}``.

    The spectral products are all equal if and only if it is at most 1.
    """
    depth = len(rest)
    rights = [_norm(R) / s**i for i, R in enumerate(right_factors(rest)) if i > 0]
    lefts = [_norm(L) / s ** (depth - i) for i, L in enumerate(left_factors(rest), 1) if i < depth]
    return max(*rights, *lefts)


def flatness_margin(rest: Factors, s: float) -> float:
    """The largest eigenvalue of ``J Jᵀ`` orthogonal to ``u vᵀ``, divided by ``L p*²``.

    The minimizer is flat if and only if it is at most 1.
    """
    depth = len(rest)
    lefts, rights = left_factors(rest), right_factors(rest)
    blocks = []
    if rest[0].shape[1]:  # matrices u yᵀ
        blocks.append(
            sum(s ** (2 * (depth - i)) * R.mT @ R for i, R in enumerate(rights, 1)),
        )
    if rest[-1].shape[0]:  # matrices x vᵀ
        blocks.append(sum(s ** (2 * i) * L @ L.mT for i, L in enumerate(lefts)))
    if len(blocks) == 2:  # matrices x yᵀ
        blocks.append(curvature_matrix(rest) / 2)
    largest = [float(torch.linalg.eigvalsh(block)[-1]) for block in blocks]
    return max(largest, default=0.0) / (depth * s ** (2 * depth - 2))


def joined(rest: Factors, target: Tensor, s: float, rng: np.random.Generator) -> list[Tensor]:
    """The minimizer ``W_i = Q_i (s ⊕ B_i) Q_{i-1}ᵀ`` for a given rest ``B``.

    ``Q_0`` and ``Q_L`` are the singular bases of the target. The frames of the hidden layers are random.
    """
    cores = []
    for B in rest:
        core = torch.zeros(B.shape[0] + 1, B.shape[1] + 1, dtype=torch.float64)
        core[0, 0] = s
        core[1:, 1:] = B
        cores.append(core)
    hidden = [core.shape[0] for core in cores[:-1]]
    return in_frames(cores, frames_of(target, hidden, rng))


def rest_path(
    target: Tensor, widths: Sequence[int], seed: Seed, spread: float
) -> tuple[Callable[[float], list[Tensor]], float]:
    """A random path of minimizers ``B(t)`` for the target without its top singular pair.

    It starts at a balanced minimizer for ``t = 0``. The moves are those of
    :func:`dmf_sharpness.random_minimizer`, gauges and unseen components, with sizes that grow with
    ``t``. For the same reasons as there, every ``B`` is on a possible path.

    Args:
        target: ``M``, shape ``(d_L, d_0)``.
        widths: The hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        seed: The seed of the random draws.
        spread: The size of the moves at ``t = 1``, as in :func:`dmf_sharpness.random_minimizer`.

    Returns:
        The function ``t ↦ B(t)``, in the singular bases of the target without its top pair, and ``s``.
    """
    # The rest of the target, and the balanced minimizer for it.
    rank = check_request(target, widths)
    depth, rng = len(widths) + 1, np.random.default_rng(seed)
    values = torch.linalg.svdvals(target)[:rank]
    s = float(values[0]) ** (1 / depth)
    remaining = torch.zeros(target.shape[0] - 1, target.shape[1] - 1, dtype=torch.float64)
    torch.diagonal(remaining)[: rank - 1] = values[1:]
    narrower = [width - 1 for width in widths]
    start = diagonal_cores(remaining, narrower, [values[1:] ** (1 / depth)] * depth)
    # Random gauges, unseen components, and order of the layers; all the same along the whole path.
    gauges = [
        (
            orthogonal_matrix(d, rng),
            torch.from_numpy(rng.standard_normal(d)),
            orthogonal_matrix(d, rng),
        )
        for d in narrower
    ]
    sizes = s * spread * np.exp(rng.standard_normal(depth))
    noise = [
        float(size) * gaussian_matrix(B.shape[0], B.shape[1], rng) / max(*B.shape, 1) ** 0.5
        for size, B in zip(sizes, start, strict=True)
    ]
    order = [int(i) for i in rng.permutation(depth)]

    def path(t: float) -> list[Tensor]:
        B = list(start)
        for i, (Q, stretch, P) in enumerate(gauges):
            grow = torch.exp(t * spread * stretch)
            B[i] = (Q * grow) @ P @ B[i]
            B[i + 1] = B[i + 1] @ (P.mT / grow) @ Q.mT
        for i in order:
            if B[i].numel():
                Z = t * noise[i]
                B[i] = B[i] + unseen_part(Z, left_factors(B)[i], right_factors(B)[i])
        return polished(B, remaining) if remaining.numel() else B

    return path, s


def equal_flat_minimizer(
    target: Tensor, widths: Sequence[int], seed: Seed, spread: float = 1.0
) -> list[Tensor]:
    """A random minimizer whose spectral products all equal ``p* = ‖M‖₂^{1−1/L}``.

    No other condition is imposed. The construction starts at a random point ``B(t)`` of
    :func:`rest_path` and halves ``t``, which leads towards the balanced minimizer, until the
    condition holds.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero.
        widths: The hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        seed: The seed of the random draws.
        spread: The size of the moves, as in :func:`dmf_sharpness.random_minimizer`.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: The target is not a float64 tensor.
        ValueError: The target is zero or not finite, or a width is below its rank.

    >>> from dmf_sharpness.network.balance import relative_products
    >>> M = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    >>> relative_products(equal_flat_minimizer(M, [3, 4], seed=0))
    tensor([1.0000, 1.0000, 1.0000], dtype=torch.float64)
    """
    rng = np.random.default_rng(seed)
    path, s = rest_path(target, widths, rng, spread)
    t = float(rng.uniform())
    while t > MARGIN and products_margin(path(t), s) > 1 - MARGIN:
        t /= 2
    rest = path(t if t > MARGIN else 0.0)  # with σ_2 = σ_1 there may be no t > 0
    return checked(joined(rest, target, s, rng), target)


def unequal_flat_minimizer(
    target: Tensor, widths: Sequence[int], seed: Seed, spread: float = 1.0
) -> list[Tensor]:
    """A random flat minimizer whose spectral products are not all equal.

    On a random path of :func:`rest_path` the products are equal up to some ``t_1``, and the
    minimizer is flat up to some ``t_2 ≥ t_1``. The result lies between the two. At depth 2
    ``t_1 = t_2``, so there is none.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, not a scalar, with ``σ_2 < σ_1``.
        widths: At least two hidden widths, each at least 2 and at least the rank of ``M``.
        seed: The seed of the random draws.
        spread: The size of the moves, as in :func:`dmf_sharpness.random_minimizer`.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: The target is not a float64 tensor.
        ValueError: The target is zero, not finite or a scalar, there are fewer than two hidden
            widths, a width is below the rank of the target, or no such minimizer is found on 20
            random paths.
    """
    check_request(target, widths)
    if len(widths) < 2:
        raise ValueError(f"widths: expected at least two hidden widths, got {list(widths)}")
    if target.numel() == 1:
        raise ValueError("target: expected more than one entry, got a scalar")
    rng = np.random.default_rng(seed)
    for _ in range(20):
        path, s = rest_path(target, widths, rng, spread)
        first = _first_crossing(path, s, products_margin)
        last = _first_crossing(path, s, flatness_margin)
        if last > first * 1.001:
            t = first + float(rng.uniform(0.1, 1.0)) * (last - first)
            rest = path(t)
            if products_margin(rest, s) > 1 + MARGIN and flatness_margin(rest, s) < 1 - MARGIN:
                return checked(joined(rest, target, s, rng), target)
    raise ValueError(
        "target: expected σ_2 < σ_1 and widths of at least 2, so that flatness leaves room for unequal "
        f"products, got none in 20 walks for widths {list(widths)}"
    )


def _first_crossing(
    path: Callable[[float], list[Tensor]], s: float, margin: Callable[[Factors, float], float]
) -> float:
    """The first ``t`` at which the margin exceeds 1, by a grid and bisection; 4 if there is none below."""
    low, high = 0.0, 0.125
    while margin(path(high), s) <= 1:
        low, high = high, high * 1.5
        if high > 4:
            return 4.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if margin(path(middle), s) <= 1 else (low, middle)
    return low
