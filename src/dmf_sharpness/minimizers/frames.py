"""Checks, frames and cores that all constructions of minimizers share."""

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

# Singular values below this share of the largest count as zero.
RANK_TOLERANCE = 1e-12
# A minimizer's residual, relative to the target, when it is only rounding.
RESIDUAL_TOLERANCE = 1e-12
# Of targets with entries within 2^{±200} norms stay in the range of float64.
ORDINARY_BITS = 200


class IllConditionedError(ArithmeticError, ValueError):
    """A minimizer that float64 does not hold to rounding."""


def target_rank(target: Tensor) -> int:
    """The numerical rank of a target: singular values above ``1e-12`` of the largest."""
    return int(torch.linalg.matrix_rank(target, rtol=RANK_TOLERANCE))


def checked_target(target: object) -> Tensor:
    """A finite float64 matrix, on the CPU and without a graph.

    Raises:
        TypeError: It is no float64 tensor.
        ValueError: It is no matrix, empty, or not finite.
    """
    matrix = checked_tensor(target, "target", (None, None))
    if 0 in matrix.shape:
        raise ValueError(f"target: expected a matrix with entries, got shape {tuple(matrix.shape)}")
    return matrix.cpu()


def checked_widths(widths: object) -> list[int]:
    """Hidden widths as a list of positive integers.

    Raises:
        TypeError: No list of integers.
        ValueError: One is not positive, or there is none.
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
    """The power of two of a layer, ``q``, that makes ``2^{−Lq} M`` ordinary; 0 if it is."""
    bits = int(exponents(target))
    return round(bits / depth) if abs(bits) > ORDINARY_BITS else 0


def at_any_scale(make: Maker) -> Maker:
    """Check the target and the widths, and make the minimizer at an ordinary scale.

    If ``2^{−Lq} M`` is the product of ``W_i``, then ``M`` is that of ``2^q W_i``: no digit changes.
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
    """The numerical rank of a target, which must not be zero."""
    rank = target_rank(target)
    if rank == 0:
        raise ValueError("target: expected a matrix that is not zero, got rank 0")
    return rank


def check_request(target: Tensor, widths: Sequence[int]) -> int:
    """The target's rank, after making sure that factors of these hidden widths can reach it."""
    rank = positive_rank(checked_target(target))
    if min(checked_widths(widths)) < rank:
        raise ValueError(
            f"widths: expected every hidden width to be at least {rank}, the target's rank, "
            f"got {list(widths)}"
        )
    return rank


def checked(factors: list[Tensor], target: Tensor) -> list[Tensor]:
    """Return ``factors`` after making sure that the loss is at rounding level."""
    error = torch.linalg.matrix_norm(end_to_end(factors) - target)
    relative = float(error / torch.linalg.matrix_norm(target))
    if not relative <= RESIDUAL_TOLERANCE:
        raise IllConditionedError(
            f"target: expected factors that fit it to {RESIDUAL_TOLERANCE:.0e} of its norm, got ones "
            f"that miss it by {relative:.2g}: the minimizer is too ill-conditioned for float64"
        )
    return factors


def polished(factors: Sequence[Tensor], target: Tensor) -> list[Tensor]:
    """Take up at the two ends what rounding left of the residual: ``W_L += E R_L⁺``, then ``W_1``."""
    W = list(factors)
    W[-1] = W[-1] + (target - end_to_end(W)) @ _pseudoinverse(right_factors(W)[-1])
    W[0] = W[0] + _pseudoinverse(left_factors(W)[0]) @ (target - end_to_end(W))
    return W


def _pseudoinverse(matrix: Tensor) -> Tensor:
    return torch.linalg.pinv(finite_factors(matrix), rtol=1e-10)


def finite_factors(matrix: Tensor) -> Tensor:
    """A product of factors, which must not have overflowed."""
    if not bool(torch.isfinite(matrix).all()):
        raise IllConditionedError(
            "spread: expected one that float64 reaches, got factors whose products overflow"
        )
    return matrix


def in_frames(cores: Sequence[Tensor], frames: Sequence[Tensor]) -> list[Tensor]:
    """``W_i = Q_i C_i Q_{i-1}ᵀ`` for orthogonal frames ``Q_0 … Q_L``."""
    triples = zip(cores, itertools.pairwise(frames), strict=True)
    return [Q @ C @ Q_in.mT for C, (Q_in, Q) in triples]


def frames_of(
    target: Tensor, widths: Sequence[int], rng: np.random.Generator | None
) -> list[Tensor]:
    """Full singular bases of the target at both ends, random (or standard) frames between."""
    U, _, Vt = torch.linalg.svd(target, full_matrices=True)
    if rng is None:
        hidden = [torch.eye(width, dtype=torch.float64, device="cpu") for width in widths]
    else:
        hidden = [orthogonal_matrix(width, rng) for width in widths]
    return [Vt.mT, *hidden, U]


def diagonal_cores(
    target: Tensor, widths: Sequence[int], diagonals: Sequence[Tensor]
) -> list[Tensor]:
    """Factors in singular bases: zero but for the given diagonals, one per layer."""
    sizes = [target.shape[1], *widths, target.shape[0]]
    cores = []
    for (d_in, d_out), diagonal in zip(itertools.pairwise(sizes), diagonals, strict=True):
        core = torch.zeros(d_out, d_in, dtype=torch.float64, device="cpu")
        torch.diagonal(core)[: len(diagonal)] = diagonal
        cores.append(core)
    return cores


def unseen_part(Z: Tensor, L: Tensor, R: Tensor) -> Tensor:
    """``Z − L⁺L Z R R⁺``, what of a change ``Z`` of a layer leaves the end-to-end product alone."""
    row_space = _pseudoinverse(L) @ L
    column_space = R @ _pseudoinverse(R)
    return Z - row_space @ Z @ column_space
