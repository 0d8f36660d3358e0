"""The Hessian at a minimizer of ``‖y − 𝒜(W_{L:1})‖²``, where ``𝒜`` sees part of the product.

The nonzero eigenvalues are those of ``2 𝒜 J Jᵀ 𝒜*`` (:mod:`dmf_sharpness.network.observation`), of which
this module computes the largest one, and values such as the trace. For the certificate, the Hessian
``2 Jᵀ 𝒜*𝒜 J`` is applied by the chain rule, without the Gram matrices that the solvers use.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_tensor, memory_told
from dmf_sharpness.hessian.certificate import relative_defect
from dmf_sharpness.hessian.eigenmatrix import WholeEigenmatrix
from dmf_sharpness.hessian.lanczos import Operator, top_eigenvector
from dmf_sharpness.hessian.operator import curvature_operator
from dmf_sharpness.hessian.result import Sharpness
from dmf_sharpness.network.curvature import jvp, parameter_direction, signed, vjp, whole_grams
from dmf_sharpness.network.factors import Factors, end_to_end
from dmf_sharpness.network.observation import Observation, ObservedEntries
from dmf_sharpness.network.randomness import gaussian
from dmf_sharpness.network.scaling import (
    SMALLEST,
    Scaled,
    exponents,
    plain,
    scaled_problem,
    times_power,
)

Solved = TypeVar("Solved")

METHODS = ("auto", "dense", "lanczos")
"""The methods for an observation of the product."""
DENSE_ORDER = 256
"""Up to this order of ``2 𝒜 J Jᵀ 𝒜*`` a dense eigenproblem is faster than an iteration."""
KRYLOV = 20
"""The number of Krylov vectors of ``lanczos``."""
SECOND_TOLERANCE = 1e-6
"""The relative residual up to which ``lanczos`` computes the second eigenvector."""
SAFE_BITS = 100
"""The limit on ``log₂`` of a product of norms up to which fourth powers of it do not overflow."""
SMALL_BITS = 240
"""An eigenvalue that is too small is brought to about ``2^{−240}``, a little above :data:`SMALLEST`."""


def observed_matrix(factors: Factors, observation: Observation) -> Tensor:
    """``2 𝒜 J Jᵀ 𝒜*``, shape ``(…, K, K)``."""
    K, batch = observation.order, factors[0].shape[:-2]
    return observation.compressed(whole_grams(factors)).expand(*batch, K, K)


def observed_operator(factors: Factors, observation: Observation) -> Operator:
    """``z ↦ 2 𝒜 J Jᵀ 𝒜* z`` for a single minimizer, as a function of vectors ``(K,)``."""
    whole = curvature_operator(factors)
    return lambda z: observation.of(whole(observation.adjoint(z)))


def observed_hessian_product(
    factors: Factors, direction: Factors, observation: Observation
) -> list[Tensor]:
    """``2 Jᵀ 𝒜*𝒜 J U``, one tensor per factor, by the chain rule."""
    change = observation.of(jvp(factors, direction))
    return vjp(factors, 2 * observation.adjoint(change))


def observed_sharpness(
    factors: Factors, observation: Observation, method: str, tolerance: float
) -> Sharpness:
    """The sharpness for factors and an observation of ordinary size, one minimizer or a batch.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        observation: ``𝒜``.
        method: One of :data:`METHODS`.
        tolerance: The wanted upper bound on the residual.
    """
    if method not in METHODS:
        raise ValueError(
            f"method: expected one of {list(METHODS)} for part of the product, got {method!r}"
        )
    if method == "auto":
        method = "dense" if observation.order <= DENSE_ORDER else "lanczos"
    second: Callable[[], Tensor]
    if method == "dense":
        values, vectors = torch.linalg.eigh(observed_matrix(factors, observation))
        value, z = values[..., -1].clamp(min=0), vectors[..., -1]
        second = partial(_next, values)
    else:
        value, z = _by_lanczos(factors, observation, tolerance / 4)
        second = partial(_second_by_deflation, factors, observation, value, z)
    Y = signed(observation.adjoint(z))
    Y = Y / torch.linalg.matrix_norm(Y).clamp(min=SMALLEST)[..., None, None]
    direction = parameter_direction(factors, Y)
    HU = observed_hessian_product(factors, direction, observation)
    residual = relative_defect(HU, direction, value)
    converged = residual <= tolerance
    return Sharpness(
        value=plain(value),
        residual=plain(residual),
        converged=bool(converged) if converged.ndim == 0 else converged,
        tolerance=tolerance,
        method=method,
        _factors=factors,
        _root=None,
        _eigenmatrix=WholeEigenmatrix(Y),
        _first=value,
        _second=second,
        _observation=observation,
    )


def _next(values: Tensor) -> Tensor:
    """The second largest of ascending eigenvalues ``(…, K)``; zero if ``K`` is 1."""
    if values.shape[-1] == 1:
        return torch.zeros_like(values[..., -1])
    return values[..., -2].clamp(min=0)


def _members(factors: Factors, observation: Observation) -> list[tuple[list[Tensor], Observation]]:
    """Each minimizer of a batch with its observation; a single minimizer counts as one."""
    batch = factors[0].shape[:-2]
    flat = [W.reshape(-1, *W.shape[-2:]) for W in factors]
    return [([W[b] for W in flat], seen) for b, seen in enumerate(observation.members(batch))]


def _by_lanczos(
    factors: Factors, observation: Observation, tolerance: float
) -> tuple[Tensor, Tensor]:
    """The top eigenvalue ``(…)`` and eigenvector ``(…, K)`` of ``2 𝒜 J Jᵀ 𝒜*``, one by one."""
    pairs = []
    for W, seen in _members(factors, observation):
        start = gaussian((seen.order,), 0, W[0].device)
        pairs.append(top_eigenvector(observed_operator(W, seen), start, tolerance, KRYLOV))
    values, vectors = zip(*pairs, strict=True)
    batch = factors[0].shape[:-2]
    return factors[0].new_tensor(values).reshape(batch), torch.stack(vectors).reshape(*batch, -1)


def _second_by_deflation(
    factors: Factors, observation: Observation, value: Tensor, first: Tensor
) -> Tensor:
    """The second eigenvalues ``(…)``, from the operators without their first eigenpairs."""
    found = []
    pairs = zip(value.reshape(-1), first.reshape(-1, first.shape[-1]), strict=True)
    for (W, seen), (top, z) in zip(_members(factors, observation), pairs, strict=True):
        whole = observed_operator(W, seen)

        def remainder(
            y: Tensor, whole: Operator = whole, top: Tensor = top, z: Tensor = z
        ) -> Tensor:
            return whole(y) - top * (z @ y) * z

        start = gaussian(z.shape, 1, z.device)
        found.append(max(0.0, top_eigenvector(remainder, start, SECOND_TOLERANCE)[0]))
    return value.new_tensor(found).reshape(value.shape)


@memory_told("factors")
def at_observed_scale(
    factors: Factors,
    norms: Sequence[float],
    observation: Observation,
    solve: Callable[[Factors, Observation], Solved],
    size: Callable[[Solved], Tensor | float],
) -> tuple[Solved, Scaled]:
    """The result of ``solve`` at a scale where no computation leaves the range of float64.

    The Hessian at ``2^k W`` and ``2^t 𝒜`` is ``2^{2(L−1)k + 2t}`` times that at ``W`` and ``𝒜``. The map
    is always brought to size 1. The factors are scaled where a product of theirs might leave the range.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        norms: ``‖W_i‖_F``, one number per layer; for a batch, the norm of the whole stack.
        observation: ``𝒜``.
        solve: A function of factors and observation, whose result scales like the Hessian.
        size: A function that gives the magnitude of such a result, shape ``(…)``.

    Returns:
        The result of ``solve``, and the scaled problem that it belongs to.

    Raises:
        MemoryError: The computation needs more memory than there is.
    """
    batch, device = factors[0].shape[:-2], factors[0].device
    seen, t = observation.normalized()
    zero = torch.zeros(batch, dtype=torch.bool, device=device)

    def sizes(solved: Solved) -> Tensor:
        return torch.as_tensor(size(solved), dtype=torch.float64, device=device).expand(batch)

    if sum(math.log2(norm) for norm in norms if norm > 1) < SAFE_BITS:
        result = solve(factors, seen)
        if float(sizes(result).min()) >= SMALLEST:
            return result, Scaled(list(factors), None, t.new_zeros(batch), t, zero, ~zero)
    scaled = scaled_problem(factors)
    result = solve(scaled.factors, seen)
    found = sizes(result)
    small = (found > 0) & (found < SMALLEST)
    if bool(small.any()):
        # Part of the product can have a Hessian far below that of the whole, which the scale is made for.
        # The eigenvalue that was found gives a better one: just so large that it is trusted.
        bits = found.log2() + scaled.exponent + SMALL_BITS
        unchanged = -2 * (len(factors) - 1) * scaled.factor_exponent
        scaled = scaled_problem(factors, ordinary=0, bits=torch.where(small, bits, unchanged))
        result = solve(scaled.factors, seen)
    nothing = scaled.zero | _nothing_seen(factors, seen)
    return result, Scaled(
        scaled.factors, None, scaled.factor_exponent, t, nothing, scaled.possible | nothing
    )


def _nothing_seen(factors: Factors, observation: Observation) -> Tensor:
    """Whether zeros in the factors make all ``L_iᵀ A_k R_iᵀ`` zero, shape ``(…)``.

    Each factor is replaced by a matrix with ones at its nonzero entries, so that products of them
    neither underflow nor cancel.
    """
    layers = [(W != 0).to(W.dtype) for W in factors]
    Y = observation.pattern.expand(*factors[0].shape[:-2], -1, -1)
    rights = [Y]  # the pattern of A R_iᵀ
    for W in layers[:-1]:
        rights.append((rights[-1] @ W.mT > 0).to(W.dtype))
    L = torch.eye(Y.shape[-2], dtype=Y.dtype, device=Y.device)
    reached = []
    for W, right in zip(reversed(layers), reversed(rights), strict=True):
        reached.append((L.mT @ right > 0).any(-1).any(-1))
        L = (L @ W > 0).to(W.dtype)
    return ~torch.stack(reached).any(0)


def check_observed_residual(
    factors: Factors, target: object, observation: Observation, rtol: float = 1e-10
) -> None:
    """A check that the residual does not contribute to the Hessian: ``𝒜*(y − 𝒜(W_{L:1})) = 0``.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        target: With entries ``M``, shape ``(d_L, d_0)`` or ``(…, d_L, d_0)``, of which only observed
            entries are read; with measurements ``y``, shape ``(K,)`` or ``(…, K)``.
        observation: ``𝒜``.
        rtol: The largest accepted ``‖𝒜*(y − 𝒜(W_{L:1}))‖_F``, relative to ``‖𝒜* y‖_F``.

    Raises:
        TypeError: The target is not a float64 tensor.
        ValueError: It does not fit, an observed entry is not finite, or the residual is too large.
    """
    batch, device = factors[0].shape[:-2], factors[0].device
    seen = observation.normalized()[0]
    # Powers of two keep products and squares in the range, as entries of any size are allowed.
    units = [exponents(W) for W in factors]
    layers = [times_power(W, -e[..., None, None]) for W, e in zip(factors, units, strict=True)]
    product = end_to_end(layers)
    if isinstance(seen, ObservedEntries):
        ends = product.shape[-2:]
        M = checked_tensor(target, "target", ends, (*batch, *ends), device=device, finite=False)
        # An entry that is not observed may be NaN, of which zero times would be NaN again.
        M = checked_tensor(M.expand(*batch, *ends).masked_fill(seen.roots == 0, 0.0), "target")
        unit = exponents(M)
        y = seen.of(times_power(M, -unit[..., None, None]))
    else:
        K = observation.order
        y = checked_tensor(target, "target", (K,), (*batch, K), device=device).expand(*batch, K)
        # The outcomes are brought to the scale of the normalized measurements.
        unit = exponents(y[..., None]) + observation.normalized()[1].to(units[0].dtype)
        y = times_power(y, -exponents(y[..., None])[..., None])
    shift = torch.stack(units).sum(0) - unit
    wanted = seen.adjoint(y)
    scale = torch.linalg.matrix_norm(wanted)
    got = seen.adjoint(seen.of(product))
    error = torch.where(
        scale > 0,
        torch.linalg.matrix_norm(times_power(got, shift[..., None, None]) - wanted) / scale,
        torch.linalg.matrix_norm(got),
    )
    worst = float(error.max())
    if not worst <= rtol:
        raise ValueError(
            "target: expected factors whose product fits what is observed to a relative "
            f"{rtol:.0e}, got {worst:.3g}; the expression is not exact here"
        )
