"""Checks of requests, and factors in singular bases, for all constructions of minimizers.

A construction writes each factor as ``W_i = Q_i C_i Q_{i-1}ᵀ``. The *frames* ``Q_0`` and ``Q_L``
are singular bases of the target, those of the hidden layers are any orthogonal matrices, and the
*cores* ``C_i`` are sparse.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.arguments import (
    checked_integer,
    checked_tensor,
    memory_told,
    shown,
)
from dmf_sharpness.minimizers.targets import orthogonal_matrix
from dmf_sharpness.network.factors import end_to_end, left_factors, right_factors
from dmf_sharpness.network.scaling import exponents, times_power

Maker = TypeVar("Maker", bound=Callable[..., list[Tensor]])

RANK_TOLERANCE = 1e-12
"""Singular values up to this fraction of the largest one count as zero."""
RESIDUAL_TOLERANCE = 1e-12
"""The largest residual of a minimizer, relative to the target, that rounding explains."""
ORDINARY_BITS = 200
"""If the entries of a target are within ``2^{±200}``, the norms of factors stay in the range of float64."""


class IllConditionedError(ArithmeticError, ValueError):
    """The error for a minimizer that is so ill-conditioned that float64 cannot represent it accurately."""


def target_rank(target: Tensor) -> int:
    """The numerical rank of a target: the number of singular values above ``1e-12`` times the largest."""
    return int(torch.linalg.matrix_rank(target, rtol=RANK_TOLERANCE))


def checked_target(target: object) -> Tensor:
    """``target`` if it is a finite float64 matrix, on the CPU and detached from the autograd graph.

    Raises:
        TypeError: It is not a float64 tensor.
        ValueError: It is not a matrix, is empty, or is not finite.
    """
    matrix = checked_tensor(target, "target", (None, None))
    if 0 in matrix.shape:
        raise ValueError(f"target: expected a matrix with entries, got shape {tuple(matrix.shape)}")
    return matrix.cpu()


def checked_widths(widths: object) -> list[int]:
    """The hidden widths as a list of positive integers.

    Raises:
        TypeError: ``widths`` is not a list of integers.
        ValueError: A width is not positive, or the list is empty.
    """
    if not isinstance(widths, Iterable) or isinstance(widths, str | bytes | dict | set):
        raise TypeError(f"widths: expected a list of integers, got {shown(widths)}")
    if isinstance(widths, Tensor | np.ndarray) and widths.ndim == 0:
        raise TypeError(f"widths: expected a list of integers, got {shown(widths)}")
    checked = [checked_integer(width, "widths", least=1) for width in widths]
    if not checked:
        raise ValueError("widths: expected at least one hidden width, got none")
    return checked


def scale_of(target: Tensor, depth: int) -> int:
    """The exponent ``q`` for which ``2^{−Lq} M`` has entries near 1, or 0 if no scaling is needed."""
    bits = int(exponents(target))
    return round(bits / depth) if abs(bits) > ORDINARY_BITS else 0


def at_any_scale(make: Maker) -> Maker:
    """A decorator for constructions: checks of target and widths, and scaling of very large or small targets.

    If ``2^{−Lq} M`` is the product of the ``W_i``, then ``M`` is the product of the ``2^q W_i``. So
    the construction only sees targets of ordinary size, and the scaling changes no digit.
    """

    @functools.wraps(make)
    def scaled(
        target: Tensor, widths: Sequence[int], *args: object, **kwargs: object
    ) -> list[Tensor]:
        M, hidden = checked_target(target), checked_widths(widths)
        depth = len(hidden) + 1
        q = scale_of(M, depth)
        if q:
            M = times_power(M, M.new_tensor(-depth * q))
        with memory_told("widths"):
            made = make(M, hidden, *args, **kwargs)
        if q:
            made = [times_power(W, W.new_tensor(q)) for W in made]
        return [W.to(target.device) for W in made]

    return cast(Maker, scaled)


def positive_rank(target: Tensor) -> int:
    """The numerical rank of a target.

    Raises:
        ValueError: The rank is zero.
    """
    rank = target_rank(target)
    if rank == 0:
        raise ValueError("target: expected a matrix that is not zero, got rank 0")
    return rank


def best_approximation(target: Tensor, rank: int) -> Tensor:
    """The best approximation of a target of the given rank (Eckart and Young), shape ``(d_L, d_0)``."""
    U, values, Vt = torch.linalg.svd(target, full_matrices=False)
    return (U[:, :rank] * values[:rank]) @ Vt[:rank]


def check_request(target: Tensor, widths: Sequence[int]) -> int:
    """The numerical rank of a target, which every hidden width has to reach.

    Raises:
        TypeError: The target is not a float64 tensor, or a width is not an integer.
        ValueError: The target is zero, not a matrix or not finite, or a width is below its rank.
    """
    rank = positive_rank(checked_target(target))
    check_widths(checked_widths(widths), rank)
    return rank


def check_widths(widths: Sequence[int], rank: int) -> None:
    """Raise if a hidden width is below the rank of the target.

    Raises:
        ValueError: A width is below the rank.
    """
    if min(widths) < rank:
        raise ValueError(
            f"widths: expected every hidden width to be at least {rank}, the target's rank, "
            f"got {list(widths)}"
        )


def checked(factors: list[Tensor], target: Tensor) -> list[Tensor]:
    """``factors`` if their product equals the target up to rounding.

    Raises:
        IllConditionedError: The relative residual is above ``1e-12``.
    """
    error = torch.linalg.matrix_norm(end_to_end(factors) - target)
    relative = float(error / torch.linalg.matrix_norm(target))
    if not relative <= RESIDUAL_TOLERANCE:
        raise IllConditionedError(
            f"target: expected factors that fit it to {RESIDUAL_TOLERANCE:.0e} of its norm, got ones "
            f"that miss it by {relative:.2g}: the minimizer is too ill-conditioned for float64"
        )
    return factors


def polished(factors: Sequence[Tensor], target: Tensor) -> list[Tensor]:
    """The factors after corrections of ``W_L`` and ``W_1`` that remove a residual from rounding.

    With ``E = M − W_{L:1}`` the first correction is ``W_L + E R_L⁺``. The second one, with the new
    residual, is ``W_1 + L_1⁺ E``.
    """
    W = list(factors)
    W[-1] = W[-1] + (target - end_to_end(W)) @ _pseudoinverse(right_factors(W)[-1])
    W[0] = W[0] + _pseudoinverse(left_factors(W)[0]) @ (target - end_to_end(W))
    return W


def _pseudoinverse(matrix: Tensor) -> Tensor:
    return torch.linalg.pinv(finite_factors(matrix), rtol=1e-10)


def finite_factors(matrix: Tensor) -> Tensor:
    """``matrix``, a product of factors, if it has not overflowed.

    Raises:
        IllConditionedError: An entry is not finite.
    """
    if not bool(torch.isfinite(matrix).all()):
        raise IllConditionedError(
            "spread: expected one that float64 reaches, got factors whose products overflow"
        )
    return matrix


def in_frames(cores: Sequence[Tensor], frames: Sequence[Tensor]) -> list[Tensor]:
    """The factors ``W_i = Q_i C_i Q_{i-1}ᵀ`` for cores ``C_1 … C_L`` and orthogonal frames ``Q_0 … Q_L``."""
    triples = zip(cores, itertools.pairwise(frames), strict=True)
    return [Q @ C @ Q_in.mT for C, (Q_in, Q) in triples]


def frames_of(
    target: Tensor, widths: Sequence[int], rng: np.random.Generator | None
) -> list[Tensor]:
    """The frames ``Q_0 … Q_L``: singular bases of the target at both ends, hidden frames between them.

    The hidden frames are random, or the standard bases if ``rng`` is None.
    """
    U, _, Vt = torch.linalg.svd(target, full_matrices=True)
    if rng is None:
        hidden = [torch.eye(width, dtype=torch.float64, device="cpu") for width in widths]
    else:
        hidden = [orthogonal_matrix(width, rng) for width in widths]
    return [Vt.mT, *hidden, U]


def diagonal_cores(
    target: Tensor, widths: Sequence[int], diagonals: Sequence[Tensor]
) -> list[Tensor]:
    """Cores that are zero except for the given diagonals, one per layer, filled from the top left."""
    sizes = [target.shape[1], *widths, target.shape[0]]
    cores = []
    for (d_in, d_out), diagonal in zip(itertools.pairwise(sizes), diagonals, strict=True):
        core = torch.zeros(d_out, d_in, dtype=torch.float64, device="cpu")
        torch.diagonal(core)[: len(diagonal)] = diagonal
        cores.append(core)
    return cores


def unseen_part(Z: Tensor, L: Tensor, R: Tensor) -> Tensor:
    """``Z − L⁺L Z R R⁺``, the part of a change ``Z`` of a layer that ``L`` and ``R`` cancel."""
    row_space = _pseudoinverse(L) @ L
    column_space = R @ _pseudoinverse(R)
    return Z - row_space @ Z @ column_space
