"""The top eigenpair of many small minimizers at once.

A dense eigenproblem of order ``d_0 d_L`` for each would cost milliseconds; SciPy's and PyTorch's
iterations take one operator at a time. The locally optimal conjugate-gradient method (Knyazev, SIAM J.
Sci. Comput. 23, 2001) for a single vector needs, per step, one application of the operator to all
eigenmatrices, a handful of matrix products, and the eigenpairs of 3 × 3 matrices. On a CPU, where each
of these tiny products costs more to start than to compute, the compiled kernels take the place of
PyTorch if they are there (:mod:`dmf_sharpness.hessian.batched_compiled`). Whatever is not settled to
rounding is handed to LAPACK.
"""

import torch
from torch import Tensor

from dmf_sharpness.compiled.lanes import available
from dmf_sharpness.hessian.batched_compiled import lanczos
from dmf_sharpness.hessian.closed_forms import TopPair, dense
from dmf_sharpness.network.curvature import Grams, apply_curvature, layer_grams, signed
from dmf_sharpness.network.factors import Factors, widths

Triple = tuple[Tensor, Tensor, Tensor]
STEPS = 60
POWER_STEPS = 4
TINY = torch.finfo(torch.float64).tiny
RESIDUAL = 5e-11
"""``‖T Y − λ Y‖ / λ`` to stop at; the error of the value is of the order of its square."""


def batched_top_pair(factors: Factors, input_root: Tensor | None, compiled: bool = True) -> TopPair:
    """The top eigenpair of each minimizer in a stack; ``second`` is not found on the way.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        input_root: ``S``, shape ``(d_0, d_0)``, or None for the identity.
        compiled: Whether the compiled kernels may be used.
    """
    batch = factors[0].shape[:-2]
    stack = [W.reshape(-1, *W.shape[-2:]) for W in factors]
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(
        widths(stack)[-1], widths(stack)[0], dtype=torch.float64, generator=generator, device="cpu"
    )
    start = (start / torch.linalg.vector_norm(start)).to(stack[0].device)
    if compiled and start.device.type == "cpu" and available():
        value, Y, residual = lanczos(stack, input_root, start, RESIDUAL)
    else:
        value, Y, residual = _locally_optimal(
            *layer_grams(stack, input_root), start.expand(len(stack[0]), -1, -1)
        )
    missed = ~(residual <= RESIDUAL)
    if bool(missed.any()):
        exact = dense([W[missed] for W in stack], input_root)
        value[missed], Y[missed] = exact.value, exact.eigenmatrix
    value, Y = value.reshape(batch), Y.reshape(*batch, *Y.shape[-2:])
    return TopPair(value, signed(Y), None)


def _dot(X: Tensor, Y: Tensor) -> Tensor:
    return (X * Y).sum((-2, -1), keepdim=True)


def _unit(X: Tensor) -> tuple[Tensor, Tensor]:
    norm = _dot(X, X).sqrt()
    return X / torch.where(norm > 0, norm, 1.0), norm


def _locally_optimal(
    left_grams: Grams, right_grams: Grams, start: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Values ``(B,)``, eigenmatrices ``(B, d_L, d_0)`` and residuals ``(B,)``."""
    grams = left_grams, right_grams
    X = start
    for _ in range(POWER_STEPS):
        X = apply_curvature(left_grams, right_grams, X)
    B = len(X)
    X = _unit(X)[0]
    TX = apply_curvature(left_grams, right_grams, X)
    P = TP = torch.zeros_like(X)
    done_X, done_residual = X.clone(), X.new_full((B, 1, 1), torch.inf)
    active = torch.arange(B, device=X.device)
    for step in range(STEPS):
        value = _dot(X, TX)
        R, norm = _unit(TX - value * X)
        residual = norm / value.clamp(min=TINY)
        settled = residual[:, 0, 0] <= RESIDUAL
        if step == STEPS - 1 or bool(settled.all()):
            done_X[active], done_residual[active] = X, residual
            break
        if int(settled.sum()) * 8 > len(active):
            # Go on with the others only.
            done_X[active[settled]], done_residual[active[settled]] = X[settled], residual[settled]
            going = ~settled
            X, TX, P, TP, R = X[going], TX[going], P[going], TP[going], R[going]
            active = active[going]
            left_grams, right_grams = _part(left_grams, going), _part(right_grams, going)
        # Orthonormal directions: the iterate, its residual, and the step before.
        R = _unit(R - _dot(X, R) * X)[0]
        TR = apply_curvature(left_grams, right_grams, R)
        along_x, along_r = _dot(X, P), _dot(R, P)
        P, norm = _unit(P - along_x * X - along_r * R)
        TP = (TP - along_x * TX - along_r * TR) / torch.where(norm > 0, norm, 1.0)
        c = _top_of_three((X, R, P), (TX, TR, TP))
        P, TP = c[1] * R + c[2] * P, c[1] * TR + c[2] * TP
        X, TX = c[0] * X + P, c[0] * TX + TP
        P, norm = _unit(P)
        TP = TP / torch.where(norm > 0, norm, 1.0)
    Y, _ = _unit(done_X)
    return _dot(Y, apply_curvature(*grams, Y))[:, 0, 0], Y, done_residual[:, 0, 0]


def _top_of_three(basis: Triple, images: Triple) -> Tensor:
    """Coefficients ``(3, B, 1, 1)`` of the top Ritz vectors in orthonormal bases of three."""
    entries = {(i, j): _dot(basis[i], images[j]) for i in range(3) for j in range(i, 3)}
    rows = [[entries[min(i, j), max(i, j)] for j in range(3)] for i in range(3)]
    small = torch.stack([torch.cat(row, -1) for row in rows], 1)[:, :, 0]
    top: Tensor = torch.linalg.eigh(small)[1][:, :, -1]
    return top.mT[:, :, None, None]


def _part(grams: Grams, chosen: Tensor) -> Grams:
    """The Gram matrices of some of the stack; those that all share stay as they are."""
    return [A if A is None or A.ndim == 2 else A[chosen] for A in grams]
