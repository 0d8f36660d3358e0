"""When only balanced minimizers are flat, and flat minimizers that are not balanced where there are some.

A minimizer is *balanced* if all spectral products ``p_i = ‖L_i‖₂‖R_i‖₂`` equal
``p* = ‖M‖₂^{1−1/L}``. This is sufficient for flatness, and necessary at depth 2. For ``L ≥ 3`` and a
target ``M`` of rank ``r ≥ 1`` it is necessary if and only if all three conditions hold:

- the *spectrum*: all nonzero singular values of ``M`` are equal;
- the *input*: ``r = d_0``, or ``d_1 = r``;
- the *output*: ``r = d_L``, or ``d_{L−1} = r``.

The theorem is ours; ``docs/flatness.md`` has the proof. Each condition that fails leaves room for a
flat minimizer that is not balanced, and :func:`flat_unbalanced_minimizer` makes one.
"""

from collections.abc import Sequence
from typing import Literal

import scipy
import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_number
from dmf_sharpness.minimizers.frames import (
    at_any_scale,
    check_request,
    check_widths,
    checked,
    checked_target,
    checked_widths,
    diagonal_cores,
    frames_of,
    in_frames,
    scale_of,
    target_rank,
)
from dmf_sharpness.minimizers.targets import Seed
from dmf_sharpness.network.randomness import random_generator
from dmf_sharpness.network.scaling import times_power

Condition = Literal["spectrum", "input", "output"]

EQUAL = 1e-9
"""Two singular values count as equal if their relative difference is at most this."""


def balance_is_necessary(target: Tensor, widths: Sequence[int], *, rtol: float = EQUAL) -> bool:
    """Whether every flat minimizer has all spectral products equal to ``‖M‖₂^{1−1/L}``.

    At depth 2 this is always so. From three factors on it is so if and only if all nonzero singular
    values of ``M`` are equal, ``r = d_0`` or ``d_1 = r``, and ``r = d_L`` or ``d_{L−1} = r``, where
    ``r`` is the rank of ``M``. In particular it is so for scalar targets, and for multiples of
    orthogonal matrices. If ``M = 0``, the products of a flat minimizer are all zero, and it is so.

    The theorem is ours; its proof is in ``docs/flatness.md``.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64. Singular values up to ``1e-12`` times the
            largest one count as zero.
        widths: The hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        rtol: The relative difference ``δ = 1 − σ_r/σ_1`` up to which the nonzero singular values count
            as equal, from 0 to below 1. If they differ by ``δ``, and the other two conditions hold, the
            products of flat minimizers deviate from ``p*`` by up to the order of ``√δ``.

    Raises:
        TypeError: The target is not a float64 tensor, a width is not an integer, or ``rtol`` is not
            a number.
        ValueError: The target is not a matrix or not finite, a width is below its rank, or ``rtol``
            is out of its range.

    >>> M = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    >>> balance_is_necessary(M, [2]), balance_is_necessary(M, [2, 2])
    (True, False)
    >>> rotation = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    >>> balance_is_necessary(3 * rotation, [5, 4, 2])
    True
    """
    M, hidden = checked_target(target), checked_widths(widths)
    rtol = checked_number(rtol, "rtol", least=0, below=1)
    # The answer does not depend on the scale, but a decomposition of the largest targets overflows.
    M = times_power(M, M.new_tensor(-scale_of(M, 1)))
    rank = target_rank(M)
    check_widths(hidden, rank)
    return not _failing(M, hidden, rank, rtol)


def _failing(
    target: Tensor, widths: Sequence[int], rank: int, rtol: float = EQUAL
) -> list[Condition]:
    """The conditions that fail; at depth 2, and for a target of rank 0, none is needed."""
    if rank == 0 or len(widths) == 1:
        return []
    d_L, d_0 = target.shape
    values = torch.linalg.svdvals(target)
    fails: dict[Condition, bool] = {
        "spectrum": bool(values[rank - 1] < (1 - rtol) * values[0]),
        "input": rank < d_0 and rank < widths[0],
        "output": rank < d_L and rank < widths[-1],
    }
    return [condition for condition, fail in fails.items() if fail]


