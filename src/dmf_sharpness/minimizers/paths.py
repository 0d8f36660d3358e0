"""Paths through the set of minimizers, and the minimizer on one that has a given sharpness."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.optimize
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
"""Largest ``λ_max/λ_flat`` on offer; much further up squares of norms leave the range of float64."""


def minimizer_with_sharpness(
    target: Tensor, widths: Sequence[int], sharpness: float, seed: Seed
) -> list[Tensor]:
    """A random minimizer of the given sharpness, to a relative ``1e-12``.

    Starts at a random flat minimizer and walks along a one-parameter family of gauges,
    ``G_i = exp(t A_i)`` with random symmetric ``A_i``, to the ``t`` where the sharpness is right. Where
    that is too far for float64 (some from ``10⁴ λ_flat``), the ``A_i`` are multiples of the identity.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, of a size whose ``λ_flat`` float64 holds.
        widths: Hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        sharpness: Wanted ``λ_max``, from ``λ_flat`` to ``1e30 λ_flat``: a number, or a tensor of one.
        seed: Seed of the draw.

    Raises:
        TypeError: As :func:`balanced_minimizer`, or the sharpness is no real number.
        ValueError: As :func:`balanced_minimizer`; ``λ_flat`` is beyond the range of float64; the
            sharpness is below it, above ``1e30`` times it or not finite; or float64 does not reach it.
        MemoryError: As :func:`balanced_minimizer`.
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
    # Where squares of the target leave the range, for 2^{−Lq} M, and each factor times 2^q.
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
            failure = error  # far up, gauges that mix directions cancel digits; scales do not
    raise IllConditionedError(
        f"sharpness: expected one that float64 reaches, got {sharpness}: {failure}"
    )


def _at_sharpness(path: Callable[[float], list[Tensor]], sharpness: float) -> list[Tensor]:
    """The point of a path, from a flat minimizer, where the sharpness has a value, to ``1e-12``."""

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
    """The minimizers ``W_i(t) = exp(t A_i) W_i exp(−t A_{i-1})`` for random symmetric ``A_i``.

    Args:
        start: ``[W_1 … W_L]``, at ``t = 0``.
        target: ``M``, their product; what rounding leaves of it is taken up at the two ends.
        rng: Draws the ``A_i``.
        only_scales: Take multiples of the identity, which lose no digits however large ``t`` is.
    """
    # A_i by its eigenvalues and eigenvectors: exp(±t A_i) are then inverse to rounding, which a
    # truncated series for the exponential is not.
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
