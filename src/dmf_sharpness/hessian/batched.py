"""The top eigenpairs of many small minimizers at once.

A dense eigenproblem of order ``d_0 d_L`` for each minimizer would take milliseconds, and the
iterative solvers of SciPy and PyTorch accept only one operator at a time. So the locally optimal
block conjugate gradient method (LOBPCG; Knyazev, SIAM J. Sci. Comput. 23, 2001) is written for a
batch, with one vector for each minimizer. A step applies the operator to all eigenmatrices, forms a
few products, and solves 3 × 3 eigenproblems. On a CPU these products are so small that starting
them takes longer than computing them. There the compiled kernels are used instead of PyTorch if
they are available (:mod:`dmf_sharpness.hessian.batched_compiled`). Minimizers whose eigenpair has
not converged are passed on to LAPACK.
"""

import torch
from torch import Tensor

from dmf_sharpness.compiled.lanes import available
from dmf_sharpness.hessian.batched_compiled import lanczos
from dmf_sharpness.hessian.closed_forms import TopPair, dense
from dmf_sharpness.network.curvature import Grams, apply_curvature, layer_grams, signed
from dmf_sharpness.network.factors import Factors, widths

Triple = tuple[Tensor, Tensor, Tensor]
"""The matrices ``X``, ``R`` and ``P`` of the iteration, or their images; shape ``(B, d_L, d_0)`` each."""
STEPS = 60
"""The largest number of steps of the iteration."""
POWER_STEPS = 4
"""The number of power iterations that improve the random start."""
TINY = torch.finfo(torch.float64).tiny
"""The smallest normal float64 number, 2.2e-308."""
RESIDUAL = 5e-11
"""The relative residual ``‖T Y − λ Y‖ / λ`` at which the iteration stops, for the operator ``T = 2 J Jᵀ``.

The relative error of the eigenvalue is of the order of its square.
"""


def batched_top_pair(factors: Factors, input_root: Tensor | None, compiled: bool = True) -> TopPair:
    """The top eigenpair of each minimizer of a batch.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        input_root: ``S``, shape ``(d_0, d_0)``, or None for the identity.
        compiled: Whether the compiled kernels may be used.

    Returns:
        Values ``(…)`` and unit eigenmatrices ``(…, d_L, d_0)``. ``second`` is None, because the
        iteration does not compute the second eigenvalue.
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
    """The locally optimal conjugate gradient method for the largest eigenvalue of each operator.

    Args:
        left_grams: ``L_i L_iᵀ``, shape ``(B, d_L, d_L)``.
        right_grams: ``(R_i S)ᵀ(R_i S)``, shape ``(B, d_0, d_0)``.
        start: Matrices to start with, shape ``(B, d_L, d_0)``.

    Returns:
        Values ``(B,)``, unit eigenmatrices ``(B, d_L, d_0)`` and relative residuals ``(B,)``.
    """
    # Start: a few power iterations, then unit matrices X and their images T X.
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
        # Residual R of the current Ritz pairs.
        value = _dot(X, TX)
        R, norm = _unit(TX - value * X)
        residual = norm / value.clamp(min=TINY)
        settled = residual[:, 0, 0] <= RESIDUAL
        if step == STEPS - 1 or bool(settled.all()):
            done_X[active], done_residual[active] = X, residual
            break
        # Once more than one in eight has converged, go on with the others only.
        if int(settled.sum()) * 8 > len(active):
            done_X[active[settled]], done_residual[active[settled]] = X[settled], residual[settled]
            going = ~settled
            X, TX, P, TP, R = X[going], TX[going], P[going], TP[going], R[going]
            active = active[going]
            left_grams, right_grams = _part(left_grams, going), _part(right_grams, going)
        # Orthonormal basis of three: the iterate X, its residual R, and the previous step P.
        R = _unit(R - _dot(X, R) * X)[0]
        TR = apply_curvature(left_grams, right_grams, R)
        along_x, along_r = _dot(X, P), _dot(R, P)
        P, norm = _unit(P - along_x * X - along_r * R)
        TP = (TP - along_x * TX - along_r * TR) / torch.where(norm > 0, norm, 1.0)
        # The best vector in this basis is the next iterate; its part along R and P is the next P.
        c = _top_of_three((X, R, P), (TX, TR, TP))
        P, TP = c[1] * R + c[2] * P, c[1] * TR + c[2] * TP
        X, TX = c[0] * X + P, c[0] * TX + TP
        P, norm = _unit(P)
        TP = TP / torch.where(norm > 0, norm, 1.0)
    # The Rayleigh quotient with a fresh image, free of the rounding that T X has accumulated.
    Y, _ = _unit(done_X)
    return _dot(Y, apply_curvature(*grams, Y))[:, 0, 0], Y, done_residual[:, 0, 0]


def _top_of_three(basis: Triple, images: Triple) -> Tensor:
    """Coefficients, shape ``(3, B, 1, 1)``, of the top Ritz vectors in orthonormal bases of three."""
    entries = {(i, j): _dot(basis[i], images[j]) for i in range(3) for j in range(i, 3)}
    rows = [[entries[min(i, j), max(i, j)] for j in range(3)] for i in range(3)]
    small = torch.stack([torch.cat(row, -1) for row in rows], 1)[:, :, 0]
    top: Tensor = torch.linalg.eigh(small)[1][:, :, -1]
    return top.mT[:, :, None, None]


def _part(grams: Grams, chosen: Tensor) -> Grams:
    """The Gram matrices of the chosen minimizers; a matrix that all share has no batch dimension."""
    return [A if A is None or A.ndim == 2 else A[chosen] for A in grams]
