"""Products of a large layer with a matrix of few columns, compiled in ``compiled/_thin.c``.

A general product first copies the layer into an order that suits it. With few columns that takes as long
as a good part of the product. The compiled product reads the layer where it lies.
"""

import torch
from torch import Tensor

from dmf_sharpness.compiled.lanes import CPU, available, loaded_library, openmp
from dmf_sharpness.network.factors import torch_times

LEAST_WIDTH = 512
"""The least number of rows and of columns of a layer for the compiled product.

In a narrower one PyTorch's product was as fast in the measurements, or faster (docs/speed.md).
"""
LEAST_COLUMNS, MOST_COLUMNS = 2, 96
"""The same for the columns that it is multiplied by, and their largest number.

A single column takes the time in which the layer is read; with many columns copying the layer matters little.
"""


def times(W: Tensor, X: Tensor) -> Tensor:
    """``W X`` for a matrix ``X`` with few columns; the result is stored column by column.

    The result does not depend on the number of threads if the product is compiled. It cannot be
    differentiated then, so a product that autograd follows is PyTorch's.

    Args:
        W: Shape ``(m, n)``.
        X: Shape ``(n, k)``.
    """
    product = compiled_times(W, X) if _pays(W, X) else None
    return torch_times(W, X) if product is None else product


def _pays(W: Tensor, X: Tensor) -> bool:
    """Whether the product can be compiled, and is faster then on this processor."""
    return (
        min(W.shape) >= LEAST_WIDTH
        and LEAST_COLUMNS <= X.shape[-1] <= MOST_COLUMNS
        and not (torch.is_grad_enabled() and (W.requires_grad or X.requires_grad))
        and _readable(W, X)
        and available()
        and loaded_library().thin_product_is_fast() != 0
    )


def _readable(W: Tensor, X: Tensor) -> bool:
    """Whether the matrices fit each other, and lie in memory as compiled code reads them."""
    return (
        W.ndim == X.ndim == 2
        and W.shape[1] == X.shape[0]
        and all(
            type(matrix) is Tensor
            and matrix.is_cpu
            and matrix.dtype == torch.float64
            and not matrix.is_neg()
            for matrix in (W, X)
        )
        and (W.is_contiguous() or W.mT.is_contiguous())
    )


def compiled_times(W: Tensor, X: Tensor) -> Tensor | None:
    """``W X`` by compiled code; None if there is too little memory.

    Args:
        W: Shape ``(m, n)``, float64 on the CPU; it or its transposed matrix is contiguous.
        X: Shape ``(n, k)``, float64 on the CPU.

    Raises:
        ValueError: A matrix has another shape, type or order in memory.
        RuntimeError: The compiled kernels cannot be used.
    """
    if not _readable(W, X):
        raise ValueError(
            f"thin product: expected float64 matrices on the CPU that can be multiplied, got "
            f"{tuple(W.shape)} with strides {W.stride()} and {tuple(X.shape)}"
        )
    flipped = not W.is_contiguous()
    stored, columns = W.mT if flipped else W, X.mT.contiguous()
    out = torch.empty((X.shape[1], W.shape[0]), dtype=torch.float64, device=CPU)
    status = loaded_library().thin_product(
        flipped,
        *W.shape,
        X.shape[1],
        stored.data_ptr(),
        columns.data_ptr(),
        out.data_ptr(),
        torch.get_num_threads(),
        openmp(),
    )
    return None if status else out.mT
