"""Paths in the set of minimizers, and minimizers of a given sharpness on them."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy
import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_number
from dmf_sharpness.hessian.sharpness import sharpness as sharpness_of
from dmf_sharpness.minimizers.basic import flat_minimizer
from dmf_sharpness.minimizers.frames import (
    IllConditionedError,
    check_request,
    checked,
    checked_target,
    checked_widths,
    polished,
    scale_of,
)
from dmf_sharpness.minimizers.targets import Seed, orthogonal_matrix
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.network.randomness import random_generator
from dmf_sharpness.network.scaling import times_power

FARTHEST = 1e30
"""The largest accepted ``λ_max/λ_flat``; far above it, squares of norms leave the range of float64."""


def minimizer_with_sharpness(
    target: Tensor, widths: Sequence[int], sharpness: float, seed: Seed
) -> list[Tensor]:
    """A random minimizer of the given sharpness, with a relative error of at most ``1e-12``.

    The construction starts at a random flat minimizer. It follows a one-parameter family of gauges
    ``G_i = exp(t A_i)`` with random symmetric ``A_i`` to the ``t`` where the sharpness has the
    wanted value. If float64 is not accurate enough for this, as happens from about ``10⁴ λ_flat``
    on, the ``A_i`` are multiples of the identity.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, such that ``λ_flat`` is in the range
            of float64.
        widths: The hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        sharpness: The wanted ``λ_max``, from ``λ_flat`` to ``1e30 λ_flat``; a number or a tensor
            with one entry.
        seed: The seed of the random draws.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: As for :func:`dmf_sharpness.balanced_minimizer`, or the sharpness is not a real number.
        ValueError: As for :func:`dmf_sharpness.balanced_minimizer`; or ``λ_flat`` is outside the
            range of float64; or the sharpness is below ``λ_flat``, above ``1e30 λ_flat`` or not
            finite; or float64 is not accurate enough to attain it.
        MemoryError: As for :func:`dmf_sharpness.balanced_minimizer`.

    >>> from dmf_sharpness import sharpness as exact
    >>> target = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> round(exact(minimizer_with_sharpness(target, [3, 3], 30.0, seed=0)).value, 9)
    30.0
    """
    M, hidden = checked_target(target), checked_widths(widths)
    depth = len(hidden) + 1
    check_request(M, hidden)
    wanted = checked_number(sharpness, "sharpness")
    least = float(flat_sharpness(M, depth))
    if wanted < least * (1 - 1e-12):
        raise ValueError(
            f"sharpness: expected a finite number of at least λ_flat = {least:.12g}, got {wanted}"
        )
    if wanted / FARTHEST > least:
        raise ValueError(
            f"sharpness: expected at most {FARTHEST:.0e} λ_flat, λ_flat = {least:.3g}, got {wanted}"
        )
    # If squares of the target leave the range of float64, the construction is for 2^{−Lq} M, and
    # each factor is multiplied by 2^q afterwards.
    q = M.new_tensor(scale_of(M, depth))
    there = float(times_power(M.new_tensor(wanted), -2 * (depth - 1) * q))
    made = _with_sharpness(times_power(M, -depth * q), hidden, there, random_generator(seed))
    return [times_power(W, q).to(target.device) for W in made]


def _with_sharpness(
    target: Tensor, widths: Sequence[int], sharpness: float, rng: np.random.Generator
) -> list[Tensor]:
    """:func:`minimizer_with_sharpness` at an ordinary scale."""
    start = flat_minimizer(target, widths, rng)
    least = float(flat_sharpness(target, len(widths) + 1))
    if sharpness <= least * (1 + 1e-12):
        return start
    failure = None
    for conditioned in (False, True):
        path = gauge_path(start, target, rng, only_scales=conditioned)
        try:
            return checked(_at_sharpness(path, sharpness), target)
        except ArithmeticError as error:
            # For large t, gauges that mix directions cancel digits, and multiples of the identity do not.
            failure = error
    raise IllConditionedError(
        f"sharpness: expected one that float64 reaches, got {sharpness}: {failure}"
    )


def _at_sharpness(path: Callable[[float], list[Tensor]], sharpness: float) -> list[Tensor]:
    """The point with the given sharpness, to a relative ``1e-12``, on a path from a flat minimizer.

    Raises:
        ArithmeticError: The sharpness is not finite before it reaches the value, or it misses the value.
    """

    def excess(t: float) -> float:
        value = float(sharpness_of(path(t)).value)
        if not math.isfinite(value):
            raise ArithmeticError(f"sharpness: expected {sharpness}, reached {value}")
        return value / sharpness - 1

    end = 1e-3
    while excess(end) < 0:
        end *= 2
    t = scipy.optimize.brentq(excess, 0.0, end, xtol=1e-300, rtol=1e-15)
    missed = excess(t)
    if abs(missed) > 1e-12:
        raise ArithmeticError(f"sharpness: expected {sharpness}, reached a relative {missed:.2g}")
    return path(t)


def gauge_path(
    start: Sequence[Tensor],
    target: Tensor,
    rng: np.random.Generator,
    *,
    only_scales: bool = False,
) -> Callable[[float], list[Tensor]]:
    """The path of minimizers ``W_i(t) = exp(t A_i) W_i exp(−t A_{i-1})`` for random symmetric ``A_i``.

    Here ``A_0 = A_L = 0``, so that the product does not change.

    Args:
        start: ``[W_1 … W_L]``, the minimizer at ``t = 0``.
        target: ``M``, the product of the factors. Corrections of ``W_1`` and ``W_L`` remove the
            residual from rounding.
        rng: The random generator for the ``A_i``.
        only_scales: Whether the ``A_i`` are multiples of the identity, which lose no digits for
            large ``t``.

    Returns:
        The function ``t ↦ [W_1(t) … W_L(t)]``.
    """
    # A_i is stored as eigenvalues and eigenvectors. Then exp(t A_i) and exp(−t A_i) are inverse to
    # each other up to rounding, which is not the case if a truncated series computes the exponentials.
    generators = []
    for W in start[:-1]:
        width = W.shape[0]
        spectrum = torch.from_numpy(rng.standard_normal(width)) / width**0.5
        if only_scales:
            spectrum = spectrum[:1].expand(width)
        generators.append((spectrum, orthogonal_matrix(width, rng)))

    def path(t: float) -> list[Tensor]:
        factors = list(start)
        for i, (spectrum, Q) in enumerate(generators):
            factors[i] = (Q * torch.exp(t * spectrum)) @ Q.mT @ factors[i]
            factors[i + 1] = factors[i + 1] @ (Q * torch.exp(-t * spectrum)) @ Q.mT
        return polished(factors, target)

    return path
