"""Powers of two that keep a computation within the range of float64.

At a minimizer the Hessian is homogeneous in the factors and in the input root,

    ``H(sW, tS) = s^{2(L−1)} t² H(W, S)``,

and multiplication by a power of two changes no digit. The algorithms form fourth powers of products
of factors. Where these might leave the range of float64, all factors are multiplied by a common
power of two that makes the largest eigenvalue about 1, and the result is scaled back. Ordinary
factors are not scaled.

A common scale does not help if the factors differ too much in size from one another. Let ``g`` be
the product of all ``‖W_i‖₂`` that are above 1. No product of factors is larger than ``g``. A number
that underflows, below 1e-323, enters the result multiplied by at most ``g²``, so the error from
underflow is at most of the order ``1e-323 g²``. Where ``g`` is above ``2^380`` this error could
matter. The value is then reported as outside the range, and not computed.
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
"""The limit on ``log₂`` of a product of norms up to which nothing overflows.

The certificate of an eigenpair forms fourth powers of such products, which stay below ``2^960``.
"""
SMALLEST = 2.0**-250
"""The least eigenvalue that is trusted: above it, squares of its rounding errors do not underflow."""
ORDINARY_BITS = 200
"""Factors stay unscaled if their largest eigenvalue is estimated to be within ``2^{±200}``."""
LARGEST_BITS = 380
"""The limit on ``log₂ g``: the error from underflow is below ``2^{−1074+760}``, far below ``SMALLEST``."""
PROBES = 4
"""The number of random vectors from which norms of matrices and of their products are estimated."""
POWER_STEPS = 3
"""The number of power iterations in the estimate of a spectral norm."""
TINY = torch.finfo(torch.float64).tiny
"""The smallest normal float64 number, 2.2e-308."""
LEAST_EXPONENT = -1073
"""The binary exponent of the smallest positive float64 number, which stands for zeros as well."""


@dataclass(frozen=True)
class Scaled:
    """Factors and an input root that were scaled such that no computation leaves the range of float64.

    Attributes:
        factors: ``2^k W_i``, shape ``(…, d_i, d_{i-1})``.
        input_root: ``2^t S``, or None without data.
        factor_exponent: ``k``, shape ``(…)``, float64.
        root_exponent: ``t``; for an observation of the product, the exponent of that map, shape ``(…)``.
        zero: Whether the Hessian is zero, shape ``(…)``.
        possible: Whether such a scale exists, shape ``(…)``. Where it does not, the factors are zeros.
    """

    factors: list[Tensor]
    input_root: Tensor | None
    factor_exponent: Tensor
    root_exponent: int | Tensor
    zero: Tensor
    possible: Tensor

    @property
    def exponent(self) -> Tensor:
        """``e``, shape ``(…)``: the eigenvalues at the original factors are ``2^e`` times those here."""
        return -2 * (len(self.factors) - 1) * self.factor_exponent - 2 * self.root_exponent

    def faithful(self, size: Tensor, scaled: Tensor) -> Tensor:
        """Whether results are accurate to rounding, shape ``(…)``.

        Args:
            size: The results for the original factors, shape ``(…)``.
            scaled: The same results at the scale of this problem, shape ``(…)``.
        """
        normal = (size >= TINY) & (size < torch.inf) & (scaled >= SMALLEST)
        return self.possible & (normal | self.zero)


def scaled_back(values: Tensor, scaled: Scaled) -> Tensor:
    """Values for the original factors, from ``values`` of the scaled problem, shape ``(…)``.

    The values must scale like the Hessian. The result is NaN where it is outside the range of float64.
    """
    result = times_power(values, scaled.exponent).masked_fill(scaled.zero, 0.0)
    return torch.where(scaled.faithful(result, values), result, torch.nan)


def told(values: Tensor) -> Tensor:
    """``values``, unless it is the NaN of a single minimizer outside the range; shape ``(…)``.

    In a batch NaN is kept, so that one member cannot stop the computation for the others.

    Raises:
        ValueError: ``values`` is a single NaN.
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
    """The result of ``solve`` for the factors, or for scaled ones if a computation may leave the range.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        norms: ``‖W_i‖_F``, one number per layer; for a batch, the norm of the whole stack.
        input_root: ``S``, or None for the identity.
        solve: A function of the factors and the input root, whose result scales like the Hessian.
        size: A function that gives the magnitude of such a result, shape ``(…)``.
        safe_bits: The limit on ``log₂`` of the product of all norms above 1, below which the
            factors need no scaling.

    Returns:
        The result of ``solve``, and the scaled problem that it belongs to, or None if the factors
        were not scaled.

    Raises:
        MemoryError: The computation needs more memory than there is.
    """
    root_norm = [] if input_root is None else [float(torch.linalg.vector_norm(input_root))]
    # Below this limit no product of squares overflows, for any member of a batch.
    if sum(math.log2(norm) for norm in [*norms, *root_norm] if norm > 1) < safe_bits:
        result = solve(factors, input_root)
        least = size(result)
        if float(least.min() if isinstance(least, Tensor) and least.ndim else least) >= SMALLEST:
            return result, None
    scaled = scaled_problem(factors, input_root)
    return solve(scaled.factors, scaled.input_root), scaled


