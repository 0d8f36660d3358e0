"""The compiled engine: ``_kernels.c`` behind :func:`advance`, on as many threads as PyTorch may use.

Built by ``pip install`` where there is a C compiler. It is called through :mod:`ctypes`, which lets
go of the interpreter lock, so plain threads share the work.
"""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

from dmf_sharpness.engines import Method, Observed, Runs, observation_steps

LANES = 8
"""Runs side by side in one vector; as in ``_kernels.c``."""
MOST_LAYERS = 256
"""As in ``_kernels.c``."""

_Address = ctypes.c_void_p
_Integer = ctypes.c_int64


class _Problem(ctypes.Structure):
    """The struct ``problem`` of ``_kernels.c``, field by field."""

    _fields_ = (
        ("depth", _Integer),
        ("widths", _Address),
        ("columns", _Integer),
        ("input_root", _Address),
        ("parameters", _Integer),
        ("weights", _Address),
        ("velocity", _Address),
        ("target", _Address),
        ("eta", _Address),
        ("limit", _Address),
        ("floor", _Address),
        ("previous", _Address),
        ("momentum", ctypes.c_double),
        ("nesterov", _Integer),
        ("first_step", _Integer),
        ("steps", _Integer),
        ("final", _Integer),
        ("check_every", _Integer),
        ("taken", _Address),
        ("outcome", _Address),
        ("loss", _Address),
        ("observe_every", _Integer),
        ("axes", _Integer),
        ("reference", _Address),
        ("directions", _Address),
        ("observed", _Address),
        ("path", _Address),
        ("blocks", _Integer),
    )


@cache
def _library() -> ctypes.CDLL | None:
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_kernels{suffix}")
        if path.is_file():
            library = ctypes.CDLL(os.fspath(path))
            library.descend.argtypes = (ctypes.POINTER(_Problem), _Integer, _Integer, _Address)
            library.descend.restype = ctypes.c_int
            library.scratch_size.argtypes = (_Integer, _Address, _Integer)
            library.scratch_size.restype = _Integer
            return library
    return None


def available() -> bool:
    """Whether the kernel was compiled when the package was installed."""
    return _library() is not None


def _aligned(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """An empty tensor that begins on a cache line; PyTorch's allocator aligns to 64 bytes."""
    tensor = torch.empty(shape, dtype=dtype)
    assert tensor.data_ptr() % 64 == 0
    return tensor


def _packed(values: Tensor) -> Tensor:
    """``(B, …)`` as ``(blocks, …, 8)``; the last block is filled up with copies of the last run."""
    batch = values.shape[0]
    blocks = -(-batch // LANES)
    if blocks * LANES != batch:
        filling = values[-1:].expand(blocks * LANES - batch, *values.shape[1:])
        values = torch.cat([values, filling])
    lanes = values.reshape(blocks, LANES, -1).mT
    packed = _aligned(blocks, lanes.shape[1], LANES, dtype=values.dtype)
    packed.copy_(lanes)
    return packed


def _unpacked(packed: Tensor, batch: int) -> Tensor:
    """``(blocks, n, 8)`` as ``(B, n)``."""
    return packed.mT.reshape(-1, packed.shape[1])[:batch]


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def advance(
    runs: Runs,
    method: Method,
    first: int,
    steps: int,
    final: bool,
    observe_every: int | None,
    keep_path: bool,
) -> Observed | None:
    """Take runs from step ``first`` to ``first + steps``, in place; as :func:`engines.advance`."""
    library = _library()
    assert library is not None
    batch, N = runs.w.shape
    blocks = -(-batch // LANES)
    depth, r = len(runs.widths) - 1, runs.target.shape[-1]
    shape = torch.tensor(runs.widths, dtype=torch.int64)
    axes = runs.directions.shape[1]
    root = None
    if method.input_root is not None:
        root = _aligned(*method.input_root.shape, LANES)
        root.copy_(method.input_root[..., None])
    times = (
        range(0) if observe_every is None else observation_steps(first, steps, final, observe_every)
    )
    observed = _aligned(len(times), blocks, 2 + axes, LANES).fill_(torch.nan)
    path = _aligned(len(times), blocks, N, LANES).fill_(torch.nan) if keep_path else None
    w, loss = _packed(runs.w), _aligned(blocks, 1, LANES)
    velocity = None if runs.velocity is None else _packed(runs.velocity)
    taken, outcome, previous = map(_packed, (runs.taken, runs.outcome, runs.previous))
    held = [_packed(x) for x in (runs.target, runs.eta, runs.limit, runs.floor)]
    seen = [_packed(x) for x in (runs.reference, runs.directions)] if observe_every else [None] * 2
    problem = _Problem(
        depth, shape.data_ptr(), r, _address(root), N, w.data_ptr(), _address(velocity),
        *map(_address, held), previous.data_ptr(), method.momentum, method.nesterov,
        first, steps, final, method.check_every, taken.data_ptr(), outcome.data_ptr(),
        loss.data_ptr(), observe_every or 0, axes, *map(_address, seen), observed.data_ptr(),
        _address(path), blocks,
    )  # fmt: skip

    def work(first_block: int, last_block: int) -> None:
        scratch = _aligned(library.scratch_size(depth, shape.data_ptr(), r))
        library.descend(ctypes.byref(problem), first_block, last_block, scratch.data_ptr())

    workers = max(1, min(torch.get_num_threads(), blocks))
    if workers == 1:
        work(0, blocks)
    else:
        # Several parts per thread: runs end at different times.
        parts = min(blocks, 8 * workers)
        edges = [blocks * k // parts for k in range(parts + 1)]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, edges[:-1], edges[1:]))

    runs.w = _unpacked(w, batch)
    runs.velocity = None if velocity is None else _unpacked(velocity, batch)
    runs.taken, runs.outcome, runs.previous, runs.loss = (
        _unpacked(x, batch)[:, 0].contiguous() for x in (taken, outcome, previous, loss)
    )
    if observe_every is None:
        return None
    rows = observed.transpose(2, 3).reshape(len(times), blocks * LANES, 2 + axes)[:, :batch]
    points = None if path is None else path.transpose(2, 3).reshape(len(times), -1, N)[:, :batch]
    ended = torch.tensor(times)[:, None] > runs.taken
    rows = rows.masked_fill(ended[..., None], torch.nan)
    if points is not None:
        points = points.masked_fill(ended[..., None], torch.nan)
    return Observed(rows[..., 0], rows[..., 1].sqrt(), rows[..., 2:], points)
