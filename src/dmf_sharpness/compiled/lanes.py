"""The compiled kernels: loading them, their memory layout, and sharing the work among threads.

Built by ``pip install`` where there is a C compiler. They are called through :mod:`ctypes`, which lets
go of the interpreter lock, so plain threads share the work. Eight problems lie side by side in the lanes
of a vector: the layout is ``(blocks, entries, 8)``. Where they were not built, do not load, or were built
of other sources than those at hand, PyTorch computes in their place.
"""

import ctypes
import hashlib
import logging
import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

LANES = 8
"""Problems side by side in one vector; as in ``_lanes.h``."""
SOURCES = ("_kernels.c", "_lanes.h", "_top_pairs.c")
"""In the order in which ``setup.py`` digests them."""
CACHE_LINE = 64
CPU = torch.device("cpu")
Address = ctypes.c_void_p
Integer = ctypes.c_int64
EngineName = Literal["compiled", "torch"]


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where they cannot be used; the log says so once, and why."""
    path = kernel_file()
    if path is None:
        return None
    try:
        _check_whole(path)
        loaded = _declared(ctypes.CDLL(os.fspath(path)))
        _check_digest(loaded, path)
    except (OSError, AttributeError) as error:
        # A symbol that is missing is an AttributeError: a library built before there was one.
        reason = " ".join(str(error).split())
        logging.getLogger("dmf_sharpness").warning(
            "%s: the compiled kernels cannot be used, and PyTorch computes in their place (%s); "
            "`pip install --editable .` builds them anew",
            path,
            reason,
        )
        return None
    return loaded


def kernel_file() -> Path | None:
    """The file of the compiled kernels, if they were built."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_kernels{suffix}")
        if path.is_file():
            return path
    return None


def _check_whole(path: Path) -> None:
    """Raise OSError if a Linux library ends before its segments do.

    The loader maps the segments without a look at the file's length. Reading what is not there then ends
    the process with SIGBUS, which nobody can catch.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(64)
        if header[:6] != b"\x7fELF\x02\x01" or len(header) < 64:
            return  # of another system, or refused by the loader
        start, size, count = struct.unpack_from("<Q14xHH", header, 32)
        file.seek(start)
        table = file.read(size * count)
    if len(table) < size * count:
        raise OSError("the file is truncated")
    for k in range(count):
        kind, offset, extent = struct.unpack_from("<I4xQ16xQ", table, k * size)
        if kind == 1 and offset + extent > length:  # of the kind that is loaded
            raise OSError("the file is truncated")


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    loaded.descend.argtypes = (Address, Integer, Integer, Address)
    loaded.descend.restype = ctypes.c_int
    loaded.scratch_size.argtypes = (Integer, Address, Integer)
    loaded.scratch_size.restype = Integer
    loaded.top_pairs.argtypes = (Address, Integer, Integer, Address)
    loaded.top_pairs.restype = None
    loaded.top_pairs_scratch.argtypes = (Integer, Address)
    loaded.top_pairs_scratch.restype = Integer
    loaded.source_digest.argtypes = ()
    loaded.source_digest.restype = ctypes.c_char_p
    return loaded


def _check_digest(loaded: ctypes.CDLL, path: Path) -> None:
    """Raise OSError if the sources lie beside the library, and it was built of others."""
    sources = [path.with_name(name) for name in SOURCES]
    if not all(source.is_file() for source in sources):
        return  # as in an installed wheel
    here = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    if loaded.source_digest().decode() != here:
        raise OSError(f"built of other sources than the {', '.join(SOURCES)} beside it")


def loaded_library() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        RuntimeError: They cannot be used; :func:`available` says so beforehand.
    """
    kernels = library()
    if kernels is None:
        raise RuntimeError("engine: expected compiled kernels that load, got none")
    return kernels


def available() -> bool:
    """Whether the compiled kernels can be used."""
    return library() is not None


def engine_name() -> EngineName:
    """The engine that computes where nothing else is asked for, on a CPU."""
    return "compiled" if available() else "torch"


def aligned(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """An empty tensor that begins on a cache line, as PyTorch's allocator lays it."""
    # On the CPU, whatever torch.set_default_device says.
    return torch.empty(shape, dtype=dtype, device=CPU)


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


def address(tensor: Tensor, *shape: int, dtype: torch.dtype = torch.float64) -> int:
    """Where the memory of a tensor begins that compiled code takes to be of this shape and type.

    The last look before an address is handed out: compiled code reads as many numbers as it was told.

    Raises:
        ValueError: The tensor is another one, or is not laid out row by row from a cache line on.
    """
    start = tensor.data_ptr()
    if (
        tensor.shape != shape
        or tensor.dtype != dtype
        or not tensor.is_cpu
        or not tensor.is_contiguous()
        or tensor.is_neg()
        or start % CACHE_LINE != 0
        or (start == 0 and tensor.numel() != 0)
    ):
        raise ValueError(
            f"compiled kernels: expected {dtype} of shape {shape}, contiguous and aligned on the CPU, "
            f"got {tensor.dtype} of shape {tuple(tensor.shape)} and strides {tensor.stride()} "
            f"on {tensor.device}"
        )
    return start


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
