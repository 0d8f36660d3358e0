"""All flat minimizers: the top path, and a minimizer of what is left of the target.

Write ``σ_1 = ‖M‖₂``, ``(u, v)`` a top singular pair, ``s = σ_1^{1/L}``, ``p* = s^{L−1}``. The
derivation is ours.

*The top path.* Test ``J Jᵀ`` on ``u vᵀ``: ``λ_max ≥ 2 Σ_i ‖L_iᵀu‖²‖R_i v‖²``. The inequality of the
means, and ``‖L_iᵀu‖‖R_{i+1}v‖ ≥ uᵀMv = σ_1`` between layers, make that at least ``λ_flat = 2 L p*²``.
At a flat minimizer both hold with equality, so ``L_iᵀu`` and ``R_{i+1}v`` are parallel, say to the unit
vector ``q_i``, and then ``W_i q_{i-1} = s q_i`` and ``W_iᵀ q_i = s q_{i-1}``: adjacent layers share a
singular vector.

*The rest.* Hence in bases that start with ``q_0 = v, q_1, …, q_L = u`` a flat minimizer is block
diagonal, ``W_i = s ⊕ B_i``, where ``B`` is a minimizer of ``M − σ_1 u vᵀ`` with all widths one less.
The operator ``J Jᵀ`` then splits into four: on ``u vᵀ`` it is ``L p*²``, and the largest eigenvalues on
``u yᵀ``, ``x vᵀ`` and ``x yᵀ`` are those of

    ``Σ_i s^{2(L−i)} B_{i−1:1}ᵀB_{i−1:1}``,  ``Σ_i s^{2(i−1)} B_{L:i+1}B_{L:i+1}ᵀ``,
    ``Σ_i (B_{i−1:1}ᵀB_{i−1:1}) ⊗ (B_{L:i+1}B_{L:i+1}ᵀ)``.

The minimizer is flat if and only if all three are at most ``L p*²``. Its spectral products all equal
``p*`` if and only if ``‖B_{i−1:1}‖₂ ≤ s^{i−1}`` and ``‖B_{L:i+1}‖₂ ≤ s^{L−i}``, which is enough for
that. At depth 2 the two are the same condition, ``‖B_1‖₂, ‖B_2‖₂ ≤ s``; for scalars there is no ``x``
and no ``y``, and nothing is asked of ``B`` at all. From three matrix factors on flatness asks for less.
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
"""A sampled minimizer keeps this far, relatively, from the border: no tie for rounding to break."""


def path_defect(factors: Factors) -> float:
    """How far the layers are from passing the target's top singular vector on, each times ``s``.

    With ``q_0 = v`` and unit ``q_i ∝ W_i q_{i-1}``, each ``(q_{i-1}, q_i)`` is a singular pair of
    ``W_i`` with singular value ``s`` at a flat minimizer (see the top of this module).

    Returns:
        The largest of ``‖W_i q_{i-1} − s q_i‖ / s`` and ``‖W_iᵀ q_i − s q_{i-1}‖ / s``.
    """
    product = end_to_end(factors)
    _, values, Vt = torch.linalg.svd(product)
    s, q = float(values[0]) ** (1 / len(factors)), Vt[0]
    defects: list[Tensor] = []
    for W in factors:
        image = W @ q
        q_next = image / torch.linalg.vector_norm(image)
        defects.append(torch.linalg.vector_norm(image - s * q_next) / s)
        defects.append(torch.linalg.vector_norm(W.mT @ q_next - s * q) / s)
        q = q_next
    return float(torch.stack(defects).max())


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, ord=2)) if matrix.numel() else 0.0


def products_margin(rest: Factors, s: float) -> float:
    """The largest ``‖B_{i−1:1}‖₂/s^{i−1}`` and ``‖B_{L:i+1}‖₂/s^{L−i}``: up to 1, products are equal."""
    depth = len(rest)
    rights = [_norm(R) / s**i for i, R in enumerate(right_factors(rest)) if i > 0]
    lefts = [_norm(L) / s ** (depth - i) for i, L in enumerate(left_factors(rest), 1) if i < depth]
    return max(*rights, *lefts)


def flatness_margin(rest: Factors, s: float) -> float:
    """The largest eigenvalue of ``J Jᵀ`` off the top path, over ``L p*²``: the minimizer is flat up to 1."""
    depth = len(rest)
    lefts, rights = left_factors(rest), right_factors(rest)
    blocks = []
    if rest[0].shape[1]:  # u yᵀ
        blocks.append(
            sum(s ** (2 * (depth - i)) * R.mT @ R for i, R in enumerate(rights, 1)),
        )
    if rest[-1].shape[0]:  # x vᵀ
        blocks.append(sum(s ** (2 * i) * L @ L.mT for i, L in enumerate(lefts)))
    if len(blocks) == 2:  # x yᵀ
        blocks.append(curvature_matrix(rest) / 2)
    largest = [float(torch.linalg.eigvalsh(block)[-1]) for block in blocks]
    return max(largest, default=0.0) / (depth * s ** (2 * depth - 2))


def joined(rest: Factors, target: Tensor, s: float, rng: np.random.Generator) -> list[Tensor]:
    """``W_i = Q_i (s ⊕ B_i) Q_{i-1}ᵀ`` in random hidden frames, singular bases of the target at the ends."""
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
    """Minimizers ``B(t)`` of what the top path leaves of the target, from the balanced one at ``t = 0``.

    As in a random minimizer: gauges ``exp(t A_i)`` and unseen components, here of a size that grows with t.
    Like there, everything that ``B`` can be is reached.

    Returns:
        The path, in singular bases of the target without the top pair; and ``s``.
    """
    rank = check_request(target, widths)
    depth, rng = len(widths) + 1, np.random.default_rng(seed)
    values = torch.linalg.svdvals(target)[:rank]
    s = float(values[0]) ** (1 / depth)
    remaining = torch.zeros(target.shape[0] - 1, target.shape[1] - 1, dtype=torch.float64)
    torch.diagonal(remaining)[: rank - 1] = values[1:]
    narrower = [width - 1 for width in widths]
    start = diagonal_cores(remaining, narrower, [values[1:] ** (1 / depth)] * depth)
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
    """A random minimizer among all whose spectral products are equal to ``p* = ‖M‖₂^{1−1/L}``.

    Nothing is prescribed but that condition: from a random point of the whole set ``s ⊕ B`` the walk goes
    back towards the balanced minimizer, halving its length until the condition holds.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero.
        widths: Hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        seed: Seed of the draw.
        spread: Size of the walk, as in a random minimizer.

    Raises:
        TypeError: The target is not a float64 tensor.
        ValueError: The target is zero or not finite, or a width cannot hold its rank.

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
    rest = path(t if t > MARGIN else 0.0)  # with σ_2 = σ_1 there may be no room
    return checked(joined(rest, target, s, rng), target)


def unequal_flat_minimizer(
    target: Tensor, widths: Sequence[int], seed: Seed, spread: float = 1.0
) -> list[Tensor]:
    """A random flat minimizer, from beyond where the spectral products are equal.

    On a random walk from the balanced minimizer the products are equal up to some ``t_1``, and the
    minimizer is flat up to some ``t_2 ≥ t_1``; this one is between the two. At depth 2 ``t_1 = t_2``,
    and there is none.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, ``d_0 > 1`` or ``d_L > 1``, ``σ_2 < σ_1``.
        widths: At least two hidden widths, each at least the rank of ``M``, and 2 at least.
        seed: Seed of the draw.
        spread: Size of the walk, as in a random minimizer.

    Raises:
        TypeError: The target is not a float64 tensor.
        ValueError: The target is zero or not finite or scalar, a width cannot hold its rank or the walk, or
            no such minimizer is found, as at depth 2.
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
    """A ``t`` up to which, on a grid and then by bisection, the margin is at most 1; 4 if it stays."""
    low, high = 0.0, 0.125
    while margin(path(high), s) <= 1:
        low, high = high, high * 1.5
        if high > 4:
            return 4.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if margin(path(middle), s) <= 1 else (low, middle)
    return low
