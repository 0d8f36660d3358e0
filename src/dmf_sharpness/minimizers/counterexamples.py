"""A counterexample for the flatness condition without its value: equal products, and not flat.

The condition is that all spectral products ``p_i = ‖L_i‖₂‖R_i‖₂`` equal ``p* = ‖M‖₂^{1−1/L}``. It
is sufficient for flatness; that the products equal each other is not. Counterexamples for the
necessity of the condition are in :mod:`dmf_sharpness.minimizers.necessity`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.minimizers.frames import (
    check_request,
    checked,
    diagonal_cores,
    frames_of,
    in_frames,
)
from dmf_sharpness.minimizers.targets import Seed, gaussian_matrix, orthogonal_matrix


def equal_sharp_minimizer(
    target: Tensor, widths: Sequence[int], seed: Seed, product_ratio: float
) -> list[Tensor]:
    """A minimizer whose spectral products all equal ``ratio · p*``; it is not flat if the ratio is above 1.

    Let ``a = (ratio · p*)^{1/(L−1)}``. The inner factors are ``a`` times orthogonal matrices, and
    ``W_1`` is ``a`` times an isometry. The last factor ``W_L`` is the sum of two parts. One maps
    the hidden vectors to the target values. The other acts on a hidden direction that
    ``W_{L−1} ⋯ W_1`` never reaches, so it does not change the product, and it is as large as the
    spectral norm ``‖W_L‖₂ = a`` requires. Then ``‖L_i‖₂ = a^{L−i}`` and ``‖R_i‖₂ = a^{i−1}``, and
    so all spectral products are ``a^{L−1}``.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero.
        widths: The hidden widths, all equal and above ``d_0``.
        seed: The seed of the random draws.
        product_ratio: The ratio of the spectral products to ``p*``, at least 1.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: The target is not a float64 tensor.
        ValueError: The target is zero or not finite, the widths are not equal or not above ``d_0``,
            or the ratio is below 1.
    """
    check_request(target, widths)
    d_L, d_0 = target.shape
    if len(set(widths)) > 1 or widths[0] <= d_0:
        raise ValueError(f"widths: expected equal ones above d_0 = {d_0}, got {list(widths)}")
    if not product_ratio >= 1:
        raise ValueError(f"product_ratio: expected at least 1, got {product_ratio}")
    rng = np.random.default_rng(seed)
    depth, width = len(widths) + 1, widths[0]
    norm = float(torch.linalg.matrix_norm(target, ord=2))
    a = float(norm ** (1 / depth) * product_ratio ** (1 / (depth - 1)))
    frames = [orthogonal_matrix(width, rng) for _ in widths]
    W_1 = a * frames[0][:, :d_0]
    inner = [a * frame for frame in frames[1:]]
    carried, unwritten = frames[0][:, :d_0], frames[0][:, d_0]
    for frame in frames[1:]:
        carried, unwritten = frame @ carried, frame @ unwritten
    output = gaussian_matrix(d_L, 1, rng)[:, 0]
    read = target @ carried.mT / a ** (depth - 1)
    W_L = read + _unwritten_of_norm(read, output, unwritten, a)
    return checked([W_1, *inner, W_L], target)


def _unwritten_of_norm(read: Tensor, output: Tensor, unwritten: Tensor, norm: float) -> Tensor:
    """The matrix ``t u yᵀ`` for which ``‖A + t u yᵀ‖₂ = norm``, where ``A = read`` and ``A y = 0``.

    Here ``u`` is the unit vector along ``output``, and ``y`` is the unit vector ``unwritten``.
    Because of ``A y = 0``, the squared norm is the largest eigenvalue of ``A Aᵀ + t² u uᵀ``. By the
    matrix determinant lemma this is ``norm²`` if ``t² uᵀ(norm² I − A Aᵀ)⁻¹u = 1``.
    """
    u = output / torch.linalg.vector_norm(output)
    remainder = norm**2 * torch.eye(len(u), dtype=u.dtype) - read @ read.mT
    if float(torch.linalg.eigvalsh(remainder)[0]) <= 1e-13 * norm**2:
        return torch.zeros_like(read)  # the target already gives W_L this norm
    t = float(u @ torch.linalg.solve(remainder, u)) ** -0.5
    return t * torch.outer(u, unwritten)


def one_term_minimizer(target: Tensor, widths: Sequence[int], seed: Seed) -> list[Tensor]:
    """A minimizer whose sharpness is ``2 max_i p_i²``, the lower bound by the spectral products.

    To the balanced minimizer, with ``s = ‖M‖₂^{1/L}``, one more dimension is added in every layer. It
    leads from an input ``y`` of the kernel to an output ``x`` orthogonal to the range, with the entry
    ``τ s`` in every factor but ``W_i``, where it is zero. So it changes no product but the ``R_j`` up to
    layer ``i`` and the ``L_j`` from there on. At ``x yᵀ`` only the term of layer ``i`` is not zero,
    ``(τ s)^{2(L−1)} = p_i²``. For ``τ ≥ 2`` all other eigenvalues of ``J Jᵀ`` are smaller: at most
    ``L s^{2(L−1)}`` in the dimensions of the target, and ``s^{2(L−1)} Σ_j τ^{2(j−1)}`` between them
    and the one that was added, where the sum ends at ``j = i`` and begins at ``j = 1``, or the same
    from the other side.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, of a rank below ``d_0`` and ``d_L``.
        widths: Two or more hidden widths, each above the rank of ``M``.
        seed: The seed for ``τ``, for the layer, and for the frames of the hidden layers.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: The target is not a float64 tensor.
        ValueError: The target is zero or not finite, the depth is below 3, or a width, ``d_0`` or ``d_L``
            is not above the rank.
    """
    rank = check_request(target, widths)
    depth = len(widths) + 1
    sizes = [target.shape[1], *widths, target.shape[0]]
    if depth < 3 or min(sizes) <= rank:
        raise ValueError(
            f"widths: expected two or more hidden widths, and all widths above {rank}, the target's "
            f"rank, got {sizes}"
        )
    rng = np.random.default_rng(seed)
    signal = torch.linalg.svdvals(target)[:rank] ** (1 / depth)
    entry = float(signal[0]) * rng.uniform(2, 3)
    cut = int(rng.integers(1, depth - 1))
    cores = diagonal_cores(target, widths, [signal] * depth)
    for i, core in enumerate(cores):
        core[rank, rank] = 0.0 if i == cut else entry
    return checked(in_frames(cores, frames_of(target, widths, rng)), target)
