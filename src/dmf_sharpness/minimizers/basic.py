"""Global minimizers of ``‖M − W_{L:1}‖_F²``: balanced, flat, random, or with a bottleneck.

All are built in the singular bases of the target, ``M = U diag(σ) Vᵀ`` of rank ``r``. Its ``r``
singular directions are called *signals*. A hidden layer of width ``d_i ≥ r`` carries the signals in
``r`` dimensions of an orthonormal basis of its own, called its *frame*. The entries for the other
``d_i − r`` dimensions are arbitrary, as long as they do not reach the output.
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
    best_approximation,
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
    """The balanced minimizer: all factors have the nonzero singular values ``σ_j^{1/L}``. It is flat.

    Its spectral products all equal ``‖M‖₂^{1−1/L}``, so it is flat by section 3 of
    ``docs/derivation.md``.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, of any size that float64 holds.
        widths: The hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        seed: The seed for random frames of the hidden layers; None takes the standard bases.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: The target is not a float64 tensor, a width is not an integer, or the seed is not one.
        ValueError: The target is zero, not a matrix or not finite, a width is below its rank, or
            the seed is negative.
        MemoryError: There is not enough memory for factors of these widths.

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
    """A random flat minimizer, whose factors in general have different Frobenius norms.

    Each factor has the spectral norm ``s = ‖M‖₂^{1/L}``, attained by the strongest signal. Hence
    ``‖L_i‖₂ ‖R_i‖₂ ≤ s^{L−1} = ‖M‖₂^{1−1/L}``, which is sufficient for flatness (section 3 of
    ``docs/derivation.md``). The weaker signals are distributed unevenly over the layers, by random
    exponents that sum to one. The dimensions without a signal contain noise of spectral norm below
    ``s``, except in one random layer, so that the noise does not reach the output.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, of any size that float64 holds.
        widths: The hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        seed: The seed of the random draws.
        frobenius_imbalance: The wanted ratio of the largest to the smallest Frobenius norm of the
            factors. To attain it, an inner factor gets a block of the necessary size, between two
            sets of hidden dimensions that no other factor uses. This needs two neighbouring hidden
            widths above the rank.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: As for :func:`balanced_minimizer`, or the imbalance is not a number.
        ValueError: As for :func:`balanced_minimizer`, or the imbalance cannot be attained.
        MemoryError: As for :func:`balanced_minimizer`.

    >>> target = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> factors = flat_minimizer(target, widths=[3, 3], seed=0)
    >>> torch.allclose(factors[2] @ factors[1] @ factors[0], target)
    True
    """
    # Arguments.
    rank = check_request(target, widths)
    rng = random_generator(seed)
    if frobenius_imbalance is not None:
        frobenius_imbalance = checked_number(
            frobenius_imbalance, "frobenius_imbalance", least=1, most=1e100
        )
    depth = len(widths) + 1

    # Signals: the strongest one has the size s in every layer, the others random shares of their size.
    singular_values = torch.linalg.svdvals(target)[:rank]
    top = float(singular_values[0]) ** (1 / depth)

    exponents = torch.from_numpy(rng.dirichlet(np.ones(depth), size=rank).T.copy())
    shrink = (singular_values / singular_values[0]) ** exponents  # shape (depth, rank), at most 1
    cores = diagonal_cores(target, widths, list(top * shrink))

    # Noise in the dimensions without a signal. The layer ``cut`` gets none, so the noise ends there.
    quiet = frobenius_imbalance is not None
    cut = int(rng.integers(depth))
    for i, core in enumerate(cores):
        noise = core[rank:, rank:]
        if noise.numel() and i != cut and not quiet:
            draw = gaussian_matrix(noise.shape[0], noise.shape[1], rng)
            noise.copy_(draw * (top * rng.uniform() / torch.linalg.matrix_norm(draw, ord=2)))

    # Imbalance of the Frobenius norms, by a block that is not connected to the other layers.
    if frobenius_imbalance is not None:
        _add_hidden_block(cores, rank, frobenius_imbalance, rng)

    # From singular bases and frames to the standard basis.
    return checked(in_frames(cores, frames_of(target, widths, rng)), target)


