"""Factors of a deep matrix factorization, and the intermediate factors of the derivation.

| symbol           | here                       | shape                |
| ---------------- | -------------------------- | -------------------- |
| ``W_1 … W_L``    | ``factors``                | ``(d_i, d_{i-1})``   |
| ``W_{L:1}``      | ``end_to_end(factors)``    | ``(d_L, d_0)``       |
| ``L_i = W_{L:i+1}`` | ``left_factors(factors)[i-1]``  | ``(d_L, d_i)``  |
| ``R_i = W_{i-1:1}`` | ``right_factors(factors)[i-1]`` | ``(d_{i-1}, d_0)`` |

Every function accepts leading batch dimensions: a stack of ``B`` factorizations with the same
widths is a list of tensors of shape ``(B, d_i, d_{i-1})``.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_tensor, shown

Factors = Sequence[Tensor]
"""The factors ``[W_1 … W_L]``, ``W_i`` of shape ``(…, d_i, d_{i-1})``."""
LISTS = (list, Sequence, torch.nn.ParameterList)
"""The types that count as a list of factors; a ParameterList is not a Sequence."""
Products = TypeVar("Products", Tensor, list[Tensor])


def checked_factors(factors: object, name: str = "factors") -> list[Tensor]:
    """The factors ``W_1 … W_L`` as finite float64 matrices, detached from the autograd graph.

    Accepted are lists, tuples and :class:`torch.nn.ParameterList`, of tensors and parameters with
    any strides. Single precision is refused and not converted: a float32 minimizer has a residual
    of relative size 1e-7, so the sharpness would be correct to about seven digits only, without any
    warning.

    Raises:
        TypeError: ``factors`` is not a sequence of tensors, or a tensor is not float64 or not dense.
        ValueError: The list is empty, the shapes of neighbouring factors do not fit, a width is
            zero, a value is not finite, or the factors are on different devices.
    """
    return measured_factors(factors, name)[0]


def measured_factors(factors: object, name: str = "factors") -> tuple[list[Tensor], list[float]]:
    """:func:`checked_factors`, together with the Frobenius norm of each tensor.

    The check for finite values computes the norms anyway. A batch has one norm per layer, of the
    whole stack. A norm is infinite where a square overflows.

    Raises:
        TypeError: See :func:`checked_factors`.
        ValueError: See :func:`checked_factors`.
    """
    if not isinstance(factors, LISTS):
        raise TypeError(f"{name}: expected a list of tensors, got {type(factors).__name__}")
    if not len(factors):
        raise ValueError(f"{name}: expected at least one matrix, got an empty list")
    checked = [_checked_factor(W, i, name) for i, W in enumerate(factors, 1)]
    norms = [float(torch.linalg.vector_norm(W)) for W in checked]
    for i, (W, norm) in enumerate(zip(checked, norms, strict=True), 1):
        # A finite norm has only finite terms, so that the second pass over a large matrix is rare.
        if not math.isfinite(norm) and not bool(torch.isfinite(W).all()):
            raise ValueError(f"{name}: expected finite values, got NaN or Inf in W_{i}")
    for i, (W, W_next) in enumerate(pairwise(checked), 1):
        if W_next.shape[-1] != W.shape[-2] or W_next.shape[:-2] != W.shape[:-2]:
            raise ValueError(
                f"{name}: expected W_{i + 1} of shape (…, {W.shape[-2]}) in the batch "
                f"{tuple(W.shape[:-2])} after W_{i} of {tuple(W.shape)}, got {tuple(W_next.shape)}"
            )
        if W_next.device != W.device:
            raise ValueError(f"{name}: expected W_{i + 1} on {W.device}, got it on {W_next.device}")
    return checked, norms


def _checked_factor(W: object, i: int, name: str) -> Tensor:
    """``W_i`` if it is a float64 matrix with positive widths; that it is finite is not checked."""
    if not isinstance(W, Tensor):
        raise TypeError(f"{name}: expected W_{i} to be a tensor, got {type(W).__name__}")
    if W.dtype != torch.float64:
        raise TypeError(f"{name}: expected W_{i} in torch.float64, got {W.dtype}")
    W = checked_tensor(W, f"{name}, W_{i}", finite=False)
    if W.ndim < 2:
        raise ValueError(f"{name}: expected W_{i} to be a matrix, got shape {tuple(W.shape)}")
    if 0 in W.shape:
        raise ValueError(f"{name}: expected positive widths, got W_{i} of {tuple(W.shape)}")
    return W


def check_factors(factors: object, name: str = "factors") -> None:
    """The checks of :func:`checked_factors`, for a caller who needs the autograd graph.

    Raises:
        TypeError: See :func:`checked_factors`.
        ValueError: See :func:`checked_factors`.
    """
    checked_factors(factors, name)


def widths(factors: Factors) -> tuple[int, ...]:
    """The layer widths ``(d_0, …, d_L)``."""
    return (factors[0].shape[-1], *(W.shape[-2] for W in factors))


def torch_times(W: Tensor, X: Tensor) -> Tensor:
    """``W X`` for a matrix ``X`` with few columns, by PyTorch; the result is stored column by column.

    With ten columns the product is up to four times slower if its result is stored row by row.
    """
    return (X.mT @ W.mT).mT


def right_factors(factors: Factors) -> list[Tensor]:
    """The right intermediate factors ``[R_1 … R_L]``, ``R_i = W_{i-1:1}``, where ``R_1`` is the identity.

    The factors may have any common type. The result can be differentiated.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(…, d_i, d_{i-1})``.

    Returns:
        ``R_i``, shape ``(…, d_{i-1}, d_0)``.

    Raises:
        TypeError: ``factors`` is not a list of tensors.
        ValueError: The tensors are not matrices that can be multiplied.

    >>> [tuple(R.shape) for R in right_factors([torch.ones(3, 2), torch.ones(1, 3)])]
    [(2, 2), (3, 2)]
    """
    return _multiplied(_right_factors, factors)


def _right_factors(factors: Factors) -> list[Tensor]:
    W_1 = factors[0]
    identity = torch.eye(W_1.shape[-1], dtype=W_1.dtype, device=W_1.device)
    products = [identity.expand(*W_1.shape[:-2], -1, -1)]
    multiply = torch_times if W_1.ndim == 2 else torch.matmul
    for W in factors[:-1]:
        products.append(multiply(W, products[-1]) if len(products) > 1 else W)
    return products


def left_factors(factors: Factors) -> list[Tensor]:
    """The left intermediate factors ``[L_1 … L_L]``, ``L_i = W_{L:i+1}``, where ``L_L`` is the identity.

    The factors may have any common type. The result can be differentiated.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(…, d_i, d_{i-1})``.

    Returns:
        ``L_i``, shape ``(…, d_L, d_i)``.

    Raises:
        TypeError: ``factors`` is not a list of tensors.
        ValueError: The tensors are not matrices that can be multiplied.

    >>> left_factors([torch.ones(3, 2), torch.ones(1, 3)])
    [tensor([[1., 1., 1.]]), tensor([[1.]])]
    """
    return _multiplied(_left_factors, factors)


def _left_factors(factors: Factors) -> list[Tensor]:
    transposed = [W.mT for W in reversed(factors)]
    return [R.mT for R in reversed(_right_factors(transposed))]


def end_to_end(factors: Factors) -> Tensor:
    """The end-to-end product ``W_{L:1} = W_L ⋯ W_1``, shape ``(…, d_L, d_0)``.

    The factors may have any common type. The result can be differentiated.

    Args:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(…, d_i, d_{i-1})``.

    Raises:
        TypeError: ``factors`` is not a list of tensors.
        ValueError: The tensors are not matrices that can be multiplied.

    >>> W_1, W_2 = torch.ones(3, 2), torch.ones(1, 3)
    >>> end_to_end([W_1, W_2])
    tensor([[3., 3.]])
    """
    return _multiplied(_end_to_end, factors)


def _end_to_end(factors: Factors) -> Tensor:
    product = factors[0]
    for W in factors[1:]:
        product = W @ product
    return product


def _multiplied(multiply: Callable[[Factors], Products], factors: Factors) -> Products:
    """``multiply(factors)``; if that fails, an error of one line that gives the shapes."""
    if not isinstance(factors, LISTS):
        raise TypeError(f"factors: expected a list of tensors, got {shown(factors)}")
    matrices = len(factors) > 0
    for i, W in enumerate(factors, 1):
        if not isinstance(W, Tensor):
            raise TypeError(f"factors: expected W_{i} to be a tensor, got {shown(W)}")
        matrices = matrices and W.ndim >= 2
    try:
        if matrices:
            return multiply(factors)
        cause = None
    except (RuntimeError, NotImplementedError) as error:
        cause = error
    raise ValueError(
        "factors: expected dense matrices of one type that can be multiplied, got "
        f"{[tuple(matrix.shape) for matrix in factors if not matrix.is_nested]}"
    ) from cause


def flatten(factors: Factors) -> Tensor:
    """All parameters in one vector ``(…, N)``: layer by layer, and row by row within a layer."""
    return torch.cat([W.flatten(start_dim=-2) for W in factors], dim=-1)


def unflatten(vector: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """The factors whose parameters ``vector`` lists, the inverse of :func:`flatten`.

    The factors are views of ``vector``: a change of one is a change of the other.

    Args:
        vector: Shape ``(…, N)``.
        widths: ``(d_0, …, d_L)``.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(…, d_i, d_{i-1})``.
    """
    shapes = [(rows, columns) for columns, rows in pairwise(widths)]
    sizes = [rows * columns for rows, columns in shapes]
    blocks = torch.split(vector, sizes, dim=-1)
    return [
        block.reshape(*block.shape[:-1], *shape)
        for block, shape in zip(blocks, shapes, strict=True)
    ]