def scaled_problem(
    factors: Factors,
    input_root: Tensor | None = None,
    ordinary: float = ORDINARY_BITS,
    bits: Tensor | None = None,
) -> Scaled:
    """The factors times the power of two that makes the largest eigenvalue about 1.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        input_root: ``S``, or None for the identity.
        ordinary: Members of a batch whose largest eigenvalue is within ``2^{±ordinary}`` are not scaled.
        bits: ``log₂`` of the largest eigenvalue, shape ``(…)``; None stands for an estimate.
    """
    # The exponent t of the input root.
    t = 0
    if input_root is not None:
        # The root is common to the whole batch. So its scale depends on the root alone: no member
        # of the batch may change the result of another one.
        t = -int(exponents(input_root))
        t = t if abs(t) > ordinary / 2 else 0
        input_root = times_power(input_root, input_root.new_tensor(t))
    # The exponent k of the factors.
    depth = len(factors)
    zero = _structural_zero(factors, input_root)
    bits = _sharpness_bits(factors, input_root) if bits is None else bits
    largest = torch.stack([exponents(W) for W in factors]).amax(0).to(bits.dtype)
    if depth > 1:
        k = torch.where(bits.abs() <= ordinary, 0.0, -(bits / (2 * (depth - 1))).round())
        # A zero Hessian stays zero at every scale. Its factors are brought to size 1, where nothing
        # overflows.
        k = torch.where(torch.isneginf(bits), -largest, k)
    else:
        # The Hessian of a single factor does not depend on this factor.
        k = torch.where(largest.abs() <= ordinary, 0.0, -largest)
    # The members whose factors are not too uneven: log₂ g is small enough.
    g = sum((_norm_bits(W) + k).clamp(min=0) for W in factors)
    if input_root is not None:
        g = g + _norm_bits(input_root).clamp(min=0)
    possible = zero | (g <= LARGEST_BITS)
    scaled = [times_power(W, k[..., None, None]) for W in factors]
    scaled = [torch.where(possible[..., None, None], W, 0.0) for W in scaled]
    return Scaled(scaled, input_root, k, t, zero, possible)


