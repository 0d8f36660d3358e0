"""How far a computed eigenpair is from one of the Hessian, in parameter space.

The Hessian at a minimizer is ``2 JᵀJ``. With the direction ``U = Jᵀ Y`` the defect is
``H U − λ U = Jᵀ(2 J U − λ Y)``. Here ``J U = Σ_i L_i U_i R_i``, the derivative of the end-to-end
product, is computed by sweeps of the chain rule over the layers and not with the Gram matrices of
the engine, so that an error in those shows.

By the theorem of Bauer and Fike, a symmetric ``H`` has an eigenvalue within ``‖H v − λ v‖`` of ``λ``
for any unit ``v``. That it is the *largest* one is what the solvers see to.
"""

import torch
from torch import Tensor

from dmf_sharpness.network.chain import (
    Chain,
    chain,
    compressed,
    pull_back_norm,
    push_left,
    push_right,
)
from dmf_sharpness.network.factors import Factors, times
from dmf_sharpness.network.loss import gauss_newton_product


def direction_residual(
    factors: Factors, direction: Factors, value: Tensor, input_root: Tensor | None = None
) -> Tensor:
    """``‖H U − λ U‖ / λ`` of a unit direction with the Hessian-vector product of the loss.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        direction: ``U_i``, shapes of ``factors``.
        value: ``λ``, shape ``(…)``; where it is zero so is the Hessian, and the residual.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
    """
    HU = gauss_newton_product(factors, direction, input_root)
    scaled = value[..., None, None]
    squares = [(h - scaled * u).square().sum((-2, -1)) for h, u in zip(HU, direction, strict=True)]
    norm = torch.stack(squares).sum(0).sqrt()
    return torch.where(value > 0, norm / torch.where(value > 0, value, 1.0), norm)


def eigenmatrix_residual(
    factors: Factors, Y: Tensor, value: float, input_root: Tensor | None = None
) -> float:
    """``‖H U − λ U‖ / λ`` of ``U = Jᵀ Y`` for one minimizer, cheap where an end is narrow.

    With ``d_L`` the narrow end, three sweeps of few columns: ``X_i = R_i Yᵀ`` up, so that
    ``U_i = L_iᵀ X_iᵀ``; ``L_i`` and ``T_i = Σ_{j≥i} L_j U_j W_{j-1:i}`` down together, which gives the
    image ``J U = T_1``; and ``R_i Dᵀ`` up for the defect ``D = 2 J U − λ Y``.
    """
    layers = chain(factors, input_root)
    if layers.shape[0] > layers.shape[1]:
        layers, Y = layers.transposed(), Y.mT
    rows = layers.shape[0]
    X = push_right(layers, Y.mT)
    L = torch.eye(rows, dtype=Y.dtype, device=Y.device)
    T: Tensor | None = None
    grams: dict[int, Tensor] = {}  # L_iL_iᵀ
    for i in reversed(range(len(X))):
        if layers.trained(i):
            grams[i] = L @ L.mT
        W = layers.layers[i]
        if T is None:
            L = L @ W
        else:
            swept = torch.cat([L, T]) @ W
            L, T = swept[:rows], swept[rows:]
        if i in grams:
            moved = grams[i] @ X[i].mT
            T = moved if T is None else T + moved
    assert T is not None
    defects = push_right(layers, (2 * T - value * Y).mT)

    def norm(columns: list[Tensor]) -> Tensor:
        terms = [(gram * (columns[i].mT @ columns[i])).sum() for i, gram in grams.items()]
        return torch.stack(terms).sum().clamp(min=0).sqrt()

    return _ratio(norm(defects), value * norm(X))


SWEPT_COLUMNS, TAIL = 256, 1e-2
"""Beyond so many columns the share of the defect that is bounded and not swept through the layers."""


def _ratio(defect: Tensor, scale: Tensor) -> float:
    return float(defect / scale) if float(scale) > 0 else float(defect)


def image_low_rank(layers: Chain, P: Tensor, Q: Tensor) -> tuple[Tensor, Tensor]:
    """``J Jᵀ (P Qᵀ) = Z_l Z_rᵀ``, factors of ``k L`` columns, for a minimizer with two wide ends.

    The derivative of a product of factors along ``U_i = V_i X_iᵀ`` has the term
    ``(L_i V_i)(R_iᵀ X_i)ᵀ`` for every layer. All left halves grow in one forward sweep, all right
    halves in one backward sweep: ``O(L² d² k)`` operations.
    """
    V, X = push_left(layers, P), push_right(layers, Q)
    left, right = P.new_empty(X[0].shape[0], 0), P.new_empty(V[-1].shape[0], 0)
    for i, W in enumerate(layers.layers):
        left = times(W, left)
        if layers.trained(i):
            left = torch.cat([left, V[i]], dim=1)
    for i in reversed(range(len(layers.layers))):
        right = times(layers.layers[i].mT, right)
        if layers.trained(i):
            right = torch.cat([X[i], right], dim=1)
    return left, right


def defect_low_rank(
    layers: Chain, P: Tensor, Q: Tensor, value: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition of ``2 J Jᵀ Y − λ Y``, ``Y = P Qᵀ``."""
    left, right = image_low_rank(layers, P, Q)
    return compressed(torch.cat([2 * left, -value * P], 1), torch.cat([right, Q], 1))


def low_rank_residual(
    factors: Factors,
    P: Tensor,
    Q: Tensor,
    value: float,
    input_root: Tensor | None = None,
    defect: tuple[Tensor, Tensor, Tensor] | None = None,
) -> float:
    """``‖H U − λ U‖ / λ`` of ``U = Jᵀ P Qᵀ``; no array larger than ``d × k (L + 1)`` is formed.

    Args:
        factors: The factors of one minimizer.
        P: Shape ``(d_L, k)``.
        Q: Shape ``(d_0, k)``.
        value: ``λ``.
        input_root: ``S``, or None for the identity.
        defect: :func:`defect_low_rank` of these, if it is at hand.
    """
    layers = chain(factors, input_root)
    U, singular_values, V = defect or defect_low_rank(layers, P, Q, value)
    norm = pull_back_norm(layers, P, Q)
    if not float(norm) > 0:
        return 0.0
    # The tail of small singular values is not swept through the layers but bounded: J Jᵀ ≤ λ / 2,
    # and ‖Jᵀ Y‖² is λ / 2 for a unit Y.
    tail = singular_values.square().flip(0).cumsum(0).flip(0).sqrt()
    kept = max(min(SWEPT_COLUMNS, len(tail)), int((tail > TAIL * tail[0]).sum()))
    dropped = tail[kept] if kept < len(tail) else torch.zeros_like(tail[0])
    swept = pull_back_norm(layers, U[:, :kept] * singular_values[:kept], V[:, :kept])
    return _ratio(swept + dropped * norm / _norm(P, Q), value * norm)


def _norm(P: Tensor, Q: Tensor) -> Tensor:
    """``‖P Qᵀ‖_F``."""
    return ((P.mT @ P) * (Q.mT @ Q)).sum().sqrt()
