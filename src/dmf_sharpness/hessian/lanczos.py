"""The largest eigenpairs of symmetric operators that are given as functions, by ARPACK.

The Lanczos iteration itself is that of SciPy. This module adapts it to operators on PyTorch tensors
of any shape and on any device, and finds multiple eigenvalues.
"""

import math
from collections.abc import Callable

import numpy as np
import scipy
import torch
from torch import Tensor

from dmf_sharpness.hessian.threads import scipy_on_one_thread
from dmf_sharpness.network.randomness import gaussian

Operator = Callable[[Tensor], Tensor]
"""A symmetric linear map from tensors of one shape to tensors of the same shape."""
SMALLEST_ITERATIVE = 24
"""Operators below this order are formed as matrices and solved by LAPACK."""
RESTARTS = 100
"""The number of restarts after which the Krylov space is made larger, as close eigenvalues need it."""
LARGEST_KRYLOV = 96
"""The number of Krylov vectors from which on the Krylov space is not made larger again."""
SMALL_IMAGE = 1e-3
"""An operator is multiplied by a power of two if no entry of the image of the start exceeds this."""


def top_eigenvector(
    apply: Operator, start: Tensor, tolerance: float, krylov: int = 12
) -> tuple[float, Tensor]:
    """The largest eigenvalue of a symmetric operator and its unit eigenvector.

    Args:
        apply: The operator ``T``, a function from tensors of the shape of ``start`` to the same shape.
        start: The first Krylov vector, on the device where the operator runs.
        tolerance: The relative residual ``‖T y − λ y‖ / λ`` at which the iteration stops; 0 asks
            for rounding level.
        krylov: The least number of Krylov vectors before each restart. The operator is applied at
            least this number of times.

    Returns:
        The eigenvalue, and the eigenvector in the shape of ``start``. If the tolerance is not
        reached, they are the Rayleigh quotient of the start and the start. If the operator is not
        finite, the value is NaN.
    """
    values, vectors = top_eigenvectors(apply, start, 1, tolerance, krylov)
    return float(values[0]), vectors[0]


def top_eigenvectors(
    apply: Operator, start: Tensor, count: int, tolerance: float, krylov: int = 12
) -> tuple[Tensor, Tensor]:
    """The ``count`` largest eigenvalues, descending, with orthonormal eigenvectors.

    A Krylov space that grows from one vector contains only one vector of each eigenspace, so an
    iteration can miss multiple eigenvalues. If more than one pair is wanted, the pairs that were
    found are therefore subtracted from the operator, and the largest eigenvalue of the remainder is
    computed. If it is among the ``count`` largest, it is added, and the check is repeated.

    Args:
        apply: As in :func:`top_eigenvector`.
        start: As in :func:`top_eigenvector`.
        count: The number of eigenpairs.
        tolerance: As in :func:`top_eigenvector`.
        krylov: As in :func:`top_eigenvector`.

    Returns:
        Values ``(count,)`` and vectors ``(count, *start.shape)``. If the operator is not finite,
        the values are NaN.

    Raises:
        ValueError: More than one pair is wanted, and not all of them reach the tolerance.
    """
    order = start.numel()
    count = min(count, order)
    if order < max(SMALLEST_ITERATIVE, 2 * count + 2):
        return _by_matrix(apply, start, count)
    values, vectors = _arpack(apply, start, count, tolerance, krylov)
    while count > 1:
        found_values, found = values, vectors

        def remainder(
            Y: Tensor, found_values: Tensor = found_values, found: Tensor = found
        ) -> Tensor:
            overlaps = (found * Y).flatten(1).sum(1) * found_values
            return apply(Y) - torch.tensordot(overlaps, found, 1)

        fresh = gaussian(start.shape, len(values), start.device)
        value, vector = _arpack(remainder, fresh, 1, max(tolerance, 1e-12), krylov)
        if not float(value[0]) > float(values[count - 1]) * (1 + 1e-12):
            break
        values, vectors = torch.cat([values, value]), torch.cat([vectors, vector])
        place = values.argsort(descending=True)
        values, vectors = values[place], vectors[place]
    return values[:count], vectors[:count]


def _by_matrix(apply: Operator, start: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """:func:`top_eigenvectors` for an operator of small order, as a matrix and by LAPACK."""
    basis = torch.eye(start.numel(), dtype=start.dtype, device=start.device)
    columns = [apply(column.reshape(start.shape)).reshape(-1) for column in basis]
    matrix = torch.stack(columns)
    if not bool(torch.isfinite(matrix).all()):
        return _coordinates(start, count, torch.nan)
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    vectors = vectors.mT.flip(0)[:count].reshape(-1, *start.shape)
    return values.flip(0)[:count], vectors


def _coordinates(start: Tensor, count: int, value: float) -> tuple[Tensor, Tensor]:
    """``value`` repeated ``count`` times, with the first coordinate vectors as eigenvectors."""
    unit = torch.zeros(count, start.numel(), dtype=start.dtype, device=start.device)
    unit.fill_diagonal_(1.0)
    return unit.new_full((count,), value), unit.reshape(-1, *start.shape)


def _arpack(
    apply: Operator, start: Tensor, count: int, tolerance: float, krylov: int
) -> tuple[Tensor, Tensor]:
    """:func:`top_eigenvectors` without the check for multiple eigenvalues."""
    order = start.numel()
    largest = float(apply(start).abs().amax())
    if not 0 < largest < torch.inf:
        # ARPACK refuses an operator that is zero, as at a zero minimizer, or that overflows.
        return _coordinates(start, count, 0.0 if largest == 0 else torch.nan)
    # For eigenvalues below 3.7e-11 ARPACK takes the tolerance to be absolute. So a small operator
    # is multiplied by a power of two, which changes no digit of the result.
    unit = 2.0 ** min(-math.frexp(largest)[1], 1000) if largest < SMALL_IMAGE else 1.0

    def matvec(vector: np.ndarray) -> np.ndarray:
        Y = torch.from_numpy(vector).to(start.device).reshape(start.shape)
        result: np.ndarray = apply(Y).reshape(-1).cpu().numpy()
        return result if unit == 1.0 else unit * result

    operator = scipy.sparse.linalg.LinearOperator((order, order), matvec=matvec, dtype=np.float64)
    size = max(2 * count + 2, krylov)
    while True:
        try:
            with scipy_on_one_thread():
                values, vectors = scipy.sparse.linalg.eigsh(
                    operator,
                    k=count,
                    which="LA",
                    v0=start.reshape(-1).cpu().numpy(),
                    tol=tolerance,
                    ncv=min(order, size),
                    maxiter=RESTARTS,
                    rng=np.random.default_rng(0),  # without it, restarts differ from call to call
                )
            break
        except scipy.sparse.linalg.ArpackNoConvergence:
            if size >= min(order, LARGEST_KRYLOV):
                if count > 1:
                    raise ValueError(
                        f"tolerance: expected one that {size} Krylov vectors reach, got a smaller one"
                    ) from None
                # Nothing better than the start is at hand. The caller computes its residual, which
                # shows that the iteration did not converge.
                vector = start / torch.linalg.vector_norm(start)
                return (vector * apply(vector)).sum().reshape(1), vector[None]
            size *= 4
    place = np.argsort(values)[::-1]
    found = torch.from_numpy(np.ascontiguousarray(vectors.T[place])).to(start.device)
    return (
        torch.from_numpy(values[place] / unit).to(start.device),
        found.reshape(-1, *start.shape),
    )
