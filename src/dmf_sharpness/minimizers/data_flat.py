"""Minimizers on data that are as flat as possible."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from dmf_sharpness.minimizers.frames import check_request, frames_of
from dmf_sharpness.minimizers.targets import Seed, thin_svd
from dmf_sharpness.network.data_flatness import data_flatness
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.randomness import random_generator


def flat_on_data(problem: Problem, widths: Sequence[int], seed: Seed) -> list[Tensor]:
    """A minimizer with the sharpness ``λ_flat``: the solution in the first layer, isometries in the others.

    Let ``W_i = c Q_i`` for ``i > 1``, with isometries ``Q_i``, and ``W_1 = c^{1−L} (Q_L ⋯ Q_2)ᵀ M``. Then
    ``L_1L_1ᵀ ⪯ c^{2(L−1)} I``, and for ``i > 1`` both ``L_iL_iᵀ ⪯ c^{2(L−i)} I`` and
    ``(R_iS)ᵀ(R_iS) = c^{2(i−1−L)} TᵀT``. So the sharpness is at most
    ``2 λ_max(c^{2(L−1)} SᵀS + (L−1) c^{−2} TᵀT)``, the least of which is ``λ_flat``.

    Args:
        problem: ``T``, shape ``(d_L, r)``, and ``S``, shape ``(d_0, r)``, or None in matrix factorization.
        widths: The hidden widths, each at least the rank of ``T``.
        seed: The seed for random frames of the hidden layers.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: A width is not an integer.
        ValueError: The target is zero, or a width is below its rank.
    """
    T, S, depth = problem.target, problem.input_root, len(widths) + 1
    rank = check_request(T, widths)
    c = data_flatness(T, S, depth).gain
    U, values, V = (part[..., :rank] for part in thin_svd(T))
    # The isometries map the frame of each hidden layer to the next one, and the last one to U.
    frames = [Q[:, :rank] for Q in frames_of(T, widths, random_generator(seed))[1:-1]]
    solution = values[:, None] * V.mT
    if S is not None:
        left, scales, right = thin_svd(S)
        solution = (solution @ right / scales) @ left.mT
    first = c ** (1 - depth) * frames[0] @ solution
    return [first, *(c * after @ before.mT for before, after in pairwise([*frames, U]))]
