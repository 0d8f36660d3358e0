"""The certificate of a computed eigenpair: its residual for the Hessian, in parameter space.

The Hessian at a minimizer is ``H = 2 JᵀJ``. An eigenmatrix ``Y`` of ``2 J Jᵀ`` gives the direction
``U = Jᵀ Y``, and ``H U − λ U = Jᵀ(2 J U − λ Y)``. The bracket is called the *defect*. The
derivative of the product, ``J U = Σ_i L_i U_i R_i``, is computed here by the chain rule, layer by
layer, and not with the Gram matrices that the solvers use. So the residual also reveals an error in
those Gram matrices. Products with layers are PyTorch's, also where the solver's are compiled.

By the theorem of Bauer and Fike a symmetric ``H`` has an eigenvalue within ``‖H v − λ v‖`` of
``λ``, for every unit vector ``v``. The certificate does not prove that this is the *largest*
eigenvalue; the solvers have to make sure of that.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.hessian.low_rank_bases import is_huge
from dmf_sharpness.network.chain import (
    Chain,
    chain,
    leading_triplets,
    pull_back_norm,
    push_left,
    push_right,
)
from dmf_sharpness.network.factors import Factors, torch_times
from dmf_sharpness.network.loss import gauss_newton_product
from dmf_sharpness.network.randomness import gaussian


def direction_residual(
    factors: Factors, direction: Factors, value: Tensor, input_root: Tensor | None = None
) -> Tensor:
    """The residual ``‖H U − λ U‖ / λ`` of a unit direction, by the Hessian-vector product of the loss.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        direction: ``U_i``, in the shapes of the factors.
        value: ``λ``, shape ``(…)``. Where it is zero, the Hessian is zero, and so is the residual.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.

    Returns:
        The residual, shape ``(…)``.
    """
    return relative_defect(gauss_newton_product(factors, direction, input_root), direction, value)


def relative_defect(HU: Factors, direction: Factors, value: Tensor) -> Tensor:
    """``‖H U − λ U‖ / λ`` from ``H U`` and a unit ``U``, shape ``(…)``; ``‖H U‖`` where ``λ`` is zero."""
    scaled = value[..., None, None]
    squares = [(h - scaled * u).square().sum((-2, -1)) for h, u in zip(HU, direction, strict=True)]
    norm = torch.stack(squares).sum(0).sqrt()
    return torch.where(value > 0, norm / torch.where(value > 0, value, 1.0), norm)


def eigenmatrix_residual(
    factors: Factors, Y: Tensor, value: float, input_root: Tensor | None = None
) -> float:
    """The residual ``‖H U − λ U‖ / (λ ‖U‖)`` of ``U = Jᵀ Y``, for a single minimizer.

    It is cheap if the input or the output is narrow. Suppose that ``d_L`` is the smaller of the
    two; otherwise the chain is transposed. Then three passes over the layers are enough, each with
    matrices of ``d_L`` or ``2 d_L`` rows or columns:

    1. Forward, ``X_i = R_i Yᵀ``. These give the direction, ``U_i = L_iᵀ X_iᵀ``, which is not formed.
    2. Backward, ``L_i`` and ``T_i = Σ_{j≥i} L_j U_j W_{j-1:i}`` together. The last of these is
       ``T_1 = J U``.
    3. Forward, ``R_i Dᵀ`` for the defect ``D = 2 J U − λ Y``.

    The norms follow from ``‖Jᵀ Y‖² = Σ_i ⟨L_iL_iᵀ, X_iᵀX_i⟩``, and likewise for ``D``.

    Args:
        factors: ``W_i`` of shape ``(d_i, d_{i-1})``.
        Y: The eigenmatrix, shape ``(d_L, d_0)``; with data its second dimension is the number of
            columns of ``S``.
        value: ``λ``.
        input_root: ``S``, or None for the identity.
    """
    # Orientation: the rows of Y belong to the narrower end.
    layers = chain(factors, input_root)
    if layers.shape[0] > layers.shape[1]:
        layers, Y = layers.transposed(), Y.mT
    rows = layers.shape[0]

    # 1. Forward: X_i = R_i Yᵀ.
    X = push_right(layers, Y.mT)

    # 2. Backward: L_i, its Gram matrix, and T_i. Input data in front are passed through but not trained.
    L = torch.eye(rows, dtype=Y.dtype, device=Y.device)
    T: Tensor | None = None
    grams: dict[int, Tensor] = {}  # L_iL_iᵀ by layer
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

    # 3. Forward: R_i Dᵀ for the defect D.
    defects = push_right(layers, (2 * T - value * Y).mT)

    # Norms in parameter space, from products of Gram matrices.
    def norm(columns: list[Tensor]) -> Tensor:
        terms = [(gram * (columns[i].mT @ columns[i])).sum() for i, gram in grams.items()]
        return torch.stack(terms).sum().clamp(min=0).sqrt()

    return _ratio(norm(defects), value * norm(X))


SWEPT_COLUMNS, TAIL = 64, 0.1
"""The part of a low-rank defect that is multiplied by the layers; the rest is only bounded.

