"""Powers of two that keep a computation within the range of float64.

At a minimizer the Hessian is homogeneous in the factors and in the input root,

    ``H(sW, tS) = s^{2(L−1)} t² H(W, S)``,

and a power of two changes no digit. So where squares of squares of the factors might leave the range,
what is asked for is computed at a common scale at which the largest eigenvalue is of the order of 1, and
scaled back. Ordinary factors are computed with as they are.

A common scale does not help factors that differ too much from one another. There, let ``g`` be the product
of all ``‖W_i‖₂`` above 1. No product of factors is larger than ``g``, nor can what underflows, below 1e-323,
amount to more than that times ``g²``. Where ``g`` is above ``2^380`` that is told, and not computed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from dmf_sharpness.arguments import memory_told
from dmf_sharpness.network.factors import Factors
from dmf_sharpness.network.randomness import gaussian

Solved = TypeVar("Solved")

SAFE_BITS = 240
"""Products of norms below ``2^240`` cannot overflow: the fourth powers of a certificate are below 2^960."""
SMALLEST = 2.0**-250
"""Above this eigenvalue squares of what rounding leaves of it do not underflow."""
ORDINARY_BITS = 200
"""Factors whose eigenvalue is estimated within ``2^{±200}`` stay as they are."""
LARGEST_BITS = 380
"""Of ``g``: what underflows stays below ``2^{−1074+760}``, far below the smallest eigenvalue."""
PROBES = 4
"""Random directions that the sizes of matrices and of their products are estimated from."""
POWER_STEPS = 3
TINY = torch.finfo(torch.float64).tiny
LEAST_EXPONENT = -1073


@dataclass(frozen=True)
class Scaled:
    """A problem at a scale where nothing leaves the range.

    Attributes:
        factors: ``2^k W_i``.
        input_root: ``2^t S``, or None.
        factor_exponent: ``k``, of the batch's shape, as float64.
        root_exponent: ``t``.
        zero: Where the Hessian is zero.
        possible: Where there is such a scale. The factors are zeros elsewhere.
    """

    factors: list[Tensor]
    input_root: Tensor | None
    factor_exponent: Tensor
    root_exponent: int
    zero: Tensor
    possible: Tensor

    @property
    def exponent(self) -> Tensor:
        """``e``, of the batch's shape: eigenvalues of the Hessian are ``2^e`` times those here."""
        return -2 * (len(self.factors) - 1) * self.factor_exponent - 2 * self.root_exponent

    def faithful(self, size: Tensor, scaled: Tensor) -> Tensor:
        """Where a result is right to rounding: its ``size``, what it was when ``scaled``, both ``(…)``."""
        normal = (size >= TINY) & (size < torch.inf) & (scaled >= SMALLEST)
        return self.possible & (normal | self.zero)


def scaled_back(values: Tensor, scaled: Scaled) -> Tensor:
    """Values ``(…)`` that go like the Hessian, for the factors themselves; NaN beyond the range."""
    result = times_power(values, scaled.exponent).masked_fill(scaled.zero, 0.0)
    return torch.where(scaled.faithful(result, values), result, torch.nan)


def told(values: Tensor) -> Tensor:
    """Values ``(…)``, NaN beyond the range in a batch.

    Raises:
        ValueError: It is the value of a single minimizer, and beyond the range.
    """
    if values.ndim == 0 and math.isnan(float(values)):
        raise ValueError(
            "factors: expected a Hessian of zeros or of eigenvalues that float64 holds, got one whose "
            "largest is not between 2.2e-308 and 1.8e308, or factors too uneven to compute it"
        )
    return values


@memory_told("factors")
def at_safe_scale(
    factors: Factors,
    norms: Sequence[float],
    input_root: Tensor | None,
    solve: Callable[[Factors, Tensor | None], Solved],
    size: Callable[[Solved], Tensor | float],
    safe_bits: float = SAFE_BITS,
) -> tuple[Solved, Scaled | None]:
    """``solve`` at the factors themselves or, where they may leave the range, at scaled ones.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        norms: ``‖W_i‖_F``; of a batch those of the stacks.
        input_root: ``S``, or None for the identity.
        solve: Computes something of the order of the Hessian.
        size: How large that is, shape ``(…)``.
        safe_bits: ``log₂`` of products of norms from which on to look closer.

    Returns:
        What ``solve`` made, and of which scaled problem; None if of the factors as they are.

    Raises:
        MemoryError: It needs more memory than there is.
    """
    root_norm = [] if input_root is None else [float(torch.linalg.vector_norm(input_root))]
    # Products of squares cannot overflow then, of a batch of no member.
    if sum(math.log2(norm) for norm in [*norms, *root_norm] if norm > 1) < safe_bits:
        result = solve(factors, input_root)
        least = size(result)
        if float(least.min() if isinstance(least, Tensor) and least.ndim else least) >= SMALLEST:
            return result, None
    scaled = scaled_problem(factors, input_root)
    return solve(scaled.factors, scaled.input_root), scaled


