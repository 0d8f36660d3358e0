"""The compiled kernels: loading them, their memory layout, and sharing the work among threads.

Built by ``pip install`` where there is a C compiler. They are called through :mod:`ctypes`, which lets
go of the interpreter lock, so plain threads share the work. Eight problems lie side by side in the lanes
of a vector: the layout is ``(blocks, entries, 8)``.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

LANES = 8
"""Problems side by side in one vector; as in ``_lanes.h``."""
Address = ctypes.c_void_p
Integer = ctypes.c_int64


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there was no compiler."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_kernels{suffix}")
        if path.is_file():
            loaded = ctypes.CDLL(os.fspath(path))
            loaded.descend.argtypes = (Address, Integer, Integer, Address)
            loaded.descend.restype = ctypes.c_int
            loaded.scratch_size.argtypes = (Integer, Address, Integer)
            loaded.scratch_size.restype = Integer
            loaded.top_pairs.argtypes = (Address, Integer, Integer, Address)
            loaded.top_pairs.restype = None
            loaded.top_pairs_scratch.argtypes = (Integer, Address)
            loaded.top_pairs_scratch.restype = Integer
            return loaded
    return None


def available() -> bool:
    """Whether the kernels were compiled when the package was installed."""
    return library() is not None


def aligned(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """An empty tensor that begins on a cache line; PyTorch's allocator aligns to 64 bytes."""
    tensor = torch.empty(shape, dtype=dtype)
    assert tensor.data_ptr() % 64 == 0
    return tensor


def packed(values: Tensor) -> Tensor:
    """``(B, …)`` as ``(blocks, …, 8)``; the last block is filled up with copies of the last run."""
    batch = values.shape[0]
    blocks = -(-batch // LANES)
    if blocks * LANES != batch:
        filling = values[-1:].expand(blocks * LANES - batch, *values.shape[1:])
        values = torch.cat([values, filling])
    lanes = values.reshape(blocks, LANES, -1).mT
    result = aligned(blocks, lanes.shape[1], LANES, dtype=values.dtype)
    result.copy_(lanes)
    return result


def unpacked(values: Tensor, batch: int) -> Tensor:
    """``(blocks, n, 8)`` as ``(B, n)``."""
    return values.mT.reshape(-1, values.shape[1])[:batch]


def address(tensor: Tensor | None) -> int | None:
    """Where its memory begins; None for none."""
    return None if tensor is None else tensor.data_ptr()


def broadcast(values: Tensor) -> Tensor:
    """What all problems share, ``(…, 8)``."""
    result = aligned(*values.shape, LANES)
    result.copy_(values[..., None])
    return result


def shared(work: Callable[[int, int], None], blocks: int) -> None:
    """Call ``work(first, last)`` for parts of the blocks, on as many threads as PyTorch may use."""
    workers = max(1, min(torch.get_num_threads(), blocks))
    if workers == 1:
        work(0, blocks)
        return
    # Several parts per thread: they take different times.
    parts = min(blocks, 8 * workers)
    edges = [blocks * k // parts for k in range(parts + 1)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))