Up to 64 singular directions of the defect are always multiplied by the layers. More of them are,
as long as the remaining ones have a norm above this fraction of the whole.
"""


def _ratio(defect: Tensor, scale: Tensor) -> float:
    return float(defect / scale) if float(scale) > 0 else float(defect)


def image_low_rank(layers: Chain, P: Tensor, Q: Tensor) -> tuple[Tensor, Tensor]:
    """``J Jᵀ (P Qᵀ)`` as a product ``Z_l Z_rᵀ``, for a minimizer with a wide input and a wide output.

    The derivative of the product along ``U_i = V_i X_iᵀ`` is the sum of ``(L_i V_i)(R_iᵀ X_i)ᵀ``
    over the layers. One forward pass gives the ``L_i V_i`` of all layers, and one backward pass the
    ``R_iᵀ X_i``. For ``L`` layers of width ``d`` this takes ``O(L² d² k)`` operations.

    Args:
        layers: The chain of layers.
        P: Shape ``(d_L, k)``.
        Q: Shape ``(d_0, k)``.

    Returns:
        ``Z_l``, shape ``(d_L, k L)``, and ``Z_r``, shape ``(d_0, k L)``.
    """
    V, X = push_left(layers, P), push_right(layers, Q)
    left, right = P.new_empty(X[0].shape[0], 0), P.new_empty(V[-1].shape[0], 0)
    for i, W in enumerate(layers.layers):
        left = torch_times(W, left)
        if layers.trained(i):
            left = torch.cat([left, V[i]], dim=1)
    for i in reversed(range(len(layers.layers))):
        right = torch_times(layers.layers[i].mT, right)
        if layers.trained(i):
            right = torch.cat([X[i], right], dim=1)
    return left, right


@dataclass(frozen=True)
class ThinDefect:
    """The defect ``D = 2 J Jᵀ Y − λ Y`` of a thin eigenmatrix ``Y = P Qᵀ``.

    Attributes:
        size: ``‖D‖_F``, or a bound on it.
        leading: Its leading singular vectors and all its singular values, ``U`` of shape
            ``(d_L, c)``, ``(r,)`` and ``V`` of shape ``(d_0, c)``; None if only the size is known.
    """

    size: float
    leading: tuple[Tensor, Tensor, Tensor] | None


def defect_low_rank(layers: Chain, P: Tensor, Q: Tensor, value: float) -> ThinDefect:
    """The defect ``2 J Jᵀ Y − λ Y`` for ``Y = P Qᵀ``, with the singular vectors that matter."""
    left, right = image_low_rank(layers, P, Q)
    left, right = torch.cat([2 * left, -value * P], 1), torch.cat([right, Q], 1)
    leading = leading_triplets(left, right, _swept_count)
    return ThinDefect(float(torch.linalg.vector_norm(leading[1])), leading)


PROBES, PROBED_MARGIN = 96, 2
"""The number of random directions that estimate the size of a defect, and the factor on the estimate.