def scaled_problem(
    factors: Factors, input_root: Tensor | None = None, ordinary: float = ORDINARY_BITS
) -> Scaled:
    """The factors times the power of two that makes the largest eigenvalue about 1.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        input_root: ``S``, or None for the identity.
        ordinary: Members of a batch whose eigenvalue is within ``2^{±ordinary}`` stay as they are.
    """
    t = 0
    if input_root is not None:
        # The root is common to all, so the scale of one member must not change another's.
        t = -int(exponents(input_root))
        t = t if abs(t) > ordinary / 2 else 0
        input_root = times_power(input_root, input_root.new_tensor(t))
    depth = len(factors)
    zero = _structural_zero(factors, input_root)
    bits = _sharpness_bits(factors, input_root)
    largest = torch.stack([exponents(W) for W in factors]).amax(0).to(bits.dtype)
    if depth > 1:
        k = torch.where(bits.abs() <= ordinary, 0.0, -(bits / (2 * (depth - 1))).round())
        # A Hessian of zeros stays one at any scale: its factors need only be harmless.
        k = torch.where(torch.isneginf(bits), -largest, k)
    else:
        # That of a single factor does not depend on it.
        k = torch.where(largest.abs() <= ordinary, 0.0, -largest)
    g = sum((_norm_bits(W) + k).clamp(min=0) for W in factors)
    if input_root is not None:
        g = g + _norm_bits(input_root).clamp(min=0)
    possible = zero | (g <= LARGEST_BITS)
    scaled = [times_power(W, k[..., None, None]) for W in factors]
    scaled = [torch.where(possible[..., None, None], W, 0.0) for W in scaled]
    return Scaled(scaled, input_root, k, t, zero, possible)


def _structural_zero(factors: Factors, input_root: Tensor | None) -> Tensor:
    """Where ``L_i`` or ``R_i`` is zero for every i because of zeros in the factors, shape ``(…)``.

    Ones pass through the entries that are not zero: that cannot underflow, nor cancel.
    """
    layers = [(W != 0).to(W.dtype) for W in factors]
    first, last = torch.ones_like(layers[0][..., :1, :]).mT, torch.ones_like(layers[-1][..., :1])
    if input_root is not None:
        first = first * (input_root != 0).any(-1, keepdim=True)
    rights = _reached(first, layers[:-1])
    lefts = _reached(last, [W.mT for W in layers[:0:-1]])
    return ~(torch.stack(rights) & torch.stack(lefts[::-1])).any(0)


def _reached(v: Tensor, layers: Sequence[Tensor]) -> list[Tensor]:
    """Whether anything is left of ``v``, of ``W_1 v``, …, for matrices of zeros and ones."""
    left = [(v > 0).any(-1).any(-1)]
    for W in layers:
        v = (W @ v > 0).to(v.dtype)
        left.append((v > 0).any(-1).any(-1))
    return left


def _sharpness_bits(factors: Factors, input_root: Tensor | None) -> Tensor:
    """``log₂ λ_max``, estimated from random directions, shape ``(…)``; ``−∞`` if all products vanish."""
    units = [exponents(W) for W in factors]
    layers = [times_power(W, -e[..., None, None]) for W, e in zip(factors, units, strict=True)]
    first = _probe(factors[0], input_root)
    rights = _swept(first if input_root is None else input_root @ first, layers[:-1], units[:-1])
    transposed = [W.mT for W in layers[:0:-1]]
    lefts = _swept(_probe(factors[-1].mT), transposed, units[:0:-1])
    return 1 + 2 * (torch.stack(rights) + torch.stack(lefts[::-1])).amax(0)


def _probe(W: Tensor, input_root: Tensor | None = None) -> Tensor:
    """Random columns that ``W``, or the root in front of it, can be applied to."""
    size = (W if input_root is None else input_root).shape[-1]
    columns = gaussian((size, PROBES), 0, W.device) / PROBES**0.5
    return columns.expand(*W.shape[:-2], size, PROBES)


def _norm_bits(W: Tensor) -> Tensor:
    """``log₂ ‖W‖₂`` to a bit or so, by power iteration, shape ``(…)``."""
    unit = exponents(W)
    W = times_power(W, -unit[..., None, None])
    X = _probe(W)
    for _ in range(POWER_STEPS):
        X = W.mT @ (W @ X)
        X = X / torch.linalg.vector_norm(X, dim=-2, keepdim=True).clamp(min=TINY)
    return unit + torch.linalg.vector_norm(W @ X, dim=-2).amax(-1).log2()


def _swept(X: Tensor, layers: Sequence[Tensor], units: Sequence[Tensor]) -> list[Tensor]:
    """``log₂ ‖X‖``, ``log₂ ‖W_1 X‖``, … for ``W_i = 2^{units_i} layers_i``, without leaving the range."""
    total = torch.zeros(X.shape[:-2], dtype=X.dtype, device=X.device)
    bits = []
    for i in range(len(layers) + 1):
        unit = exponents(X)
        X = times_power(X, -unit[..., None, None])
        total = total + unit
        bits.append(total + torch.linalg.matrix_norm(X).log2())
        if i < len(layers):
            X = layers[i] @ X
            total = total + units[i]
    return bits


def exponents(matrices: Tensor) -> Tensor:
    """``e`` with ``2^{e−1} ≤ max |entry| < 2^e``, shape ``(…)``; of zeros that of the least number."""
    largest = matrices.abs().amax((-2, -1))
    return torch.frexp(largest)[1].masked_fill(largest == 0, LEAST_EXPONENT)


def times_power(values: Tensor, exponent: Tensor) -> Tensor:
    """``values · 2^exponent``, rounded once at most, for integers of any size."""
    # One factor of 2^1100 is not finite itself.
    half = (exponent.clamp(-2400, 2400) / 4).floor()
    rest = exponent.clamp(-2400, 2400) - 3 * half
    for part in (half, half, half, rest):
        values = values * torch.exp2(part.to(torch.float64))
    return values


def plain(values: Tensor) -> float | Tensor:
    """A number, unless it is of a batch."""
    return float(values) if values.ndim == 0 else values
