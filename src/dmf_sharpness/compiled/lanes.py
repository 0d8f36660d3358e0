"""The compiled kernels: loading, memory layout, and distribution of the work among threads.

``pip install`` builds the kernels if there is a C compiler. They are called through :mod:`ctypes`,
which releases the interpreter lock during the call, so ordinary Python threads can share the work.
Eight problems lie side by side in the eight *lanes* (entries) of a processor vector, and eight such
problems form a *block*. Arrays therefore have the layout ``(blocks, entries, 8)``. If the kernels
were not built, cannot be loaded, or were built from other sources than those beside them, PyTorch
computes instead.
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
"""The number of problems in one vector, the same as ``LANES`` in ``_lanes.h``."""
SOURCES = (
    "_kernels.c",
    "_descent.h",
    "_lanes.h",
    "_tiles.h",
    "_top_pairs.c",
    "_clones.h",
    "_rows.h",
    "_team.h",
    "_tridiagonal.h",
    "_lanczos.h",
    "_single.c",
    "_thin.c",
)
"""The source files of the kernels, in the order in which ``setup.py`` computes their digest."""
CACHE_LINE = 64
"""The alignment in bytes that the compiled code needs for its vectors."""
CPU = torch.device("cpu")
"""The only device on which the kernels compute."""
Address = ctypes.c_void_p
"""The type of an address in a C struct or call."""
Integer = ctypes.c_int64
"""The type of an integer in a C struct or call."""
EngineName = Literal["compiled", "torch"]
"""The names of the two implementations, in C and with PyTorch."""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None if they cannot be used, in which case the log gives the reason once."""
    path = kernel_file()
    if path is None:
        return None
    try:
        _check_whole(path)
        loaded = _declared(ctypes.CDLL(os.fspath(path)))
        _check_digest(loaded, path)
    except (OSError, AttributeError) as error:
        # ctypes raises an AttributeError for a missing function, as in a library that was built
        # before the function existed.
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
    """The file of the compiled kernels; None if they were not built."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_kernels{suffix}")
        if path.is_file():
            return path
    return None


def _check_whole(path: Path) -> None:
    """A check that the library is a complete file, for 64-bit Linux (ELF).

    The loader maps the segments of the library into memory without a look at the length of the
    file. If the file is truncated, reading a missing part ends the process with SIGBUS, which no
    program can catch.

    Raises:
        OSError: The file ends before one of its segments does.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(64)
        if header[:6] != b"\x7fELF\x02\x01" or len(header) < 64:
            return  # a library of another system, or a file that the loader refuses
        start, size, count = struct.unpack_from("<Q14xHH", header, 32)
        file.seek(start)
        table = file.read(size * count)
    if len(table) < size * count:
        raise OSError("the file is truncated")
    for k in range(count):
        kind, offset, extent = struct.unpack_from("<I4xQ16xQ", table, k * size)
        if kind == 1 and offset + extent > length:  # kind 1 is a segment that is loaded
            raise OSError("the file is truncated")


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    """The library after its functions got the types of their arguments and results."""
    loaded.descend.argtypes = (Address, Integer, Integer, Address)
    loaded.descend.restype = ctypes.c_int
    loaded.scratch_size.argtypes = (Address,)
    loaded.scratch_size.restype = Integer
    loaded.top_pairs.argtypes = (Address, Integer, Integer, Address)
    loaded.top_pairs.restype = None
    loaded.top_pairs_scratch.argtypes = (Integer, Address)
    loaded.top_pairs_scratch.restype = Integer
    loaded.single_top_pair.argtypes = (Address,)
    loaded.single_top_pair.restype = ctypes.c_int
    loaded.stacked_top_pair.argtypes = (
        *(Integer,) * 3,
        *(Address,) * 3,
        ctypes.c_double,
        ctypes.c_double,
        Integer,
        *(Address,) * 3,
    )
    loaded.stacked_top_pair.restype = ctypes.c_int
    loaded.thin_product.argtypes = (
        ctypes.c_int,
        *(Integer,) * 3,
        *(Address,) * 3,
        Integer,
        Address,
    )
    loaded.thin_product.restype = ctypes.c_int
    loaded.thin_product_is_fast.argtypes = ()
    loaded.thin_product_is_fast.restype = ctypes.c_int
    loaded.source_digest.argtypes = ()
    loaded.source_digest.restype = ctypes.c_char_p
    return loaded


def _check_digest(loaded: ctypes.CDLL, path: Path) -> None:
    """A check that the library was built from the sources beside it.

    Raises:
        OSError: The sources are there, and the library was built from others.
    """
    sources = [path.with_name(name) for name in SOURCES]
    if not all(source.is_file() for source in sources):
        return  # an installed wheel contains no sources
    here = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    if loaded.source_digest().decode() != here:
        raise OSError(f"built of other sources than the {', '.join(SOURCES)} beside it")


def loaded_library() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        RuntimeError: They cannot be used, which :func:`available` tells beforehand.
    """
    kernels = library()
    if kernels is None:
        raise RuntimeError("engine: expected compiled kernels that load, got none")
    return kernels


def available() -> bool:
    """Whether the compiled kernels can be used."""
    return library() is not None


def openmp() -> int | None:
    """The address of the function that runs another on the OpenMP threads of PyTorch.

    None without OpenMP, and in a process that was forked after this module was imported: such a process
    has no copy of those threads, and would wait for them forever.
    """
    return None if _forked else _openmp()


_forked = False


def _remember_the_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember_the_fork)


@cache
def _openmp() -> int | None:
    function = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    return None if function is None else ctypes.cast(function, Address).value


def engine_name() -> EngineName:
    """The name of the implementation that is used by default on a CPU."""
    return "compiled" if available() else "torch"


def aligned(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """An uninitialized tensor on the CPU that begins on a cache line, as PyTorch's allocator does it."""
    # The device is given because torch.set_default_device may have set another one.
    return torch.empty(shape, dtype=dtype, device=CPU)


def packed(values: Tensor) -> Tensor:
    """Values ``(B, …)`` in the layout ``(blocks, entries, 8)`` of the kernels, in new memory.

    The last block is filled up with copies of the last problem.
    """
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
    """Values in the layout ``(blocks, n, 8)`` of the kernels, as ``(B, n)`` for ``B = batch``."""
    return values.mT.reshape(-1, values.shape[1])[:batch]


def address(tensor: Tensor, *shape: int, dtype: torch.dtype = torch.float64) -> int:
    """The address of a tensor's memory, for compiled code that relies on this shape and type.

    Compiled code reads and writes as many numbers as the shape says. So everything that it relies
    on is checked here, immediately before the address is passed on.

    Raises:
        ValueError: The tensor has another shape or type, is not on the CPU, or its numbers are not
            stored row by row from a cache line on.
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
    """Values that all problems share, repeated for the lanes of a vector, shape ``(…, 8)``."""
    result = aligned(*values.shape, LANES)
    result.copy_(values[..., None])
    return result


def shared(work: Callable[[int, int], None], blocks: int) -> None:
    """Call ``work(first, last)`` for ranges of blocks, on as many threads as PyTorch may use.

    Each call handles the blocks from ``first`` up to but not including ``last``.
    """
    workers = max(1, min(torch.get_num_threads(), blocks))
    if workers == 1:
        work(0, blocks)
        return
    # Several ranges per thread, because ranges take different times and a thread may finish early.
    parts = min(blocks, 8 * workers)
    edges = [blocks * k // parts for k in range(parts + 1)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))