The square of the estimate is a mean of variables ``χ²_s / s``, weighted by the squared singular values
of the defect. By Chernoff's bound it is below ``1/4`` of the true square with a probability of at
most ``(¼ e^{3/4})^{s/2}``, whatever the singular values are. For ``s = 96`` this is less than 1e-13.
"""
PROBING_SEED = 2**32
"""The seed of the directions that probe a defect, which no other part of the method uses."""


def probed_defect(
    layers: Chain, P: Tensor, Q: Tensor, value: float, generator: torch.Generator
) -> ThinDefect:
    """A bound on the defect ``D = 2 J Jᵀ Y − λ Y`` for ``Y = P Qᵀ`` from its product with random directions.

    For ``L`` layers of width ``d`` it takes ``O(L d² (k + s))`` operations, and
    :func:`defect_low_rank` takes ``O(L² d² k)``.

    Args:
        layers: The chain of layers.
        P: Shape ``(d_L, k)``.
        Q: Shape ``(d_0, k)``.
        value: ``λ``.
        generator: The random generator for the directions, which must not depend on the defect.
    """
    rank = P.shape[1]
    probes = gaussian((Q.shape[0], PROBES), generator, Q.device)
    # The products with Q and with the random directions share one pass over the layers.
    V, X = push_left(layers, P), push_right(layers, torch.cat([Q, probes], 1))
    image = P.new_zeros(len(V[0]), PROBES)
    for i, W in enumerate(layers.layers):
        if i > 0:
            image = torch_times(W, image)
        if layers.trained(i):
            image = image + V[i] @ (X[i][:, :rank].mT @ X[i][:, rank:])
    defect = 2 * image - value * P @ (Q.mT @ probes)
    estimate = float(torch.linalg.vector_norm(defect)) / PROBES**0.5
    return ThinDefect(PROBED_MARGIN * estimate, None)


def sufficient_defect(
    layers: Chain, P: Tensor, Q: Tensor, value: float, tolerance: float
) -> ThinDefect:
    """The defect of ``Y = P Qᵀ``, or for huge layers a bound on its size, if that is within the tolerance."""
    if is_huge(layers):
        generator = torch.Generator().manual_seed(PROBING_SEED)
        bound = probed_defect(layers, P, Q, value, generator)
        if bound.size <= tolerance * value:
            return bound
    return defect_low_rank(layers, P, Q, value)


def _swept_count(singular_values: Tensor) -> int:
    """How many singular directions of a defect are multiplied by the layers."""
    tail = singular_values.square().flip(0).cumsum(0).flip(0).sqrt()
    return max(min(SWEPT_COLUMNS, len(tail)), int((tail > TAIL * tail[0]).sum()))


def low_rank_residual(
    factors: Factors,
    P: Tensor,
    Q: Tensor,
    value: float,
    input_root: Tensor | None = None,
    defect: ThinDefect | None = None,
) -> float:
    """The residual ``‖H U − λ U‖ / (λ ‖U‖)`` of ``U = Jᵀ (P Qᵀ)``, or a larger bound on it.

    For ``L`` layers of width ``d`` no array larger than ``d × k (L + 1)`` is formed. If of the
    defect ``D`` only the size is known, the bound is ``‖D‖ / (λ ‖P Qᵀ‖)``.

    Args:
        factors: The factors of a single minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``.
        P: Shape ``(d_L, k)``.
        Q: Shape ``(d_0, k)``.
        value: ``λ``.
        input_root: ``S``, or None for the identity.
        defect: The result of :func:`defect_low_rank` or :func:`probed_defect`, if it has been
            computed already.
    """
    layers = chain(factors, input_root)
    defect = defect or defect_low_rank(layers, P, Q, value)
    # No unit matrix has a larger image ‖Jᵀ Z‖ than the top eigenmatrix P Qᵀ / ‖P Qᵀ‖.
    if defect.leading is None:
        return defect.size / (value * float(_norm(P, Q)))
    U, singular_values, V = defect.leading
    norm = pull_back_norm(layers, P, Q)
    if not float(norm) > 0:
        return 0.0
    # The small singular values of the defect are bounded together instead of multiplied by the layers.
    kept = U.shape[1]
    dropped = torch.linalg.vector_norm(singular_values[kept:])
    swept = pull_back_norm(layers, U * singular_values[:kept], V)
    return _ratio(swept + dropped * norm / _norm(P, Q), value * norm)


def _norm(P: Tensor, Q: Tensor) -> Tensor:
    """``‖P Qᵀ‖_F``."""
    return ((P.mT @ P) * (Q.mT @ Q)).sum().sqrt()
