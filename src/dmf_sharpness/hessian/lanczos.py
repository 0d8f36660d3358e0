"""Largest eigenpairs of symmetric operators that are given as functions: SciPy's ARPACK.

The Lanczos iteration itself is a library's; here it is only fitted to matrices on any device.
"""

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from dmf_sharpness.hessian.threads import scipy_on_one_thread
from dmf_sharpness.network.randomness import gaussian

Operator = Callable[[Tensor], Tensor]
SMALLEST_ITERATIVE = 24
"""Operators below this order are written out as matrices."""
RESTARTS = 100
"""Restarts before the Krylov space is made larger, which close eigenvalues need."""
LARGEST_KRYLOV = 96
SMALL_IMAGE = 1e-3
"""Operators that make less of the start are scaled up."""


def top_eigenvector(
    apply: Operator, start: Tensor, tolerance: float, krylov: int = 12
) -> tuple[float, Tensor]:
    """The largest eigenvalue of a symmetric operator and its unit eigenvector.

    Args:
        apply: Maps a tensor of the shape of ``start`` to one of the same shape.
        start: Where to start; its device is where the operator runs.
        tolerance: ``‖T y − λ y‖ / λ`` to stop at; 0 asks for rounding level.
        krylov: Krylov vectors before each restart. It never takes fewer applications than that.
    """
    values, vectors = top_eigenvectors(apply, start, 1, tolerance, krylov)
    return float(values[0]), vectors[0]


def top_eigenvectors(
    apply: Operator, start: Tensor, count: int, tolerance: float, krylov: int = 12
) -> tuple[Tensor, Tensor]:
    """The ``count`` largest eigenvalues, descending, with orthonormal eigenvectors.

    A Krylov space grown from one vector holds one vector of each eigenspace, so multiple eigenvalues
    can be missed. Unless only one pair is asked for, each answer is therefore checked on the
    operator with what was found taken out, until nothing larger is left there.

    Returns:
        Values ``(count,)`` and vectors ``(count, *start.shape)``. Of an operator that is not finite the
        values are NaN.

    Raises:
        ValueError: Of more than one pair, not all reach the tolerance.
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
    basis = torch.eye(start.numel(), dtype=start.dtype, device=start.device)
    columns = [apply(column.reshape(start.shape)).reshape(-1) for column in basis]
    matrix = torch.stack(columns)
    if not bool(torch.isfinite(matrix).all()):
        return _coordinates(start, count, torch.nan)
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    vectors = vectors.mT.flip(0)[:count].reshape(-1, *start.shape)
    return values.flip(0)[:count], vectors


def _coordinates(start: Tensor, count: int, value: float) -> tuple[Tensor, Tensor]:
    """``value``, ``count`` times, with the first coordinate vectors."""
    unit = torch.zeros(count, start.numel(), dtype=start.dtype, device=start.device)
    unit.fill_diagonal_(1.0)
    return unit.new_full((count,), value), unit.reshape(-1, *start.shape)


def _arpack(
    apply: Operator, start: Tensor, count: int, tolerance: float, krylov: int
) -> tuple[Tensor, Tensor]:
    order = start.numel()
    largest = float(apply(start).abs().amax())
    if not 0 < largest < torch.inf:
        # The zero operator, as at a zero minimizer, or one beyond the range, which ARPACK would refuse.
        return _coordinates(start, count, 0.0 if largest == 0 else torch.nan)
    # Below 3.7e-11 ARPACK takes its tolerance to be absolute; a power of two changes nothing else.
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
                    rng=np.random.default_rng(0),  # of restarts; without one each call draws anew
                )
            break
        except scipy.sparse.linalg.ArpackNoConvergence:
            if size >= min(order, LARGEST_KRYLOV):
                if count > 1:
                    raise ValueError(
                        f"tolerance: expected one that {size} Krylov vectors reach, got a smaller one"
                    ) from None
                # The start as it was: its residual, which the caller reports, says that it is bad.
                vector = start / torch.linalg.vector_norm(start)
                return (vector * apply(vector)).sum().reshape(1), vector[None]
            size *= 4
    place = np.argsort(values)[::-1]
    found = torch.from_numpy(np.ascontiguousarray(vectors.T[place])).to(start.device)
    return (
        torch.from_numpy(values[place] / unit).to(start.device),
        found.reshape(-1, *start.shape),
    )
