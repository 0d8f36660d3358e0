"""Independent Hessians, with which the exact expression for the sharpness is compared.

Nothing in this module uses the derivation of that expression. The loss is written directly in terms
of the data, ``‖Y − W_L ⋯ W_1 X‖_F²`` with the raw inputs and outputs; automatic differentiation
gives its Hessian, and LAPACK or ARPACK the eigenvalues. This module imports nothing from the
package, and no module that computes the exact expression imports it.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor


def _loss_of_vector(
    widths: Sequence[int], target: Tensor, inputs: Tensor | None
) -> Callable[[Tensor], Tensor]:
    """The loss as a function of all parameters in one vector: layer by layer, each row by row."""

    def loss(parameters: Tensor) -> Tensor:
        signal, position = inputs, 0
        for d_in, d_out in pairwise(widths):
            W = parameters[position : position + d_in * d_out].reshape(d_out, d_in)
            signal = W if signal is None else W @ signal
            position += d_in * d_out
        assert signal is not None
        return (target - signal).pow(2).sum()

    return loss


def dense_hessian(
    factors: Sequence[Tensor],
    target: Tensor,
    inputs: Tensor | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """The Hessian of ``‖Y − W_L ⋯ W_1 X‖_F²`` by forward-over-reverse automatic differentiation.

    Args:
        factors: ``W_i`` of shape ``(d_i, d_{i-1})``.
        target: ``Y``, shape ``(d_L, n)``; in matrix factorization ``M``, shape ``(d_L, d_0)``.
        inputs: ``X``, shape ``(d_0, n)``; None stands for the identity.
        chunk_size: The number of Hessian columns that are computed at once, which limits the
            memory; None computes all of them.

    Returns:
        The Hessian, symmetric, shape ``(N, N)`` for ``N`` parameters. They are ordered layer by
        layer, and row by row within a layer.

    >>> W = torch.ones(1, 1, dtype=torch.float64)
    >>> dense_hessian([W, W], target=W)
    tensor([[2., 2.],
            [2., 2.]], dtype=torch.float64)
    """
    widths = [factors[0].shape[1], *(W.shape[0] for W in factors)]
    parameters = torch.cat([W.reshape(-1) for W in factors])
    gradient = torch.func.grad(_loss_of_vector(widths, target, inputs))

    def column(direction: Tensor) -> Tensor:
        product: Tensor = torch.func.jvp(gradient, (parameters,), (direction,))[1]
        return product

    basis = torch.eye(len(parameters), dtype=parameters.dtype, device=parameters.device)
    hessian: Tensor = torch.func.vmap(column, chunk_size=chunk_size)(basis)
    return 0.5 * (hessian + hessian.mT)


def dense_spectrum(
    factors: Sequence[Tensor],
    target: Tensor,
    inputs: Tensor | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """All ``N`` eigenvalues of :func:`dense_hessian`, descending, shape ``(N,)``; same arguments."""
    return torch.linalg.eigvalsh(dense_hessian(factors, target, inputs, chunk_size)).flip(-1)


def lanczos_sharpness(
    factors: Sequence[Tensor],
    target: Tensor,
    inputs: Tensor | None = None,
    tolerance: float = 1e-12,
) -> float:
    """The largest Hessian eigenvalue, by ARPACK with Hessian-vector products from autograd.

    It serves networks whose dense Hessian would be too large.

    Args:
        factors: ``W_i`` of shape ``(d_i, d_{i-1})``.
        target: ``Y``, shape ``(d_L, n)``; in matrix factorization ``M``, shape ``(d_L, d_0)``.
        inputs: ``X``, shape ``(d_0, n)``; None stands for the identity.
        tolerance: The relative residual ``‖H v − λ v‖ / λ`` at which the iteration stops.

    Raises:
        scipy.sparse.linalg.ArpackNoConvergence: The iteration does not reach the tolerance.

    >>> W = torch.ones(3, 3, dtype=torch.float64)
    >>> round(lanczos_sharpness([W, W], target=W @ W), 9)
    36.0
    """
    widths = [factors[0].shape[1], *(W.shape[0] for W in factors)]
    parameters = torch.cat([W.reshape(-1) for W in factors])
    gradient = torch.func.grad(_loss_of_vector(widths, target, inputs))

    def product(vector: np.ndarray) -> np.ndarray:
        direction = torch.from_numpy(vector.reshape(-1)).to(parameters.device)
        image: np.ndarray = torch.func.jvp(gradient, (parameters,), (direction,))[1].cpu().numpy()
        return image

    order = len(parameters)
    operator = scipy.sparse.linalg.LinearOperator((order, order), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(order)
    values = scipy.sparse.linalg.eigsh(
        operator,
        k=1,
        which="LA",
        tol=tolerance,
        v0=start,
        ncv=min(order, 20),
        return_eigenvectors=False,
    )
    return float(values[0])
