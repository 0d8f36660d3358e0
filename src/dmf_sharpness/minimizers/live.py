"""Flat minimizers with uneven Frobenius norms in which every hidden unit is written and read.

If all hidden widths equal the rank of the target, no direction of a hidden layer is without an input or
without an output, in any basis. A block as in :func:`dmf_sharpness.flat_minimizer`, which no other
layer sees, is then impossible. The bounds on the Frobenius norms, and their proofs, are in section 3 of
``docs/flatness.md``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_sharpness.minimizers.frames import (
    at_any_scale,
    check_request,
    checked,
    diagonal_cores,
    frames_of,
    in_frames,
)
from dmf_sharpness.minimizers.targets import Seed
from dmf_sharpness.network.randomness import random_generator


@at_any_scale
def flat_live_minimizer(target: Tensor, widths: Sequence[int], seed: Seed) -> list[Tensor]:
    """A balanced minimizer without a dead unit whose Frobenius norms are far apart.

    Write ``s = ‖M‖₂^{1/L}`` and ``κ = σ_r/σ_1``. At depth 2, ``W_1`` is ``s`` times an isometry of
    the row space, and the ratio of the Frobenius norms is ``√r σ_1/‖M‖_F``, the most that flatness
    allows. From three factors on, the weakest signal has the entry ``s/κ`` in one inner layer, ``κ s`` in
    the layers next to it, and ``s`` in the others, so that no ``‖R_i‖₂`` is above ``s^{i−1}`` and no
    ``‖L_i‖₂`` above ``s^{L−i}``. At rank 2 the ratio is then ``σ_1/σ_2``.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, of any size that float64 holds.
        widths: The hidden widths, all equal to the rank of ``M``.
        seed: The seed for the inner layer and for the frames of the hidden layers.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: The target is not a float64 tensor, a width is not an integer, or the seed is not
            one.
        ValueError: The target is zero, not a matrix or not finite, or a width is not its rank.
    """
    rank = check_request(target, widths)
    if set(widths) != {rank}:
        raise ValueError(
            f"widths: expected all hidden widths to be {rank}, the target's rank, got {list(widths)}"
        )
    rng = random_generator(seed)
    depth = len(widths) + 1
    singular_values = torch.linalg.svdvals(target)[:rank]
    s = singular_values[0] ** (1 / depth)
    share = singular_values[-1] / singular_values[0]
    if depth == 2:
        signals = [s.expand(rank), singular_values / s]
    else:
        signals = [singular_values ** (1 / depth) for _ in range(depth)]
        inner = int(rng.integers(1, depth - 1))
        for i, signal in enumerate(signals):
            signal[-1] = s / share if i == inner else s * share if abs(i - inner) == 1 else s
    cores = diagonal_cores(target, widths, signals)
    return checked(in_frames(cores, frames_of(target, widths, rng)), target)
