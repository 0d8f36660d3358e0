"""The landing law: a prediction of the minimizer at which gradient descent comes to rest after an escape.

The derivation is in ``docs/landing_law.md``. Let ``m = ηλ_max − 2`` be the instability of the minimizer
that a run is near, and ``s`` the square of its displacement along the top eigenvector. As long as both are
small, one step takes them to

    ``s' = (1 + m + κ s)² s``,    ``m' = m − β s``.

The first equation is the normal form of a period-doubling bifurcation, the second the drift along the set
of minimizers towards lower sharpness. With ``κ = 0`` and to leading order they are the self-stabilization of
Damian, Nichani and Lee (arXiv:2209.15594) without progressive sharpening. In continuous time
``(a m − 1) e^{a m} + (a² β/2) s e^{a m}`` with ``a = 2κ/β`` is conserved. So a run that starts at ``s = 0``,
``m = 2δ`` comes to rest at ``s = 0`` and the other value ``m_e`` at which ``(a m − 1) e^{a m}`` is the same.
The law needs the number ``a`` of each minimizer, and nothing is fitted.

To be right to second order in ``δ``, ``a`` must be replaced by ``ã = a + 3/2 − b``. The term 3/2 comes from
the finite length of the steps, and ``b = d ln β / dm`` from the change of the drift on the way. Then
``1 − c_end = δ + (4/3) ã δ² + O(δ³)``.

With the heavy ball of momentum ``β_m``, ``c = ηλ/(2 + 2β_m)`` is the step ratio. The curve of the leading
order is the same, with the same ``a``. Only the term of the finite steps changes, to ``(3/2) ν²`` with
``ν = (1 + β_m)/(1 − β_m)``.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_flag, checked_number, checked_tensor, shown
from dmf_sharpness.descent.landing_curve import landing_curve
from dmf_sharpness.descent.reduced_map import reduced_map
from dmf_sharpness.network.curvature import checked_inputs, vjp
from dmf_sharpness.network.factors import Factors, checked_factors
from dmf_sharpness.network.loss import residual
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.scaling import scaled_problem, times_power
from dmf_sharpness.network.tangent import Curvature, curvature_of, inner, retracted, tangential
from dmf_sharpness.network.taylor import gradient_jet

ORDINARY_BITS = 60
"""Minimizers whose largest eigenvalue is within ``2^{±60}`` are not rescaled."""
FIT = 1e-6
"""The product of a minimizer may differ from the target by this relative amount."""
_WALK = 1e-4
"""Length of the walk that measures the change of the drift, relative to the minimizer's norm.