def _structural_zero(factors: Factors, input_root: Tensor | None) -> Tensor:
    """Whether zeros in the factors make ``L_i`` or ``R_i`` zero for every ``i``, shape ``(…)``.

    Each factor is replaced by a matrix with ones at its nonzero entries. Products of such matrices
    neither underflow nor cancel, so they vanish only because of the pattern of zeros.
    """
    layers = [(W != 0).to(W.dtype) for W in factors]
    first, last = torch.ones_like(layers[0][..., :1, :]).mT, torch.ones_like(layers[-1][..., :1])
    if input_root is not None:
        first = first * (input_root != 0).any(-1, keepdim=True)
    rights = _reached(first, layers[:-1])
    lefts = _reached(last, [W.mT for W in layers[:0:-1]])
    return ~(torch.stack(rights) & torch.stack(lefts[::-1])).any(0)


def _reached(v: Tensor, layers: Sequence[Tensor]) -> list[Tensor]:
    """Whether ``v``, ``W_1 v``, ``W_2 W_1 v``, … are nonzero, for matrices of zeros and ones."""
    left = [(v > 0).any(-1).any(-1)]
    for W in layers:
        v = (W @ v > 0).to(v.dtype)
        left.append((v > 0).any(-1).any(-1))
    return left


def _sharpness_bits(factors: Factors, input_root: Tensor | None) -> Tensor:
    """An estimate of ``log₂ λ_max`` from random vectors, shape ``(…)``; ``−∞`` if all products vanish."""
    units = [exponents(W) for W in factors]
    layers = [times_power(W, -e[..., None, None]) for W, e in zip(factors, units, strict=True)]
    first = _probe(factors[0], input_root)
    rights = _swept(first if input_root is None else input_root @ first, layers[:-1], units[:-1])
    transposed = [W.mT for W in layers[:0:-1]]
    lefts = _swept(_probe(factors[-1].mT), transposed, units[:0:-1])
    return 1 + 2 * (torch.stack(rights) + torch.stack(lefts[::-1])).amax(0)


def _probe(W: Tensor, input_root: Tensor | None = None) -> Tensor:
    """Random columns to which ``W`` can be applied, or the input root if there is one."""
    size = (W if input_root is None else input_root).shape[-1]
    columns = gaussian((size, PROBES), 0, W.device) / PROBES**0.5
    return columns.expand(*W.shape[:-2], size, PROBES)


def _norm_bits(W: Tensor) -> Tensor:
    """``log₂ ‖W‖₂`` to about one bit, by power iteration, shape ``(…)``."""
    unit = exponents(W)
    W = times_power(W, -unit[..., None, None])
    X = _probe(W)
    for _ in range(POWER_STEPS):
        X = W.mT @ (W @ X)
        X = X / torch.linalg.vector_norm(X, dim=-2, keepdim=True).clamp(min=TINY)
    return unit + torch.linalg.vector_norm(W @ X, dim=-2).amax(-1).log2()


def _swept(X: Tensor, layers: Sequence[Tensor], units: Sequence[Tensor]) -> list[Tensor]:
    """``log₂`` of ``‖X‖_F``, ``‖W_1 X‖_F``, ``‖W_2 W_1 X‖_F``, …, for ``W_i = 2^{units_i} layers_i``.

    The intermediate products are rescaled after each layer, so that none leaves the range of float64.
    """
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
    """``e`` with ``2^{e−1} ≤ max |entry| < 2^e``, shape ``(…)``; ``LEAST_EXPONENT`` for zero matrices."""
    largest = matrices.abs().amax((-2, -1))
    return torch.frexp(largest)[1].masked_fill(largest == 0, LEAST_EXPONENT)


def times_power(values: Tensor, exponent: Tensor) -> Tensor:
    """``values · 2^exponent`` for integer exponents of any size, rounded at most once."""
    # A single factor such as 2^1100 would overflow, so the multiplication is done in four steps.
    half = (exponent.clamp(-2400, 2400) / 4).floor()
    rest = exponent.clamp(-2400, 2400) - 3 * half
    for part in (half, half, half, rest):
        values = values * torch.exp2(part.to(torch.float64))
    return values


def plain(values: Tensor) -> float | Tensor:
    """A float for a single value; a batch of values stays a tensor."""
    return float(values) if values.ndim == 0 else values
