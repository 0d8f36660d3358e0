"""The compiled engine: ``_kernels.c`` behind :func:`advance`, on as many threads as PyTorch may use."""

import ctypes

import torch

from dmf_sharpness.engines import Method, Observed, Runs, observation_steps
from dmf_sharpness.lanes import (
    LANES,
    Address,
    Integer,
    address,
    aligned,
    available,
    broadcast,
    library,
    packed,
    shared,
    unpacked,
)

__all__ = ["LANES", "MOST_LAYERS", "advance", "available"]
MOST_LAYERS = 256
"""As in ``_kernels.c``."""


class _Problem(ctypes.Structure):
    """The struct ``problem`` of ``_kernels.c``, field by field."""

    _fields_ = (
        ("depth", Integer),
        ("widths", Address),
        ("columns", Integer),
        ("input_root", Address),
        ("parameters", Integer),
        ("weights", Address),
        ("velocity", Address),
        ("target", Address),
        ("eta", Address),
        ("limit", Address),
        ("floor", Address),
        ("previous", Address),
        ("momentum", ctypes.c_double),
        ("nesterov", Integer),
        ("first_step", Integer),
        ("steps", Integer),
        ("final", Integer),
        ("check_every", Integer),
        ("taken", Address),
        ("outcome", Address),
        ("loss", Address),
        ("observe_every", Integer),
        ("axes", Integer),
        ("reference", Address),
        ("directions", Address),
        ("observed", Address),
        ("path", Address),
        ("blocks", Integer),
    )


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
    compiled = library()
    assert compiled is not None
    batch, N = runs.w.shape
    blocks = -(-batch // LANES)
    depth, r = len(runs.widths) - 1, runs.target.shape[-1]
    shape = torch.tensor(runs.widths, dtype=torch.int64)
    axes = runs.directions.shape[1]
    root = None
    if method.input_root is not None:
        root = broadcast(method.input_root)
    times = (
        range(0) if observe_every is None else observation_steps(first, steps, final, observe_every)
    )
    observed = aligned(len(times), blocks, 2 + axes, LANES).fill_(torch.nan)
    path = aligned(len(times), blocks, N, LANES).fill_(torch.nan) if keep_path else None
    w, loss = packed(runs.w), aligned(blocks, 1, LANES)
    velocity = None if runs.velocity is None else packed(runs.velocity)
    taken, outcome, previous = map(packed, (runs.taken, runs.outcome, runs.previous))
    held = [packed(x) for x in (runs.target, runs.eta, runs.limit, runs.floor)]
    seen = [packed(x) for x in (runs.reference, runs.directions)] if observe_every else [None] * 2
    problem = _Problem(
        depth, shape.data_ptr(), r, address(root), N, w.data_ptr(), address(velocity),
        *map(address, held), previous.data_ptr(), method.momentum, method.nesterov,
        first, steps, final, method.check_every, taken.data_ptr(), outcome.data_ptr(),
        loss.data_ptr(), observe_every or 0, axes, *map(address, seen), observed.data_ptr(),
        address(path), blocks,
    )  # fmt: skip

    def work(first_block: int, last_block: int) -> None:
        scratch = aligned(compiled.scratch_size(depth, shape.data_ptr(), r))
        compiled.descend(ctypes.byref(problem), first_block, last_block, scratch.data_ptr())

    shared(work, blocks)
    runs.w = unpacked(w, batch)
    runs.velocity = None if velocity is None else unpacked(velocity, batch)
    runs.taken, runs.outcome, runs.previous, runs.loss = (
        unpacked(x, batch)[:, 0].contiguous() for x in (taken, outcome, previous, loss)
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
