"""The top eigenpair of many small minimizers at once.

A dense eigenproblem of order ``d_0 d_L`` for each would cost milliseconds; SciPy's and PyTorch's
iterations take one operator at a time. The locally optimal conjugate-gradient method (Knyazev, SIAM J.
Sci. Comput. 23, 2001) for a single vector needs, per step, one application of the operator to all
eigenmatrices, a handful of matrix products, and the eigenpairs of 3 × 3 matrices. Whatever it does not
settle to rounding is handed to LAPACK.
"""

import torch
from torch import Tensor

from dmf_sharpness.closed_forms import TopPair, dense
from dmf_sharpness.curvature import Grams, apply_curvature, layer_grams, signed
from dmf_sharpness.factors import Factors

STEPS = 60
RESIDUAL = 3e-11
"""``‖T Y − λ Y‖ / λ`` to stop at; the error of the value is of the order of its square."""


def batched_top_pair(factors: Factors, input_root: Tensor | None) -> TopPair:
    """The top eigenpair of each minimizer in a stack; ``second`` is not computed and NaN.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
    """
    batch = factors[0].shape[:-2]
    stack = [W.reshape(-1, *W.shape[-2:]) for W in factors]
    left_grams, right_grams = layer_grams(stack, input_root)
    value, Y, residual = _locally_optimal(left_grams, right_grams, stack)
    missed = ~(residual <= RESIDUAL)
    if bool(missed.any()):
        exact = dense([W[missed] for W in stack], input_root)
        value[missed], Y[missed] = exact.value, exact.eigenmatrix
    value, Y = value.reshape(batch), Y.reshape(*batch, *Y.shape[-2:])
    return TopPair(value, signed(Y), torch.full_like(value, torch.nan))


def _dot(X: Tensor, Y: Tensor) -> Tensor:
    return (X * Y).sum((-2, -1), keepdim=True)


def _unit(X: Tensor) -> tuple[Tensor, Tensor]:
    norm = _dot(X, X).sqrt()
    return X / torch.where(norm > 0, norm, torch.ones_like(norm)), norm


def _locally_optimal(
    left_grams: Grams, right_grams: Grams, stack: Factors
) -> tuple[Tensor, Tensor, Tensor]:
    """Values ``(B,)``, eigenmatrices ``(B, d_L, d_0)`` and residuals ``(B,)``."""
    B, d_L, d_0 = len(stack[0]), stack[-1].shape[-2], stack[0].shape[-1]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(d_L, d_0, dtype=torch.float64, generator=generator)
    X = noise.to(stack[0].device).expand(B, -1, -1)
    for _ in range(4):
        X = _unit(apply_curvature(left_grams, right_grams, X))[0]
    TX = apply_curvature(left_grams, right_grams, X)
    P = TP = torch.zeros_like(X)
    value, residual = _dot(X, TX), torch.full_like(X[:, :1, :1], torch.inf)
    for _ in range(STEPS):
        value = _dot(X, TX)
        R, norm = _unit(TX - value * X)
        residual = norm / value.clamp(min=torch.finfo(torch.float64).tiny)
        if bool((residual <= RESIDUAL).all()):
            break
        # Orthonormal directions: the iterate, its residual, and the step before.
        R = _unit(R - _dot(X, R) * X)[0]
        TR = apply_curvature(left_grams, right_grams, R)
        overlap_x, overlap_r = _dot(X, P), _dot(R, P)
        P_new, norm = _unit(P - overlap_x * X - overlap_r * R)
        scale = torch.where(norm > 0, norm, torch.ones_like(norm))
        TP = (TP - overlap_x * TX - overlap_r * TR) / scale
        P = P_new
        basis, images = (
            torch.stack([X, R, P], 1).flatten(2),
            torch.stack([TX, TR, TP], 1).flatten(2),
        )
        small = basis @ images.mT
        small = (small + small.mT) / 2
        c = torch.linalg.eigh(small)[1][:, :, -1, None]
        X_new = (c.mT @ basis).reshape(X.shape)
        TX = (c.mT @ images).reshape(X.shape)
        c[:, 0] = 0.0
        P, TP = (c.mT @ basis).reshape(X.shape), (c.mT @ images).reshape(X.shape)
        P, norm = _unit(P)
        TP = TP / torch.where(norm > 0, norm, torch.ones_like(norm))
        X = X_new
    Y, _ = _unit(X)
    TY = apply_curvature(left_grams, right_grams, Y)
    value = _dot(Y, TY)
    defect = _dot(TY - value * Y, TY - value * Y).sqrt()
    residual = defect / value.clamp(min=torch.finfo(torch.float64).tiny)
    return value[:, 0, 0], Y, residual[:, 0, 0]