@at_any_scale
def flat_unbalanced_minimizer(
    target: Tensor, widths: Sequence[int], seed: Seed, condition: Condition | None = None
) -> list[Tensor]:
    """A flat minimizer whose spectral products are not all equal to ``p* = ‖M‖₂^{1−1/L}``.

    It exists if one of the three conditions of :func:`balance_is_necessary` fails, and is made from
    the balanced minimizer, ``s = ‖M‖₂^{1/L}``, by a change of one signal or of one free unit. All
    products but one equal ``p*``:

    - *spectrum*: the signal of ``σ_r = κ σ_1 < σ_1`` gets the entries
      ``√x s, κ s/x, √x s, s, …, s`` in the factors. So ``p_2 = x p*``, and the new eigenvalues of
      ``J Jᵀ`` are at most ``L p*²`` for ``x`` up to the limit in :func:`_largest_product`.
    - *input*: a direction of the kernel of ``M`` is written, with the entry ``x s``, into a unit of the
      first hidden layer that the second factor does not read. So ``p_2 = x p*``, and the largest new
      eigenvalue of ``J Jᵀ`` is ``p*² (1 + x²)``, which is at most ``L p*²`` for ``x ≤ √(L−1)``.
    - *output*: the same for the transposed network, with ``p_{L−1} = x p*``.

    For ``L ≥ 3`` there is room for ``x > 1``; ``x − 1`` is drawn from the upper 70 % of it.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, of any size that float64 holds.
        widths: The hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        seed: The seed for the condition, if none is given, for ``x``, and for the hidden frames.
        condition: The failing condition to use; None draws one of those that fail.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: The target is not a float64 tensor, a width is not an integer, or the seed is not
            one.
        ValueError: The target is zero, not a matrix or not finite, a width is below its rank, or no
            condition fails, or not the one that was given.
        MemoryError: There is not enough memory for factors of these widths.
    """
    # Arguments.
    rank = check_request(target, widths)
    failing = _failing(target, widths, rank)
    if not failing or condition not in (None, *failing):
        wanted = "one of them" if condition is None else f"the condition of the {condition}"
        raise ValueError(
            f"target, widths: expected {wanted} to fail, so that balance is not necessary, got a target "
            f"of rank {rank} and hidden widths {list(widths)}, where {failing or 'none'} fails"
        )
    rng = random_generator(seed)
    if condition is None:
        condition = failing[int(rng.integers(len(failing)))]

    # The balanced minimizer in the singular bases of the target.
    depth = len(widths) + 1
    singular_values = torch.linalg.svdvals(target)[:rank]
    signal = singular_values ** (1 / depth)
    s = float(signal[0])
    cores = diagonal_cores(target, widths, [signal] * depth)

    # One signal, or one free unit, is changed.
    share = float(singular_values[-1] / singular_values[0])
    most = _largest_product(share, depth) if condition == "spectrum" else (depth - 1) ** 0.5
    x = 1 + (most - 1) * float(rng.uniform(0.3, 1.0))
    if condition == "spectrum":
        gains = [x**0.5, share / x, x**0.5] + [1.0] * (depth - 3)
        for core, gain in zip(cores, gains, strict=True):
            core[rank - 1, rank - 1] = gain * s
    else:
        cores[0 if condition == "input" else -1][rank, rank] = x * s
    return checked(in_frames(cores, frames_of(target, widths, rng)), target)


def _largest_product(share: float, depth: int) -> float:
    """The largest ``x`` for which the entries ``√x s, κ s/x, √x s, s, …, s`` leave the minimizer flat.

    With ``κ = share < 1`` the new eigenvalues of ``J Jᵀ`` in units of ``p*²`` are at most
    ``x + κ²/x + L − 2`` at ``u_r v_1ᵀ`` and ``u_1 v_rᵀ``, and ``x² + 2κ²/x + (L−3)κ²`` at ``u_r v_rᵀ``.
    Both are below ``L`` at ``x = 1`` and convex in ``log x``, and the second is above ``L`` at ``2√L``.
    """

    def excess(x: float) -> float:
        mixed = x + share**2 / x + depth - 2
        both = x**2 + 2 * share**2 / x + (depth - 3) * share**2
        return max(mixed, both) - depth

    return float(scipy.optimize.brentq(excess, 1.0, 2 * depth**0.5, xtol=1e-15))
