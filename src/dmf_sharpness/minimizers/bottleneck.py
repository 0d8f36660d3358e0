"""Minimizers with a bottleneck at which the closed form is farthest from the sharpness.

With a hidden layer of width 1 the product is ``σ_1 u_1 v_1ᵀ``. Write ``q = σ_2/σ_1``. The closed
form ``2 λ_max(J Jᵀ)`` leaves the residual out, and the sharpness is between ``(1 + q)/(1 + 2q)``
and ``1 + q`` times its value (``docs/bottleneck.md``). Both families below have a parameter ``γ``,
and the ratio of sharpness and closed form tends to one of the two bounds as ``γ → 0``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_sharpness.minimizers.frames import (
    best_approximation,
    checked,
    diagonal_cores,
    frames_of,
    in_frames,
    positive_rank,
)

GAIN = 1e-3
"""With this ``γ`` the ratio is within about ``1e-6`` of its bound."""


def underestimated_minimizer(
    target: Tensor, widths: Sequence[int], gain: float = GAIN
) -> list[Tensor]:
    """A minimizer whose sharpness is nearly ``1 + q`` times the closed form.

    In units of ``σ_1^{1/L}`` and in the singular bases of the target, ``W_1 = diag(a, t)``,
    ``W_2 = [a, 0]`` and ``W_L = [γ, 0]ᵀ``, with ones between them, ``a = γ^{−1/2}``. The entry
    ``t`` makes the two largest eigenvalues of the closed form equal. The residual couples the
    eigenmatrix ``u_1 v_2ᵀ`` of one of them with ``u_2 v_1ᵀ``, whose eigenvalue is nearly as large.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, of rank 2 or more.
        widths: Two or more hidden widths, the first at least 2, the least of them 1.
        gain: ``γ``, positive and below 1.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        ValueError: The target has rank below 2, the widths do not fit, or ``γ`` is not in ``(0, 1)``.
    """
    _check(target, widths, gain, wide_ends=1)
    depth, a = len(widths) + 1, gain**-0.5
    # The eigenvalues of J Jᵀ at u_1 v_1ᵀ and at u_1 v_2ᵀ are γ⁻² + 2γ + (L − 3) and γ² (a² + t²).
    t = ((gain**-2 + 2 * gain + depth - 3) / gain**2 - a**2) ** 0.5
    diagonals = [[a, t], [a], *([1.0] for _ in range(depth - 3)), [gain]]
    return _in_units(target, widths, diagonals, cancelled=0.0)


def overestimated_minimizer(
    target: Tensor, widths: Sequence[int], gain: float = GAIN
) -> list[Tensor]:
    """A minimizer whose sharpness is nearly ``(1 + q)/(1 + 2q)`` times the closed form.

    Write ``τ = 1/γ``. In units of ``σ_1^{1/L}`` and in the singular bases of the target,
    ``W_1 = [[τ √q, τ], [0, 1]]``, ``W_2 = [1, −τ] / (τ √q)``, then ones, and at the end the
    transposes of these two. The top eigenmatrix of the closed form is along
    ``2 √q u_1 v_1ᵀ + u_1 v_2ᵀ + u_2 v_1ᵀ``, on which the residual lowers the Hessian.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, of rank 2 or more.
        widths: Three or more hidden widths, the first and the last at least 2, the least of them 1.
        gain: ``γ``, positive and below 1.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        ValueError: As for :func:`underestimated_minimizer`.
    """
    _check(target, widths, gain, wide_ends=2)
    depth, tau = len(widths) + 1, 1 / gain
    values = torch.linalg.svdvals(target)
    root = float(values[1] / values[0]) ** 0.5
    ends, inner = [tau * root, 1.0], [1 / (tau * root)]
    diagonals = [ends, inner, *([1.0] for _ in range(depth - 4)), inner, ends]
    return _in_units(target, widths, diagonals, cancelled=tau)


def _check(target: Tensor, widths: Sequence[int], gain: float, wide_ends: int) -> None:
    outer = [widths[0], widths[-1]][:wide_ends]
    if len(widths) < 1 + wide_ends or min(outer) < 2 or min(widths) != 1:
        ends = "first and last of them" if wide_ends == 2 else "first of them"
        raise ValueError(
            f"widths: expected {1 + wide_ends} or more hidden widths, the {ends} 2 or more and the "
            f"least of them 1, got {list(widths)}"
        )
    if positive_rank(target) < 2:
        raise ValueError("target: expected rank 2 or more, got 1")
    if not 0 < gain < 1:
        raise ValueError(f"gain: expected a number between 0 and 1, got {gain}")


def _in_units(
    target: Tensor, widths: Sequence[int], diagonals: Sequence[Sequence[float]], cancelled: float
) -> list[Tensor]:
    """The factors with the given diagonals, and entries outside of them that cancel in the product.

    ``W_1`` has ``cancelled`` beside its first entry, and ``W_2`` what takes it out of the product; so
    have ``W_L`` and ``W_{L−1}``, transposed.
    """
    unit = float(torch.linalg.matrix_norm(target, ord=2)) ** (1 / len(diagonals))
    cores = diagonal_cores(
        target, widths, [unit * torch.tensor(values, dtype=torch.float64) for values in diagonals]
    )
    if cancelled:
        cores[0][0, 1] = cores[-1][1, 0] = unit * cancelled
        cores[1][0, 1] = -cancelled * cores[1][0, 0]
        cores[-2][1, 0] = -cancelled * cores[-2][0, 0]
    return checked(in_frames(cores, frames_of(target, widths, None)), best_approximation(target, 1))