def _add_hidden_block(
    cores: list[Tensor], rank: int, imbalance: float, rng: np.random.Generator
) -> None:
    """Enlarge one inner core to ``imbalance`` times the least Frobenius norm, in place.

    The new entries are in the dimensions without a signal.
    """
    inner = [i for i in range(1, len(cores) - 1) if cores[i][rank:, rank:].numel()]
    if not inner:
        raise ValueError(
            "frobenius_imbalance: expected two neighbouring hidden widths above the target's rank, "
            f"got the core shapes {[tuple(core.shape) for core in cores]}"
        )
    chosen = inner[int(rng.integers(len(inner)))]
    norms = [float(torch.linalg.matrix_norm(core)) for core in cores]
    # The least norm of the other cores, because the chosen one grows and may have been the least before.
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
    """A random minimizer, drawn such that every minimizer is possible.

    The construction starts from the balanced minimizer and applies two kinds of moves that keep the
    product:

    - a *gauge* at every hidden layer, ``W_i → G W_i`` and ``W_{i+1} → W_{i+1} G⁻¹`` with a random
      invertible ``G``;
    - an *unseen component* at every layer, in random order: ``W_i → W_i + Z − L_i⁺ L_i Z R_i R_i⁺``
      with a random ``Z``. It does not change the product, because ``L_i`` and ``R_i`` cancel it.

    *Every minimizer can be reached.* Take any minimizer and remove the unseen components, one layer
    after the other. What remains of a layer is ``L_i⁺ L_i W_i R_i R_i⁺ = L_i⁺ M R_i⁺``, which has
    the rank of the target. Factors that all have this rank are the balanced ones up to gauges. All
    draws have densities that are positive everywhere, so the same holds for the sample on the set
    of minimizers.

    *No direction is missing.* The two kinds of moves span the tangent space
    ``Σ_i L_i U_i R_i = 0``. The gauge ``G = I + A`` adds ``L_i A R_{i+1}`` to the term of layer
    ``i`` and subtracts it from the term of layer ``i + 1``. For a tangent direction,
    ``Σ_{j≤i} L_j U_j R_j = −Σ_{j>i} L_j U_j R_j``. The left side has its columns in the range of
    ``L_i``, and the right side has its rows in the row space of ``R_{i+1}``. So it has the form
    ``L_i A R_{i+1}``, and a gauge at each hidden layer makes all terms ``L_i U_i R_i`` zero. What
    is left are unseen components.

    If the target does not have full rank, the set of minimizers consists of several pieces, which
    differ in the ranks of the layers. Because the order of the layers is random, each piece can be
    reached.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, of any size that float64 holds.
        widths: The hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        seed: The seed of the random draws.
        spread: The standard deviation of the logarithms of the gauges' singular values, and the
            size of the unseen components relative to the factors' spectral norms; not negative.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: As for :func:`balanced_minimizer`, or the spread is not a number.
        ValueError: As for :func:`balanced_minimizer`; or the spread is negative, or so large that
            float64 cannot represent the minimizer accurately, which happens from about 3 on.
        MemoryError: As for :func:`balanced_minimizer`.

    >>> target = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> factors = random_minimizer(target, widths=[3, 3], seed=0)
    >>> [tuple(W.shape) for W in factors], torch.allclose(factors[2] @ factors[1] @ factors[0], target)
    ([(3, 2), (3, 3), (2, 3)], True)
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
    """A random change of layer ``i``, counted from 0, that does not change the end-to-end product."""
    L, R, W = left_factors(factors)[i], right_factors(factors)[i], finite_factors(factors[i])
    scale = size * torch.linalg.matrix_norm(W, ord=2) / max(W.shape) ** 0.5
    Z = scale * gaussian_matrix(W.shape[0], W.shape[1], rng)
    return unseen_part(Z, L, R)


@at_any_scale
def bottlenecked_minimizer(
    target: Tensor, widths: Sequence[int], seed: Seed, spread: float = 0.3
) -> list[Tensor]:
    """A random global minimizer for widths with a bottleneck, a layer narrower than the target's rank.

    The product of the factors is then the best approximation of the target of rank
    ``k = min(widths)`` (Eckart and Young), and the factors are a :func:`random_minimizer` for it.
    The residual is orthogonal to the rows and columns of the product, but it is not zero. So it can
    contribute to the Hessian.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero.
        widths: The hidden widths ``d_1 … d_{L-1}``, the least of which is below the rank of ``M``.
        seed: The seed of the random draws.
        spread: As in :func:`random_minimizer`.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: As for :func:`random_minimizer`.
        ValueError: The target is zero, not a matrix or not finite; no width is below its rank; or
            the seed or the spread is refused by :func:`random_minimizer`.
        MemoryError: As for :func:`balanced_minimizer`.

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
    return random_minimizer(best_approximation(target, k), widths, seed, spread)
