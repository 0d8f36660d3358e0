"""Powers of two that keep a computation within the range of float64.

At a minimizer the Hessian is homogeneous in the factors and in the input root,

    ``H(sW, tS) = s^{2(L−1)} t² H(W, S)``,

and a power of two changes no digit. So where squares of squares of the factors might leave the range,
what is asked for is computed at a common scale at which the largest eigenvalue is of the order of 1, and
scaled back. Ordinary factors are computed with as they are.

A common scale does not help factors that differ so much from one another that a product ``L_i`` or
``R_i`` passes ``2^{±400}`` at the scale where the eigenvalue is 1. Those are told, not computed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from dmf_sharpness.arguments import memory_told
from dmf_sharpness.factors import Factors
from dmf_sharpness.randomness import gaussian

Solved = TypeVar("Solved")

SAFE_BITS = 240
"""Products of norms below ``2^240`` cannot overflow: the fourth powers of a certificate are below 2^960."""
SMALLEST = 2.0**-250
"""Above this eigenvalue squares of what rounding leaves of it do not underflow."""
ORDINARY_BITS = 200
"""Factors whose eigenvalue is estimated within ``2^{±200}`` stay as they are."""
LARGEST_PRODUCT_BITS = 400
"""Beside an eigenvalue of 1. One Gram matrix is below ``2^800`` then: another's underflow does no harm."""
LARGEST_FACTOR_BITS = 900
PROBES = 4
"""Random directions that the sizes of products are estimated from."""
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
    rights, lefts = _product_bits(factors, input_root)
    bits = 1 + 2 * (rights + lefts).amax(0)
    zero = torch.isneginf(bits)
    largest = torch.stack([exponents(W) for W in factors]).amax(0).to(bits.dtype)
    if depth > 1:
        k = torch.where(bits.abs() <= ordinary, 0.0, -(bits / (2 * (depth - 1))).round())
        # A Hessian of zeros stays one at any scale: its factors need only be harmless.
        k = torch.where(zero, -largest, k)
    else:
        # That of a single factor does not depend on it.
        k = torch.where(largest.abs() <= ordinary, 0.0, -largest)
    steps = torch.arange(depth, dtype=bits.dtype, device=bits.device).reshape(-1, *[1] * k.ndim)
    peaks = torch.maximum(rights + steps * k, lefts + steps.flip(0) * k).amax(0)
    uneven = (peaks > LARGEST_PRODUCT_BITS) | (largest + k > LARGEST_FACTOR_BITS)
    possible = zero | ~uneven
    scaled = [times_power(W, k[..., None, None]) for W in factors]
    scaled = [torch.where(possible[..., None, None], W, 0.0) for W in scaled]
    return Scaled(scaled, input_root, k, t, zero, possible)


def _product_bits(factors: Factors, input_root: Tensor | None) -> tuple[Tensor, Tensor]:
    """``log₂ ‖R_i S‖_F`` and ``log₂ ‖L_i‖_F``, estimated, shapes ``(L, …)``; ``−∞`` for a zero product."""
    units = [exponents(W) for W in factors]
    layers = [times_power(W, -e[..., None, None]) for W, e in zip(factors, units, strict=True)]
    batch, device = factors[0].shape[:-2], factors[0].device
    generator = torch.Generator().manual_seed(0)

    def probe(size: int) -> Tensor:
        columns = gaussian((size, PROBES), generator, device) / PROBES**0.5
        return columns.expand(*batch, size, PROBES)

    first = probe((factors[0] if input_root is None else input_root).shape[-1])
    if input_root is not None:
        first = input_root @ first
    rights = _swept(first, layers[:-1], units[:-1])
    transposed = [W.mT for W in layers[:0:-1]]
    lefts = _swept(probe(factors[-1].shape[-2]), transposed, units[:0:-1])
    return torch.stack(rights), torch.stack(lefts[::-1])


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
