"""The top eigenpairs of many small minimizers by compiled code, ``compiled/_top_pairs.c``."""

import ctypes
from itertools import pairwise

import torch
from torch import Tensor

from dmf_sharpness.compiled.lanes import (
    CPU,
    LANES,
    Address,
    Integer,
    address,
    aligned,
    broadcast,
    loaded_library,
    packed,
    shared,
    unpacked,
)
from dmf_sharpness.network.factors import Factors, flatten, widths

RUNS = 4
"""The largest number of Lanczos iterations, each of which starts with the Ritz vector of the previous one."""


class _Pairs(ctypes.Structure):
    """The C struct ``pairs`` of ``_top_pairs.c``, with the same fields in the same order."""

    _fields_ = (
        ("depth", Integer),
        ("widths", Address),
        ("input_root", Address),
        ("parameters", Integer),
        ("weights", Address),
        ("start", Address),
        ("tolerance", ctypes.c_double),
        ("runs", Integer),
        ("value", Address),
        ("eigenmatrix", Address),
        ("residual", Address),
    )


def lanczos(
    stack: Factors, input_root: Tensor | None, start: Tensor, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The largest eigenvalues of ``2 J Jᵀ`` with unit eigenmatrices, by Lanczos iterations.

    Args:
        stack: ``W_i`` of shape ``(B, d_i, d_{i-1})``.
        input_root: ``S``, shape ``(d_0, d_0)``, or None for the identity.
        start: The unit matrix with which every iteration starts, shape ``(d_L, d_0)``.
        tolerance: The relative residual ``‖T Y − λ Y‖ / λ`` at which the iteration stops,
            ``T = 2 J Jᵀ``.

    Returns:
        Values ``(B,)``, eigenmatrices ``(B, d_L, d_0)`` and relative residuals ``(B,)``.

    Raises:
        RuntimeError: The compiled kernels cannot be used.
    """
    # The data in the memory layout of the kernels: eight minimizers in each block.
    compiled = loaded_library()
    sizes = widths(stack)
    depth, order, batch = len(stack), sizes[0] * sizes[-1], len(stack[0])
    N = sum(rows * columns for columns, rows in pairwise(sizes))
    shape = torch.tensor(sizes, dtype=torch.int64, device=CPU)
    root = None if input_root is None else broadcast(input_root)
    w, first = packed(flatten(stack)), broadcast(start.reshape(-1))
    blocks = len(w)
    value, residual = aligned(blocks, 1, LANES), aligned(blocks, 1, LANES)
    Y = aligned(blocks, order, LANES)
    problem = _Pairs(
        depth=depth,
        widths=address(shape, depth + 1, dtype=torch.int64),
        input_root=None if root is None else address(root, sizes[0], sizes[0], LANES),
        parameters=N,
        weights=address(w, blocks, N, LANES),
        start=address(first, order, LANES),
        tolerance=tolerance,
        runs=RUNS,
        value=address(value, blocks, 1, LANES),
        eigenmatrix=address(Y, blocks, order, LANES),
        residual=address(residual, blocks, 1, LANES),
    )

    def work(first_block: int, last_block: int) -> None:
        size = compiled.top_pairs_scratch(depth, problem.widths)
        scratch = aligned(size)
        compiled.top_pairs(ctypes.byref(problem), first_block, last_block, address(scratch, size))

    shared(work, blocks)
    matrices = unpacked(Y, batch).reshape(batch, sizes[-1], sizes[0])
    return unpacked(value, batch)[:, 0], matrices, unpacked(residual, batch)[:, 0]
