"""Flatness in the trace of the Hessian: its least value, and the spectrum where it is attained.

A minimizer is *trace-flat* if no other minimizer has a smaller trace of the Hessian,
``Tr H = 2 Σ_i ‖L_i‖_F² ‖R_i‖_F²``. That the least trace is a power of the nuclear norm is due to
Gatmiry et al. (arXiv:2306.13239). The operator ``2 J Jᵀ`` is the same at all trace-flat minimizers,
and so is the sharpness. The proofs are in section 5 of ``docs/flatness.md``.
"""

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_integer, checked_tensor
from dmf_sharpness.network.scaling import exponents, times_power


def flat_trace(target: Tensor, depth: int) -> float:
    """The least trace of the Hessian of all minimizers, ``2 L (d_0 d_L)^{1/L} ‖M‖_*^{2−2/L}``.

    Here ``‖M‖_*`` is the nuclear norm. The bound holds at every minimizer, and is attained if all
    hidden widths are at least the rank of ``M``.

    Args:
        target: ``M``, shape ``(d_L, d_0)``.
        depth: ``L``.
    """
    d_L, d_0 = target.shape
    nuclear = float(torch.linalg.svdvals(target).sum())
    return 2 * depth * (d_0 * d_L) ** (1 / depth) * nuclear ** (2 - 2 / depth)


def trace_flat_spectrum(target: Tensor, depth: int) -> Tensor:
    """The ``d_0 d_L`` eigenvalues of ``2 J Jᵀ`` at every trace-flat minimizer, descending.

    With the nuclear norm ``ν`` and ``g = (d_0 d_L)^{1/L} ν^{−2/L}`` they are
    ``2 g (ν σ_a/d_0 + (L − 2) σ_a σ_b + ν σ_b/d_L)`` for ``a = 1 … d_L`` and ``b = 1 … d_0``, where
    ``σ_j = 0`` for ``j`` above the rank.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, not zero.
        depth: ``L ≥ 2``.
    """
    d_L, d_0 = target.shape
    values = torch.linalg.svdvals(target)
    nuclear = values.sum()
    left = torch.nn.functional.pad(values, (0, d_L - len(values)))[:, None]
    right = torch.nn.functional.pad(values, (0, d_0 - len(values)))
    unit = 2 * (d_0 * d_L) ** (1 / depth) * nuclear ** (-2 / depth)
    terms = nuclear * (left / d_0 + right / d_L) + (depth - 2) * left * right
    return (unit * terms).flatten().sort(descending=True).values


def trace_flat_ratio(target: Tensor, depth: int) -> float:
    """The sharpness of trace-flat minimizers, relative to the least sharpness: ``λ_max/λ_flat``.

    It is the same at all of them. With ``ϱ = ‖M‖₂/‖M‖_*``, ``‖·‖_*`` the nuclear norm, it is

        ``(d_0 d_L)^{1/L} (ϱ^{2/L−1} (1/d_0 + 1/d_L) + (L − 2) ϱ^{2/L}) / L``.

    At depth 2 it is 1 if and only if ``d_0 = d_L``. From depth 3 on it is 1 if and only if ``M`` is
    a multiple of an orthogonal matrix, as every scalar is. Otherwise it is above 1. The formula is
    ours; its proof is in section 5 of ``docs/flatness.md``.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64, not zero.
        depth: ``L ≥ 2``, the number of factors.

    Raises:
        TypeError: The target is not a float64 tensor, or the depth is not an integer.
        ValueError: The target is zero, not a matrix or not finite, or the depth is below 2.

    >>> M = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    >>> trace_flat_ratio(M, depth=2), round(trace_flat_ratio(M, depth=4), 4)
    (1.0, 1.0206)
    """
    depth = checked_integer(depth, "depth", least=2)
    M = checked_tensor(target, "target", (None, None)).cpu()
    if 0 in M.shape or not bool(M.any()):
        raise ValueError("target: expected a matrix that is not zero, got zeros or no entries")
    d_L, d_0 = M.shape
    values = torch.linalg.svdvals(times_power(M, -exponents(M)))
    share = float(values[0] / values.sum())
    ends = share ** (2 / depth - 1) * (1 / d_0 + 1 / d_L)
    return float((d_0 * d_L) ** (1 / depth) * (ends + (depth - 2) * share ** (2 / depth)) / depth)
