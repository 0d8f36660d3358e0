"""A reduced map of gradient descent near a minimizer: the top direction, and its effect on all others.

The derivation is in ``docs/landing_law.md``. Let ``x`` be the displacement along ``v_1`` and ``s = x²``. The
displacement along any other eigenvector ``v_k`` is driven by ``s``, decays at its own rate ``ηλ_k``, and
changes ``ηλ_max`` by ``y_k``. One step takes them to

    ``s' = (1 + m + Σ_k y_k + κ_0 s)² s``,    ``y_k' = (1 − ηλ_k) y_k − β_k s``,

with ``m = ηλ_max − 2`` at the minimizer. In the null space, ``λ_k = 0``, nothing decays: there ``y_k`` is the
drift towards flatter minimizers. In a stiff direction, ``ηλ_k ≫ |m|``, ``y_k = −β_k s/(ηλ_k)`` at all times.
If all directions outside of the null space are stiff, the map gives the landing law; if some are soft
(``ηλ_k`` not large against ``|m|``), the map itself is needed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.network.curvature import jvp, vjp
from dmf_sharpness.network.factors import Factors
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.tangent import Curvature, curvature_of, inner, stacked, tangential
from dmf_sharpness.network.taylor import gradient_jet


@dataclass(frozen=True)
class ReducedMap:
    """The coefficients of the map, for one minimizer or a batch, at ``ηλ_max = 2``.

    Attributes:
        drift: ``β = (η²/2) ‖P_0 T[v,v,·]‖²``, the coupling of the null space, ``(…)``, not negative.
        couplings: ``β_k = (η²/2) T[v,v,v_k]²`` of the other directions, ``(…, K)``, not negative.
        rates: ``ηλ_k``, between 0 and 2, ``(…, K)``; 0 for directions in the null space.
        own: ``κ_0 = (η/6) Q[v,v,v,v] − (η²/4) T[v,v,v]²``, ``(…)``: the effect of ``x²`` on the growth of
            ``x`` if all other displacements stay zero.
    """

    drift: Tensor
    couplings: Tensor
    rates: Tensor
    own: Tensor

    @property
    def cubic(self) -> Tensor:
        """``κ = κ_0 − Σ_k β_k/(ηλ_k)``, ``(…)``: the effect of ``x²`` if all other directions are stiff."""
        # A direction of rate zero is part of the drift and has no coupling of its own.
        rates = self.rates.masked_fill(self.rates == 0, 1.0)
        return self.own - (self.couplings / rates).sum(-1)


def reduced_map(
    factors: Factors, problem: Problem, curvature: Curvature | None = None
) -> ReducedMap:
    """The reduced map of minimizers whose top eigenvalue is simple.

    The derivatives ``T = ∇³f``, ``Q = ∇⁴f`` are exact (:func:`dmf_sharpness.network.taylor.gradient_jet`).

    Args:
        factors: ``[W_1 … W_L]`` of a minimizer, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64.
        problem: ``T``, shape ``(…, d_L, r)``, and ``S``.
        curvature: The eigenpairs at these factors; None computes them.
    """
    target, input_root = problem.target, problem.input_root
    curvature = curvature or curvature_of(factors, input_root)
    value = curvature.eigenvalues[..., -1]
    eta = 2 / value
    top = curvature.eigenvectors[..., -1].reshape(*target.mT.shape).mT
    v = [U * eta.sqrt()[..., None, None] for U in vjp(factors, top, input_root)]
    jet = gradient_jet(factors, v, problem)
    third, fourth = [2 * g for g in jet[2]], [6 * g for g in jet[3]]  # T[v,v,·], Q[v,v,v,·]
    dual = curvature.eigenvectors.mT @ stacked(jvp(factors, third, input_root))[..., None]
    component = dual[..., 0] * (2 * curvature.inverse).sqrt()  # T[v,v,v_k], ascending in λ_k
    kernel = tangential(factors, third, input_root, curvature)
    return ReducedMap(
        drift=eta.square() / 2 * inner(kernel, kernel),
        couplings=(eta.square() / 2)[..., None] * component[..., :-1].square(),
        rates=eta[..., None] * curvature.eigenvalues[..., :-1],
        own=eta / 6 * inner(fourth, v) - (eta / 2 * inner(third, v)).square(),
    )


def iterate(
    reduced: ReducedMap, step_ratio: Tensor, start: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Iterate the reduced map from ``x = start`` and zero displacement in all other directions.

    Args:
        reduced: The coefficients, a batch ``(B,)``.
        step_ratio: ``c = ηλ_max/2`` of each run, ``(B,)``.
        start: Displacements along ``v_1``, ``(B,)``.
        steps: The number of steps.

    Returns:
        ``ηλ/2`` at the end, and the displacement along ``v_1`` there; both ``(B,)``.
    """
    m = 2 * (step_ratio - 1)
    # The rates are those at ηλ_max = 2; with step ratio c displacements decay c times as fast.
    kept = 1 - step_ratio[:, None] * torch.cat([torch.zeros_like(m)[:, None], reduced.rates], 1)
    push = step_ratio.square()[:, None] * torch.cat([reduced.drift[:, None], reduced.couplings], 1)
    y = torch.zeros_like(push)
    s = start.square()
    for _ in range(steps):
        growth = 1 + m + y.sum(1) + reduced.own * s
        y = kept * y - push * s[:, None]
        s = growth.square() * s
    return step_ratio + y.sum(1) / 2, s.sqrt()