The relative error of the central difference is about the square of it.
"""


@dataclass(frozen=True)
class LandingTerms:
    """The coefficients of the landing law, for one minimizer (0-dimensional) or a batch ``(B,)``.

    Attributes:
        drift: ``β ≥ 0``. In one step ``ηλ`` falls by ``β x²``, where ``x`` is the displacement along
            ``v_1``. It is zero where the sharpness is stationary along the set of minimizers.
        cubic: ``κ``. In one step ``|x|`` grows by the relative amount ``m + κ x²``.
        coefficient: ``a = 2κ/β``; infinite or NaN where the drift is zero.
        drift_slope: ``b = d ln β / dm`` along the drift, at fixed step size.
    """

    drift: Tensor
    cubic: Tensor
    coefficient: Tensor
    drift_slope: Tensor

    @property
    def refined(self) -> Tensor:
        """``ã = a + 3/2 − b``, the coefficient that is right to second order in ``δ``."""
        return self.refined_for(0.0)

    def refined_for(self, momentum: float) -> Tensor:
        """``ã = a − b + (3/2) ((1 + β_m)/(1 − β_m))²``, the same for the heavy ball of momentum ``β_m``."""
        speed = (1 + momentum) / (1 - momentum)
        return self.coefficient - self.drift_slope + 1.5 * speed**2


def _checked(
    factors: Factors, target: object, input_root: object
) -> tuple[list[Tensor], Tensor, Tensor | None]:
    W = checked_factors(factors)
    S = None if input_root is None else checked_inputs(input_root, W)
    shape = W[-1].shape[-2], (W[0] if S is None else S).shape[-1]
    batch = W[0].shape[:-2]
    T = checked_tensor(target, "target", shape, (*batch, *shape), device=W[0].device)
    return W, T.expand(*batch, *shape), S


def sharpness_slope(
    factors: Factors, problem: Problem, curvature: Curvature | None = None
) -> tuple[Tensor, list[Tensor]]:
    """``λ_max`` and its gradient along the set of minimizers, ``P_0 T[v,v,·]``, shaped like the factors.

    ``T`` is the third derivative of the loss. The formula is right if the top eigenvalue is simple. If the
    eigenpairs at these factors are not given, they are computed.
    """
    target, input_root = problem.target, problem.input_root
    curvature = curvature or curvature_of(factors, input_root)
    top = curvature.eigenvectors[..., -1].reshape(*target.mT.shape).mT
    value = curvature.eigenvalues[..., -1]
    v = [U * (2 / value).sqrt()[..., None, None] for U in vjp(factors, top, input_root)]
    third = [2 * g for g in gradient_jet(factors, v, problem, order=2)[2]]
    return value, tangential(factors, third, input_root, curvature)


def landing_terms(factors: Factors, problem: Problem) -> LandingTerms:
    """The drift ``β``, the cubic coefficient ``κ``, ``a = 2κ/β`` and ``b`` of minimizers.

    With ``η = 2/λ``, ``v`` the unit top eigenvector, ``T = ∇³f``, ``Q = ∇⁴f``, ``P_0`` the projection
    on the null space of the Hessian:

        ``β = (η²/2) ‖P_0 T[v,v,·]‖²``,    ``κ = −(a_2² + a_3)``,    ``a_2 = −(η/2) T[v,v,v]``,
        ``a_3 = (η/2) Σ_{k≠1} T[v,v,v_k]²/λ_k − (η/6) Q[v,v,v,v]``.

    These derivatives are exact (:func:`dmf_sharpness.network.taylor.gradient_jet`). ``b`` is the central
    difference of ``ln β`` over that of ``ηλ`` between two minimizers a little way up and down the drift.
    The factors may be of any size: if they are scaled by ``s``, with the target to match, ``β`` and ``κ``
    scale by ``s^{-2}``, and ``a`` and ``b`` do not change.

    Args:
        factors: ``[W_1 … W_L]`` of a minimizer, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64.
        problem: ``T``, shape ``(…, d_L, r)``, and ``S``.

    Raises:
        TypeError: A factor, the target or the root is not a float64 tensor.
        ValueError: Shapes do not fit, or a value is not finite; or a single minimizer is none to a
            relative ``1e-6``, has a Hessian of zeros, or factors too uneven for it (in a batch: NaN).
    """
    W, T, S = _checked(factors, problem.target, problem.input_root)
    scaled = scaled_problem(W, S, ordinary=ORDINARY_BITS)
    k = scaled.factor_exponent
    T = times_power(T, (len(W) * k + scaled.root_exponent)[..., None, None])
    W = scaled.factors
    problem = Problem(T, scaled.input_root)
    missed = torch.linalg.matrix_norm(residual(W, problem))
    fits = torch.isfinite(missed) & (missed <= FIT * torch.linalg.matrix_norm(T))
    usable = scaled.possible & ~scaled.zero & fits
    if usable.ndim == 0 and not usable:
        raise ValueError(
            "factors: expected a minimizer of the target, of positive sharpness that float64 holds, got "
            + ("a Hessian of zeros" if scaled.zero else "too uneven ones" if fits else "none")
        )
    if usable.all():
        terms = _landing_terms(W, problem)
    elif usable.any():
        terms = _landing_terms([w[usable] for w in W], problem.chosen(usable))
    else:
        terms = LandingTerms(*[T.new_empty(0)] * 4)
    drift, cubic, coefficient, drift_slope = (
        part if usable.all() else T.new_full(usable.shape, torch.nan).masked_scatter(usable, part)
        for part in (terms.drift, terms.cubic, terms.coefficient, terms.drift_slope)
    )
    # At that scale displacements are 2^k times as large.
    return LandingTerms(
        times_power(drift, 2 * k), times_power(cubic, 2 * k), coefficient, drift_slope
    )


def _landing_terms(factors: Factors, problem: Problem) -> LandingTerms:
    """:func:`landing_terms` for factors of a scale at which nothing overflows or underflows."""
    curvature = curvature_of(factors, problem.input_root)
    reduced = reduced_map(factors, problem, curvature)
    value, slope = sharpness_slope(factors, problem, curvature)
    eta, squared = 2 / value, inner(slope, slope)
    length = _WALK * (inner(factors, factors) / squared.clamp(min=1e-300)).sqrt()
    ends = []
    for sign in (1.0, -1.0):
        walk = (sign * length)[..., None, None]
        moved = [W + walk * g for W, g in zip(factors, slope, strict=True)]
        there = retracted(moved, problem)
        value_there, slope_there = sharpness_slope(there, problem)
        ends.append((value_there, inner(slope_there, slope_there)))
    (up, squared_up), (down, squared_down) = ends
    drift_slope = (squared_up - squared_down) / squared / (eta * (up - down))
    cubic = reduced.cubic
    return LandingTerms(reduced.drift, cubic, 2 * cubic / reduced.drift, drift_slope)


def landing_coefficient(
    factors: Factors,
    target: Tensor,
    input_root: Tensor | None = None,
    *,
    refined: bool = False,
    momentum: float = 0.0,
) -> float | Tensor:
    """``a = 2κ/β``, the only number of a minimizer that the landing law needs.

    Args:
        factors: ``[W_1 … W_L]`` of a minimizer, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64.
        target: ``T``, shape ``(…, d_L, r)``; in matrix factorization ``M``, and ``r = d_0``.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
        refined: Return ``ã = a + 3/2 − b`` instead, with which the law is right to second order.
        momentum: ``β_m`` of the heavy ball, in ``[0, 1)``. ``a`` does not depend on it; in ``ã`` it
            multiplies the term 3/2 by ``((1 + β_m)/(1 − β_m))²``.

    Returns:
        A float; for a batch a tensor ``(…)``.

    Raises:
        TypeError: A factor, the target or the root is not a float64 tensor.
        ValueError: Shapes do not fit, or a value is not finite; or a single minimizer is none to a
            relative ``1e-6``, has a Hessian of zeros, or factors too uneven for it (in a batch: NaN);
            or the momentum is not in ``[0, 1)``.

    With two layers and a scalar target it is ``−2/(ρ² − 1)``, ``ρ = λ_max/λ_flat``:

    >>> W_1, W_2 = (torch.tensor([[w]], dtype=torch.float64) for w in (2.0, 0.5))
    >>> round(landing_coefficient([W_1, W_2], torch.ones(1, 1, dtype=torch.float64)), 12)
    -0.568888888889
    """
    refined = checked_flag(refined, "refined")
    momentum = checked_number(momentum, "momentum", least=0, below=1)
    terms = landing_terms(factors, Problem(target, input_root))
    a = terms.refined_for(momentum) if refined else terms.coefficient
    return float(a) if a.ndim == 0 else a


def predict_landing(a: float | Tensor, step_ratio: float | Tensor) -> float | Tensor:
    """The step ratio ``c_end`` of the minimizer that a run with step ratio ``c > 1`` lands at.

    With ``w_0 = 2a(c − 1)`` it solves ``(w_e − 1) e^{w_e} = (w_0 − 1) e^{w_0}`` for the root of
    opposite sign, ``w_e − 1 = W((w_0 − 1) e^{w_0 − 1})``: the Lambert function's lower branch for
    ``a > 0``, its principal one for ``a < 0``; then ``c_end = 1 + w_e/(2a)``. At ``a = 0`` it is the
    mirror image ``2 − c``.

    Args:
        a: :func:`landing_coefficient`, any finite number, or a tensor of real numbers.
        step_ratio: ``c = ηλ/2`` at the start, or ``ηλ/(2 + 2β_m)`` with the heavy ball; finite and at
            least 1, likewise.

    Returns:
        ``c_end``, broadcast; a float if neither argument is a tensor or an array. NaN where ``w_0 ≥ 1``,
        because the growth then exceeds the drift and the law predicts no landing.

    Raises:
        TypeError: An argument is not of real numbers.
        ValueError: A coefficient is not finite, a step ratio is below 1, or shapes do not broadcast.

    >>> predict_landing(0.0, 1.25)
    0.75
    >>> round(predict_landing(-100.0, 1.01), 6)
    0.995893
    """
    coefficient, ratio = _real_numbers(a, "a"), _real_numbers(step_ratio, "step_ratio")
    if not np.isfinite(coefficient).all():
        raise ValueError(f"a: expected finite numbers, got {shown(a)}")
    if not (np.isfinite(ratio) & (ratio >= 1)).all():
        raise ValueError(
            f"step_ratio: expected finite numbers of at least 1, got {shown(step_ratio)}"
        )
    try:
        coefficient, ratio = np.broadcast_arrays(coefficient, ratio)
    except ValueError:
        raise ValueError(
            f"step_ratio: expected a shape that fits {coefficient.shape} of a, got {ratio.shape}"
        ) from None
    end = landing_curve(coefficient, ratio)
    tensors = isinstance(a, Tensor | np.ndarray) or isinstance(step_ratio, Tensor | np.ndarray)
    return torch.from_numpy(np.array(end)) if tensors else float(end)


def _real_numbers(value: object, name: str) -> np.ndarray:
    """A number, an array or a tensor of real numbers as an array of float64."""
    if isinstance(value, Tensor):
        if value.dtype == torch.bool or value.dtype.is_complex:
            raise TypeError(f"{name}: expected real numbers, got {shown(value)}")
        value = checked_tensor(value, name, dtype=value.dtype, finite=False).cpu()
        return value.to(torch.float64).numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
        return value.astype(np.float64)
    return np.asarray(checked_number(value, name, finite=False))
