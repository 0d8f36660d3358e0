"""Random target matrices, and regression problems."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from dmf_sharpness.arguments import checked_tensor

Seed = int | Sequence[int] | Generator
"""A seed of random draws: an integer, a list of integers, or a generator."""


def gaussian_matrix(rows: int, columns: int, seed: Seed) -> Tensor:
    """A matrix of independent standard normal entries, shape ``(rows, columns)``, float64."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, columns)))


def orthogonal_matrix(size: int, seed: Seed) -> Tensor:
    """A random orthogonal matrix from the Haar measure, shape ``(size, size)``, float64.

    It is the factor ``Q`` of the QR factorization of a Gaussian matrix, with the signs of the
    diagonal of ``R`` moved to ``Q`` (Mezzadri, Notices of the AMS 54, 2007).
    """
    Q, R = torch.linalg.qr(gaussian_matrix(size, size, seed))
    return Q * torch.sign(torch.diagonal(R))


def matrix_with_singular_values(
    rows: int, columns: int, singular_values: Sequence[float], seed: Seed
) -> Tensor:
    """A random matrix with the given singular values, shape ``(rows, columns)``, float64.

    Its singular vectors are those of random orthogonal matrices. The other singular values are zero.

    Raises:
        ValueError: There are more singular values than rows or columns, or one of them is negative.
    """
    rng = np.random.default_rng(seed)
    values = torch.tensor(list(singular_values), dtype=torch.float64)
    if len(values) > min(rows, columns) or bool((values < 0).any()):
        raise ValueError(
            f"singular_values: expected at most {min(rows, columns)} non-negative numbers for a "
            f"{rows} × {columns} matrix, got {list(singular_values)}"
        )
    k = len(values)
    left, right = orthogonal_matrix(rows, rng)[:, :k], orthogonal_matrix(columns, rng)[:, :k]
    return (left * values) @ right.mT


@dataclass(frozen=True)
class Regression:
    """A linear regression of ``outputs`` on ``inputs``, and its reduction to matrix factorization.

    Attributes:
        inputs: ``X``, shape ``(d_0, n)``.
        outputs: ``Y``, shape ``(d_L, n)``.
        input_root: ``S = U Σ`` of the thin SVD ``X = U Σ Vᵀ``, shape ``(d_0, r)``, ``S Sᵀ = X Xᵀ``.
        target: ``T = Y V``, shape ``(d_L, r)``.
        solution: The least-squares solution of least norm, ``Y X⁺``, shape ``(d_L, d_0)``. Factors
            with this product are global minimizers.
        least_loss: ``‖Y − Y X⁺ X‖_F²``, the least loss of all linear maps.
    """

    inputs: Tensor
    outputs: Tensor
    input_root: Tensor
    target: Tensor
    solution: Tensor
    least_loss: float

    @property
    def input_gram(self) -> Tensor:
        """``G = X Xᵀ``, shape ``(d_0, d_0)``."""
        return self.inputs @ self.inputs.mT


def thin_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``U``, ``Σ`` and ``V`` of ``X = U Σ Vᵀ``, without the singular values up to ``1e-12`` of the largest.

    Args:
        matrix: ``X``, shape ``(m, n)``.

    Returns:
        ``U``, shape ``(m, r)``, the singular values, descending, ``(r,)``, and ``V``, shape ``(n, r)``.
    """
    Q = None
    if matrix.shape[1] > matrix.shape[0]:
        # With many samples the decomposition of the small triangular factor is several times faster.
        Q, R = torch.linalg.qr(matrix.mT)
        matrix = R.mT
    U, values, Vt = torch.linalg.svd(matrix, full_matrices=False)
    kept = values > 1e-12 * values[0]
    V = Vt[kept].mT
    return U[:, kept], values[kept], V if Q is None else Q @ V


def regression(inputs: Tensor, outputs: Tensor) -> Regression:
    """The reduction of ``‖Y − W X‖_F²`` to ``‖T − W S‖_F²`` plus a constant.

    The derivation is in :mod:`dmf_sharpness.network.loss`. Singular values of ``X`` up to ``1e-12``
    times the largest one count as zero and are left out, so that ``r`` is the rank of ``X``.

    Args:
        inputs: ``X``, shape ``(d_0, n)``, float64 (single precision is refused).
        outputs: ``Y``, shape ``(d_L, n)``, float64.

    Raises:
        TypeError: One of the two is not a float64 tensor.
        ValueError: Shapes or devices do not fit, or a value is not finite.
    """
    inputs = checked_tensor(inputs, "inputs", (None, None))
    if 0 in inputs.shape:
        raise ValueError(f"inputs: expected rows and columns, got shape {tuple(inputs.shape)}")
    outputs = checked_tensor(outputs, "outputs", (None, inputs.shape[1]), device=inputs.device)
    return reduced_regression(*thin_svd(inputs), outputs, inputs)


def reduced_regression(
    U: Tensor, values: Tensor, V: Tensor, outputs: Tensor, inputs: Tensor | None = None
) -> Regression:
    """A regression on inputs of which the thin singular value decomposition ``U Σ Vᵀ`` is known.

    Args:
        U: Shape ``(d_0, r)``.
        values: The diagonal of ``Σ``, ``(r,)``, positive.
        V: Shape ``(n, r)``.
        outputs: ``Y``, shape ``(d_L, n)``.
        inputs: ``X``, if it is at hand.
    """
    target = outputs @ V
    return Regression(
        inputs=(U * values) @ V.mT if inputs is None else inputs,
        outputs=outputs,
        input_root=U * values,
        target=target,
        solution=(target / values) @ U.mT,
        least_loss=float((outputs - target @ V.mT).square().sum()),
    )
