"""The landing law: where gradient descent comes to rest after it has left a minimizer.

Derived in ``docs/landing_law.md``. Write ``m = ηλ_max − 2`` for the instability of the minimizer that
a run is near and ``s`` for the square of its displacement along the top eigenvector. As long as both
are small they obey

    ``s' = 2 s (m + κ s)``,    ``m' = −β s``    (per step),

the first the normal form of a period-doubling bifurcation, the second the drift along the set of
minimizers towards lower sharpness. ``(a m − 1) e^{a m} + (a²β/2) s e^{a m}`` with ``a = 2κ/β`` is
conserved, so a run that starts at ``s = 0``, ``m = 2δ`` comes to rest at the other root ``m_e`` of
``(a m − 1) e^{a m}``. One number per minimizer, and no fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import lambertw
from torch import Tensor

from dmf_sharpness.factors import Factors, check_factors
from dmf_sharpness.sharpness import ROUNDING_LEVEL, curvature_matrix, parameter_direction

# Taylor coefficients of the conjugation w ↦ w_e of (w − 1) e^w at its minimum, from w² on: the branch
# exchange of the Lambert function (Corless et al., Adv. Comput. Math. 5, 1996, section 4).
_EXCHANGE = (2 / 3, 4 / 9, 44 / 135, 104 / 405, 40 / 189, 7648 / 42525)
# Where the series is used: both it and the Lambert function are good to about 1e-12 here.
_SERIES_BELOW = 0.02


@dataclass(frozen=True)
class LandingTerms:
    """What the landing law is made of, for one minimizer (0-dimensional) or a batch ``(B,)``.

    Attributes:
        drift: ``β ≥ 0``, how fast the sharpness falls: ``ηλ`` by ``β x²`` per step, ``x`` the
            displacement along ``v_1``. Zero where the sharpness is stationary along the minimizers.
        cubic: ``κ``, what the displacement does to its own growth: ``|x|`` grows by ``m + κ x²``.
        coefficient: ``a = 2κ/β``; infinite (or NaN) at zero drift.
    """

    drift: Tensor
    cubic: Tensor
    coefficient: Tensor


def _jet_product(A: Sequence[Tensor], B: Sequence[Tensor]) -> list[Tensor]:
    """Taylor coefficients of ``A(t) B(t)`` from those of ``A`` and ``B``, to the order of both."""
    zero = A[0] @ B[0] * 0
    return [
        sum((A[j] @ B[n - j] for j in range(n + 1)), start=zero) for n in range(len(A))
    ]


def gradient_jet(
    factors: Factors,
    direction: Factors,
    target: Tensor,
    input_root: Tensor | None = None,
    order: int = 3,
) -> list[list[Tensor]]:
    """Taylor coefficients of ``t ↦ ∇f(w + t u)``, exact: a polynomial in ``t``, cut after ``order``.

    The coefficient of ``t`` is ``H u``, that of ``t²`` is ``T[u,u,·]/2``, that of ``t³``
    ``Q[u,u,u,·]/6``, with ``T`` and ``Q`` the third and fourth derivative of ``f``.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        direction: ``U_i``, shapes of ``factors``.
        target: ``T``, shape ``(…, d_L, r)``.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
        order: Highest power of ``t`` that is kept.

    Returns:
        ``order + 1`` lists shaped like the factors.
    """
    layers = [
        [W, U, *[torch.zeros_like(W)] * (order - 1)]
        for W, U in zip(factors, direction, strict=True)
    ]
    prefixes: list[list[Tensor]] = []
    product = layers[0]
    for layer in layers[1:]:
        prefixes.append(product)
        product = _jet_product(layer, product)
    if input_root is None:
        back = [2 * P for P in product]
        back[0] = back[0] - 2 * target
    else:
        error = [P @ input_root for P in product]
        error[0] = error[0] - target
        back = [2 * E @ input_root.mT for E in error]
    by_layer: list[list[Tensor]] = []
    for i in range(len(layers) - 1, 0, -1):
        by_layer.append(_jet_product(back, [R.mT for R in prefixes[i - 1]]))
        back = _jet_product([W.mT for W in layers[i]], back)
    by_layer.append(back)
    return [list(layer) for layer in zip(*by_layer[::-1], strict=True)]


def _inner(A: Sequence[Tensor], B: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum((-2, -1)) for a, b in zip(A, B, strict=True)]).sum(0)


def landing_terms(
    factors: Factors, target: Tensor, input_root: Tensor | None = None
) -> LandingTerms:
    """The drift ``β``, the cubic coefficient ``κ`` and ``a = 2κ/β`` of minimizers.

    With ``η = 2/λ``, ``v`` the unit top eigenvector, ``T = ∇³f``, ``Q = ∇⁴f``, ``P_0`` the projection
    on the null space of the Hessian:

        ``β = (η²/2) ‖P_0 T[v,v,·]‖²``,    ``κ = −(a_2² + a_3)``,    ``a_2 = −(η/2) T[v,v,v]``,
        ``a_3 = (η/2) Σ_{k≠1} T[v,v,v_k]²/λ_k − (η/6) Q[v,v,v,v]``.

    The derivatives are exact (:func:`gradient_jet`). The sums over eigenvectors are taken in the
    space of ``(d_L, d_0)`` matrices: ``⟨v_k, g⟩ = ⟨Y_k, J g⟩ / (λ_k/2)^{1/2}``.

    Args:
        factors: ``[W_1 … W_L]`` of a minimizer, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64.
        target: ``T``, shape ``(…, d_L, r)``; in matrix factorization ``M``, and ``r = d_0``.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.

    Raises:
        TypeError: A factor is not a float64 tensor.
        ValueError: Shapes do not fit, or a value is not finite.
    """
    check_factors(factors)
    expected = (factors[-1].shape[-2], (factors[0] if input_root is None else input_root).shape[-1])
    if target.shape[-2:] != expected:
        raise ValueError(f"target: expected shape {expected}, got {tuple(target.shape[-2:])}")
    if not bool(torch.isfinite(target).all()):
        raise ValueError("target: expected finite values, got NaN or Inf")

    # The reduced problem of (d_L, r) matrices where there are inputs: S takes the place of R_1.
    eigenvalues, eigenvectors = torch.linalg.eigh(curvature_matrix(factors, input_root))
    rank_zero = eigenvalues <= ROUNDING_LEVEL * eigenvalues[..., -1:]
    r, d_L = expected[1], expected[0]
    Y = eigenvectors[..., -1].unflatten(-1, (r, d_L)).mT
    v = parameter_direction(factors, Y, input_root)
    eta = 2 / eigenvalues[..., -1]

    jet = gradient_jet(factors, v, target, input_root)
    third, fourth = [2 * g for g in jet[2]], [6 * g for g in jet[3]]  # T[v,v,·], Q[v,v,v,·]
    # J g: the change of the product (times S) along g, the first order of its jet.
    moved, tangent = factors[0], third[0]
    for W, G in zip(factors[1:], third[1:], strict=True):
        moved, tangent = W @ moved, G @ moved + W @ tangent
    Jg = tangent if input_root is None else tangent @ input_root
    dual = (eigenvectors.mT @ Jg.mT.flatten(start_dim=-2)[..., None])[..., 0]
    safe = torch.where(rank_zero, torch.inf, eigenvalues)
    component = dual / (safe / 2).sqrt()  # T[v,v,v_k], ascending in λ_k, zero where λ_k is

    along_v = _inner(third, v)
    outside = (_inner(third, third) - component.square().sum(-1)).clamp(min=0)
    drift = eta.square() / 2 * outside
    stiff = (component.square() / safe)[..., :-1].sum(-1)
    a_2 = -eta / 2 * along_v
    a_3 = eta / 2 * stiff - eta / 6 * _inner(fourth, v)
    cubic = -(a_2.square() + a_3)
    return LandingTerms(drift, cubic, 2 * cubic / drift)


def landing_coefficient(
    factors: Factors, target: Tensor, input_root: Tensor | None = None
) -> float | Tensor:
    """``a = 2κ/β``, the one number per minimizer that the landing law needs.

    Args:
        factors: ``[W_1 … W_L]`` of a minimizer, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64.
        target: ``T``, shape ``(…, d_L, r)``; in matrix factorization ``M``, and ``r = d_0``.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.

    Returns:
        A float; for a batch a tensor ``(…)``.

    Raises:
        TypeError: A factor is not a float64 tensor.
        ValueError: Shapes do not fit, or a value is not finite.
    """
    a = landing_terms(factors, target, input_root).coefficient
    return float(a) if a.ndim == 0 else a


def predict_landing(a: float | Tensor, step_ratio: float | Tensor) -> float | Tensor:
    """``c_end = ηλ_end/2`` of the minimizer that a run with step ratio ``c > 1`` lands at.

    With ``w_0 = 2a(c − 1)`` it solves ``(w_e − 1) e^{w_e} = (w_0 − 1) e^{w_0}`` for the root of
    opposite sign, ``w_e − 1 = W((w_0 − 1) e^{w_0 − 1})``: the Lambert function's lower branch for
    ``a > 0``, its principal one for ``a < 0``; then ``c_end = 1 + w_e/(2a)``. At ``a = 0`` it is the
    mirror image ``2 − c``.

    Args:
        a: :func:`landing_coefficient`, finite.
        step_ratio: ``c = ηλ/2`` at the start, finite and at least 1.

    Returns:
        ``c_end``, broadcast; a float if both arguments are. NaN where ``w_0 ≥ 1``: there the
        growth outruns the drift, and the law has no landing.

    Raises:
        ValueError: A coefficient is not finite, or a step ratio is below 1.

    >>> predict_landing(0.0, 1.25)
    0.75
    >>> round(predict_landing(-100.0, 1.01), 6)
    0.995893
    """
    scalar = not isinstance(a, Tensor) and not isinstance(step_ratio, Tensor)
    coefficient = np.asarray(a, dtype=np.float64)
    ratio = np.asarray(step_ratio, dtype=np.float64)
    if not np.isfinite(coefficient).all():
        raise ValueError(f"a: expected finite numbers, got {a}")
    if not (np.isfinite(ratio) & (ratio >= 1)).all():
        raise ValueError(f"step_ratio: expected finite numbers of at least 1, got {step_ratio}")
    coefficient, ratio = np.broadcast_arrays(coefficient, ratio)
    delta = ratio - 1
    w = 2 * coefficient * delta

    # c_end = 1 + δ w_e/w_0, with w_e/w_0 = −(1 + 2w/3 + 4w²/9 + …) next to the branch point.
    series = -np.polynomial.polynomial.polyval(w, [1.0, *_EXCHANGE])
    with np.errstate(all="ignore"):
        argument = np.where(w < 1, (w - 1) * np.exp(w - 1), np.nan)
        u = np.where(w > 0, lambertw(argument, -1).real, lambertw(argument, 0).real)
        quotient = np.where(np.abs(w) < _SERIES_BELOW, series, (u + 1) / w)
    end = 1 + delta * quotient
    return float(end) if scalar else torch.from_numpy(np.array(end))
