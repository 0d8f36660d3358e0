"""The compiled route to the top eigenpairs of many small minimizers: ``_top_pairs.c``."""

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
"""Lanczos iterations at most, each from the Ritz vector of the one before."""


class _Pairs(ctypes.Structure):
    """The struct ``pairs`` of ``_top_pairs.c``, field by field."""

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
    """Largest eigenvalues of ``2 J Jᵀ`` with unit eigenmatrices, by Lanczos' iteration.

    Args:
        stack: ``W_i`` of shape ``(B, d_i, d_{i-1})``.
        input_root: ``S``, shape ``(d_0, d_0)``, or None for the identity.
        start: A unit matrix ``(d_L, d_0)`` for all to start at.
        tolerance: ``‖T Y − λ Y‖ / λ`` to stop at.

    Returns:
        Values ``(B,)``, eigenmatrices ``(B, d_L, d_0)`` and those residuals ``(B,)``.
    """
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
