"""Direct solvers for the largest eigenpair of ``2 Σ_i (R_iᵀR_i) ⊗ (L_iL_iᵀ)``.

They serve operators of small order, and those that split into smaller eigenproblems. Each solver
takes factors ``(…, d_i, d_{i-1})`` and the square input root ``(d_0, d_0)``, and returns a
:class:`TopPair`.
"""

from typing import NamedTuple

import numpy as np
import scipy
import torch
from torch import Tensor

from dmf_sharpness.hessian.threads import scipy_on_one_thread
from dmf_sharpness.network.curvature import curvature_matrix, layer_grams, signed, unstacked
from dmf_sharpness.network.factors import Factors


class TopPair(NamedTuple):
    """The top eigenpair of the operator, and its second eigenvalue.

    Attributes:
        value: The largest eigenvalue, shape ``(…)``.
        eigenmatrix: The unit eigenmatrix, shape ``(…, d_L, d_0)``.
        second: The second eigenvalue, shape ``(…)``, multiplicities counted, and zero if the
            operator has order 1; None if the solver does not compute it.
    """

    value: Tensor
    eigenmatrix: Tensor
    second: Tensor | None


def scalar(factors: Factors, input_root: Tensor | None) -> TopPair:
    """``d_0 = d_L = 1``: ``λ_max = 2 Σ_i ‖L_i‖² ‖R_i‖²``, and all other eigenvalues are zero."""
    value = curvature_matrix(factors, input_root)[..., 0, 0]
    return TopPair(value, torch.ones_like(value)[..., None, None], torch.zeros_like(value))


def one_layer(factors: Factors, input_root: Tensor | None) -> TopPair:
    """Depth 1, which is least squares: ``λ_max = 2 ‖G‖₂``, with one eigenvector for every output."""
    (W,) = factors
    d_L, d_0 = W.shape[-2:]
    G = torch.eye(d_0, dtype=W.dtype, device=W.device)
    if input_root is not None:
        G = input_root.mT @ input_root
    values, vectors = torch.linalg.eigh(G)
    next_one = -1 if d_L > 1 else -2
    second = values[next_one] if d_L > 1 or d_0 > 1 else torch.zeros_like(values[-1])
    Y = torch.zeros_like(W)
    Y[..., 0, :] = vectors[:, -1]
    batch = W.shape[:-2]
    return TopPair(2 * values[-1].expand(batch), Y, 2 * second.expand(batch))


def two_layers(factors: Factors, input_root: Tensor | None) -> TopPair:
    """Depth 2: one eigenproblem of order ``d_L`` and two of order ``d_0`` instead of one of ``d_0 d_L``.

    The operator is ``Y ↦ 2 (W_2W_2ᵀ Y G + Y (W_1S)ᵀ(W_1S))``, with ``G = SᵀS``. Let ``u`` be an
    eigenvector of ``W_2W_2ᵀ`` with eigenvalue ``a``. The operator maps ``u vᵀ`` to ``u (B_a v)ᵀ``
    with ``B_a = 2 (a G + (W_1S)ᵀ(W_1S))``. Because ``G`` is positive semidefinite, the eigenvalues
    of ``B_a`` do not decrease with ``a``, so the largest ``a`` gives the top pair. Without data
    ``G`` is the identity, and ``λ_max = 2 (‖W_1‖₂² + ‖W_2‖₂²)``.
    """
    left_grams, right_grams = layer_grams(factors, input_root)
    A, B, G = left_grams[0], right_grams[1], right_grams[0]
    assert A is not None
    assert B is not None
    if G is None:
        G = torch.eye(B.shape[-1], dtype=B.dtype, device=B.device)
    a, u = torch.linalg.eigh(A)
    values, v = torch.linalg.eigh(2 * (a[..., -1, None, None] * G + B))
    Y = u[..., :, -1, None] * v[..., None, :, -1]
    others = []
    if values.shape[-1] > 1:
        others.append(values[..., -2])
    if a.shape[-1] > 1:
        others.append(torch.linalg.eigvalsh(2 * (a[..., -2, None, None] * G + B))[..., -1])
    value = values[..., -1]
    second = torch.stack(others).amax(0) if others else torch.zeros_like(value)
    return TopPair(value, signed(Y), second)


def dense(factors: Factors, input_root: Tensor | None) -> TopPair:
    """The matrix of order ``d_0 d_L``, whose eigenpairs LAPACK computes."""
    values, vectors = _last_pairs(curvature_matrix(factors, input_root))
    value = values[..., -1].clamp(min=0)
    return TopPair(value, signed(unstacked(vectors[..., -1], factors)), _next(values))


def second_eigenvalue(factors: Factors, input_root: Tensor | None) -> Tensor:
    """The second eigenvalue of the matrix of order ``d_0 d_L``, shape ``(…)``; zero if it has order 1."""
    return _next(_last_pairs(curvature_matrix(factors, input_root))[0])


def _next(values: Tensor) -> Tensor:
    """The second largest of ascending eigenvalues ``(…, K)``, shape ``(…)``; zero if ``K`` is 1."""
    if values.shape[-1] == 1:
        return torch.zeros_like(values[..., -1])
    return values[..., -2].clamp(min=0)


def _last_pairs(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors; for a single matrix on the CPU only the top two pairs."""
    if matrix.ndim > 2 or matrix.shape[0] <= 2 or matrix.device.type != "cpu":
        values, vectors = torch.linalg.eigh(matrix)
        return values, vectors
    # Two pairs of a single matrix take half the time of all of them.
    order = matrix.shape[0]
    with scipy_on_one_thread():
        pairs = scipy.linalg.eigh(
            matrix.numpy(),
            subset_by_index=[order - 2, order - 1],
            driver="evr",
            check_finite=False,
        )
    values, vectors = (torch.from_numpy(np.ascontiguousarray(part)) for part in pairs)
    if len(values) < 2:
        # Where nearly all eigenvalues are equal, LAPACK's bisection may find fewer than were asked for.
        values, vectors = torch.linalg.eigh(matrix)
    return values, vectors
