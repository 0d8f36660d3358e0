"""Minimizers at which the trace of the Hessian is least, constructed and searched for."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy
import torch
from torch import Tensor

from dmf_sharpness.minimizers.frames import (
    at_any_scale,
    check_request,
    checked,
    diagonal_cores,
    frames_of,
    in_frames,
    target_rank,
)
from dmf_sharpness.minimizers.search import Search
from dmf_sharpness.minimizers.targets import Seed, gaussian_matrix
from dmf_sharpness.network.factors import (
    Factors,
    end_to_end,
    flatten,
    left_factors,
    right_factors,
    unflatten,
)
from dmf_sharpness.network.factors import widths as widths_of
from dmf_sharpness.network.randomness import random_generator


@at_any_scale
def trace_flat_minimizer(target: Tensor, widths: Sequence[int], seed: Seed) -> list[Tensor]:
    """A random minimizer with the least trace of the Hessian of all minimizers.

    The singular values ``σ_j`` of the target are in the first and in the last factor, with the
    square root in each: ``W_1 = U_1 Σ^{1/2} Vᵀ / √c_1`` and ``W_L = √c_{L−1} U Σ^{1/2} U_{L−1}ᵀ``. The
    inner factors are multiples of isometries ``U_i U_{i−1}ᵀ`` between the same dimensions, beside
    random blocks between other dimensions, which no other factor uses. Every trace-flat minimizer
    has this form (section 5 of ``docs/flatness.md``).

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero, of any size that float64 holds.
        widths: The hidden widths ``d_1 … d_{L-1}``, each at least the rank of ``M``.
        seed: The seed of the random draws.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: As for :func:`dmf_sharpness.balanced_minimizer`.
        ValueError: As for :func:`dmf_sharpness.balanced_minimizer`.
        MemoryError: As for :func:`dmf_sharpness.balanced_minimizer`.

    >>> M = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    >>> W_1, W_2, W_3 = trace_flat_minimizer(M, [2, 2], seed=0)
    >>> values = torch.linalg.svdvals(W_2)
    >>> bool(torch.isclose(values[0], values[1]))
    True
    """
    rank = check_request(target, widths)
    rng = random_generator(seed)
    (d_L, d_0), depth = target.shape, len(widths) + 1
    values = torch.linalg.svdvals(target)[:rank]
    nuclear = float(values.sum())

    # L_i L_iᵀ = c_i U Σ Uᵀ, with c_1 = t/(d_0 ν) and c_{L−1} = d_L ν/t, where the trace is 2 L t.
    t = (d_0 * d_L) ** (1 / depth) * nuclear ** (2 - 2 / depth)
    first, last = (t / (d_0 * nuclear)) ** -0.5, (d_L * nuclear / t) ** 0.5
    inner = torch.full((rank,), nuclear / t**0.5, dtype=torch.float64)
    diagonals = [first * values.sqrt(), *([inner] * (depth - 2)), last * values.sqrt()]
    cores = diagonal_cores(target, widths, diagonals)

    for core in cores[1:-1]:
        unused = core[rank:, rank:]
        unused.copy_(float(inner[0]) * gaussian_matrix(unused.shape[0], unused.shape[1], rng))
    return checked(in_frames(cores, frames_of(target, widths, rng)), target)


def hessian_trace_of(factors: Factors) -> Tensor:
    """``Tr H = 2 Σ_i ‖L_i‖_F² ‖R_i‖_F²``, which can be differentiated with respect to the factors."""
    pairs = zip(left_factors(factors), right_factors(factors), strict=True)
    return 2 * torch.stack([L.square().sum() * R.square().sum() for L, R in pairs]).sum()


def minimize_trace(factors: Factors, iterations: int = 500) -> Search:
    """Minimize the trace of the Hessian over the set of minimizers, by BFGS.

    The variables are all entries of ``W_1 … W_{L−1}`` and of a matrix ``Z``, and the last factor is
    ``W_L = M R⁺ + Z (I − R R⁺)`` with ``R = W_{L−1} ⋯ W_1``. So every point on the way is a minimizer
    for the same target, and nothing of the structure of trace-flat minimizers is put in. This needs
    ``R`` of rank ``d_0``. If ``d_0 > d_L``, the roles of the first and the last factor are exchanged.

    Args:
        factors: ``[W_1 … W_L]`` of a single minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``.
        iterations: The largest number of BFGS iterations.

    Returns:
        The search, in which the values are traces.

    Raises:
        ValueError: The product of the factors does not have full rank.
    """
    target = end_to_end(factors)
    if target_rank(target) < min(target.shape):
        raise ValueError(
            f"factors: expected a product of full rank {min(target.shape)}, got {target_rank(target)}"
        )
    if target.shape[1] > target.shape[0]:
        found = minimize_trace([W.mT for W in reversed(factors)], iterations)
        return replace(found, factors=[W.mT.contiguous() for W in reversed(found.factors)])
    sizes = widths_of(factors)
    seen: list[float] = []

    def completed(x: Tensor) -> list[Tensor]:
        *inner, Z = unflatten(x, sizes)
        R = end_to_end(inner)
        inverse = torch.linalg.solve(R.mT @ R, R.mT)
        return [*inner, Z + (target - Z @ R) @ inverse]

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        variable = torch.from_numpy(x.copy()).requires_grad_()
        value = hessian_trace_of(completed(variable))
        seen.append(value.item())
        (slope,) = torch.autograd.grad(value.log(), variable)
        return value.log().item(), slope.numpy()

    end = scipy.optimize.minimize(
        objective,
        flatten(factors).numpy(),
        jac=True,
        method="BFGS",
        options={"maxiter": iterations, "gtol": 1e-10},
    )
    final = completed(torch.from_numpy(end.x))
    return Search(final, seen[0], float(hessian_trace_of(final)), min(seen), len(seen))
