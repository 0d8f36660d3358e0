"""Global minimizers of ``‖M − W_{L:1}‖_F²`` on demand: balanced, flat, random, bottlenecked.

All are built in the singular basis of the target, ``M = U diag(σ) Vᵀ`` of rank ``r``: a hidden layer
of width ``d_i ≥ r`` carries the ``r`` signals in some orthonormal frame of its own, and whatever
its other ``d_i − r`` dimensions hold must not reach the output.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.arguments import (
    checked_number,
)
from dmf_sharpness.minimizers.frames import (
    at_any_scale,
    check_request,
    checked,
    diagonal_cores,
    finite_factors,
    frames_of,
    in_frames,
    polished,
    positive_rank,
    unseen_part,
)
from dmf_sharpness.minimizers.targets import Seed, gaussian_matrix, orthogonal_matrix
from dmf_sharpness.network.factors import left_factors, right_factors
from dmf_sharpness.network.randomness import random_generator


@at_any_scale
def balanced_minimizer(
    target: Tensor, widths: Sequence[int], seed: Seed | None = None
) -> list[Tensor]:
    """The minimizer whose factors all have the singular values ``σ^{1/L}``; it is flat.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, of any size that float64 holds.
        widths: Hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        seed: Draws the frames of the hidden layers; None takes the first coordinates.

    Raises:
        TypeError: The target is not a float64 tensor, a width no integer, or the seed none.
        ValueError: The target is zero, no matrix or not finite, a width cannot hold its rank, or the
            seed is negative.
        MemoryError: There is none for factors of these widths.

    >>> M = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    >>> W_1, W_2 = balanced_minimizer(M, [2])
    >>> torch.linalg.svdvals(W_1), torch.linalg.svdvals(W_2)
    (tensor([2., 1.], dtype=torch.float64), tensor([2., 1.], dtype=torch.float64))
    """
    rank = check_request(target, widths)
    depth = len(widths) + 1
    signal = torch.linalg.svdvals(target)[:rank] ** (1 / depth)
    rng = None if seed is None else random_generator(seed)
    cores = diagonal_cores(target, widths, [signal] * depth)
    return checked(in_frames(cores, frames_of(target, widths, rng)), target)


@at_any_scale
def flat_minimizer(
    target: Tensor,
    widths: Sequence[int],
    seed: Seed,
    frobenius_imbalance: float | None = None,
) -> list[Tensor]:
    """A random flat minimizer, generally not Frobenius-norm balanced.

    Each factor has spectral norm ``s = ‖M‖₂^{1/L}``, carried by the top signal, so that
    ``‖L_i‖₂ ‖R_i‖₂ ≤ s^{L−1} = ‖M‖₂^{1−1/L}``: the sufficient condition. The weaker signals are
    spread unevenly over the layers (random exponents that sum to one), and the dimensions that
    carry no signal hold noise of spectral norm below ``s`` which one layer cuts off.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, of any size that float64 holds.
        widths: Hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        seed: Seed of the draw.
        frobenius_imbalance: Wanted ratio of the largest to the smallest Frobenius norm. An inner
            layer then holds, between dimensions that nothing writes and nothing reads, a block of
            the size it takes; it needs two neighbouring hidden layers wider than the rank.

    Raises:
        TypeError: As :func:`balanced_minimizer`, or the imbalance is no number.
        ValueError: As :func:`balanced_minimizer`, or the imbalance cannot be had.
        MemoryError: As :func:`balanced_minimizer`.
    """
    rank = check_request(target, widths)
    rng = random_generator(seed)
    if frobenius_imbalance is not None:
        frobenius_imbalance = checked_number(
            frobenius_imbalance, "frobenius_imbalance", least=1, most=1e100
        )
    depth = len(widths) + 1
    singular_values = torch.linalg.svdvals(target)[:rank]
    top = float(singular_values[0]) ** (1 / depth)

    exponents = torch.from_numpy(rng.dirichlet(np.ones(depth), size=rank).T.copy())
    shrink = (singular_values / singular_values[0]) ** exponents  # (depth, rank), all ≤ 1
    cores = diagonal_cores(target, widths, list(top * shrink))

    quiet = frobenius_imbalance is not None
    cut = int(rng.integers(depth))
    for i, core in enumerate(cores):
        noise = core[rank:, rank:]
        if noise.numel() and i != cut and not quiet:
            draw = gaussian_matrix(noise.shape[0], noise.shape[1], rng)
            noise.copy_(draw * (top * rng.uniform() / torch.linalg.matrix_norm(draw, ord=2)))
    if frobenius_imbalance is not None:
        _add_hidden_block(cores, rank, frobenius_imbalance, rng)
    return checked(in_frames(cores, frames_of(target, widths, rng)), target)


def _add_hidden_block(
    cores: list[Tensor], rank: int, imbalance: float, rng: np.random.Generator
) -> None:
    """Make one inner core ``imbalance`` times the least Frobenius norm, where no signal passes."""
    inner = [i for i in range(1, len(cores) - 1) if cores[i][rank:, rank:].numel()]
    if not inner:
        raise ValueError(
            "frobenius_imbalance: expected two neighbouring hidden widths above the target's rank, "
            f"got the core shapes {[tuple(core.shape) for core in cores]}"
        )
    chosen = inner[int(rng.integers(len(inner)))]
    norms = [float(torch.linalg.matrix_norm(core)) for core in cores]
    # Of the other layers: the chosen one grows, and may have been the least itself.
    least = min(norm for i, norm in enumerate(norms) if i != chosen)
    wanted = imbalance * least
    if wanted < max(norms):
        raise ValueError(
            f"frobenius_imbalance: expected at least {max(norms) / least:.4g}, which the "
            f"signals have already, got {imbalance}"
        )
    block = cores[chosen][rank:, rank:]
    draw = gaussian_matrix(block.shape[0], block.shape[1], rng)
    size = (wanted**2 - norms[chosen] ** 2) ** 0.5
    block.copy_(draw * (size / torch.linalg.matrix_norm(draw)))


@at_any_scale
def random_minimizer(
    target: Tensor, widths: Sequence[int], seed: Seed, spread: float = 0.3
) -> list[Tensor]:
    """A random minimizer, from all of their set and not from a slice of it.

    From the balanced minimizer, two moves that keep the product: the gauge ``W_i → G W_i``,
    ``W_{i+1} → W_{i+1} G⁻¹`` with a random invertible ``G`` at every hidden layer, and at every
    layer, in random order, a random component that nothing sees, ``W_i → W_i + Z − L_i⁺ L_i Z R_i R_i⁺``.

    Every minimizer is reached. Strip any of its unseen components, layer by layer: a stripped layer is
    ``L_i⁺ M R_i⁺``, of the target's rank, and factors that all have that rank are the balanced ones in
    other bases of the hidden layers. All draws have densities that are positive everywhere, so the
    sample has one on the set, too. Nor does a direction lack: the two kinds of move span the tangent
    space ``Σ_i L_i U_i R_i = 0``. (Gauges shift a term between neighbouring layers,
    ``L_i A_i R_{i+1}``, and the sums ``Σ_{j≤i} L_j U_j R_j = −Σ_{j>i} L_j U_j R_j`` to be shifted have
    the ranges of ``L_i`` and ``R_{i+1}``.) The random order is for targets below full rank, whose
    minimizers form several pieces: which layer takes the rank.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, of any size that float64 holds.
        widths: Hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        seed: Seed of the draw.
        spread: Standard deviation of the logarithm of the gauges' singular values, and size of the
            unseen components relative to the factors' spectral norm; not negative.

    Raises:
        TypeError: As :func:`balanced_minimizer`, or the spread is no number.
        ValueError: As :func:`balanced_minimizer`; the spread is negative, or so large that float64 does
            not hold the minimizer (some from 3).
        MemoryError: As :func:`balanced_minimizer`.
    """
    check_request(target, widths)
    spread = checked_number(spread, "spread", least=0)
    rng = random_generator(seed)
    factors = balanced_minimizer(target, widths, rng)
    for i, width in enumerate(widths):
        left, right = orthogonal_matrix(width, rng), orthogonal_matrix(width, rng)
        with np.errstate(over="ignore", under="ignore"):
            stretch = torch.from_numpy(np.exp(spread * rng.standard_normal(width)))
        factors[i] = (left * stretch) @ right @ factors[i]
        factors[i + 1] = factors[i + 1] @ (right.mT / stretch) @ left.mT
    for i in rng.permutation(len(factors)):
        factors[i] = factors[i] + _unseen_component(factors, int(i), spread, rng)
    return checked(polished(factors, target), target)


def _unseen_component(
    factors: list[Tensor], i: int, size: float, rng: np.random.Generator
) -> Tensor:
    """A random change of layer ``i`` that leaves the end-to-end product alone."""
    L, R, W = left_factors(factors)[i], right_factors(factors)[i], finite_factors(factors[i])
    scale = size * torch.linalg.matrix_norm(W, ord=2) / max(W.shape) ** 0.5
    Z = scale * gaussian_matrix(W.shape[0], W.shape[1], rng)
    return unseen_part(Z, L, R)


@at_any_scale
def bottlenecked_minimizer(
    target: Tensor, widths: Sequence[int], seed: Seed, spread: float = 0.3
) -> list[Tensor]:
    """A random global minimizer where a layer is narrower than the rank of the target.

    The least loss is that of the best approximation of rank ``k = min(widths)`` (Eckart and Young),
    and the factors are a :func:`random_minimizer` of it. The residual is orthogonal to the product's
    rows and columns but not zero: it can enter the Hessian.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero.
        widths: Hidden widths ``d_1 … d_{L-1}``, the least of them below the rank of ``M``.
        seed: Seed of the draw.
        spread: As in :func:`random_minimizer`.

    Raises:
        TypeError: As :func:`random_minimizer`.
        ValueError: The target is zero, no matrix or not finite, no width is below its rank; or, of the
            seed and the spread, as :func:`random_minimizer`.
        MemoryError: As :func:`balanced_minimizer`.

    >>> M = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    >>> W_1, W_2, W_3 = bottlenecked_minimizer(M, [1, 3], seed=0)
    >>> (W_3 @ W_2 @ W_1).round(decimals=9).abs()
    tensor([[4., 0.],
            [0., 0.]], dtype=torch.float64)
    """
    rank, k = positive_rank(target), min(widths)
    if not 0 < k < rank:
        raise ValueError(
            f"widths: expected a least hidden width of 1 to {rank - 1}, below the target's rank, "
            f"got {list(widths)}"
        )
    U, values, Vt = torch.linalg.svd(target, full_matrices=False)
    return random_minimizer((U[:, :k] * values[:k]) @ Vt[:k], widths, seed, spread)
