"""The compiled engine of gradient descent: calls ``_kernels.c`` on as many threads as PyTorch may use."""

import ctypes
from itertools import pairwise

import torch

from dmf_sharpness.compiled.lanes import (
    CPU,
    LANES,
    Address,
    Integer,
    address,
    aligned,
    available,
    loaded_library,
    packed,
    shared,
    unpacked,
)
from dmf_sharpness.descent.state import Method, Observed, Runs, observation_steps

__all__ = ["LANES", "MOST_LAYERS", "advance", "available"]
MOST_LAYERS = 256
"""The kernel has room for this many layers; the same number stands in ``_kernels.c``."""


class _Problem(ctypes.Structure):
    """The struct ``problem`` of ``_kernels.c``, field by field."""

    _fields_ = (
        ("depth", Integer),
        ("widths", Address),
        ("columns", Integer),
        ("input_root", Address),
        ("parameters", Integer),
        ("runs", Integer),
        ("weights", Address),
        ("velocity", Address),
        ("target", Address),
        ("observed_weights", Address),
        ("inputs", Address),
        ("outputs", Address),
        ("drawn", Address),
        ("drawn_columns", Integer),
        ("eta", Address),
        ("limit", Address),
        ("floor", Address),
        ("previous", Address),
        ("growth", ctypes.c_double),
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
    """Take runs from step ``first`` to ``first + steps``, in place.

    The arguments and the result are those of :func:`dmf_sharpness.descent.torch_engine.advance`.
    """
    compiled = loaded_library()
    sizes = runs.widths
    depth, r, batch = len(sizes) - 1, runs.target.shape[-1], len(runs.w)
    N = sum(rows * columns for columns, rows in pairwise(sizes))
    blocks, axes = -(-batch // LANES), runs.directions.shape[1]
    shape = torch.tensor(sizes, dtype=torch.int64, device=CPU)
    times = (
        range(0) if observe_every is None else observation_steps(first, steps, final, observe_every)
    )
    root = None if method.input_root is None else aligned(sizes[0], r).copy_(method.input_root)
    loss, outputs = aligned(blocks, 1, LANES), (batch, sizes[-1], r)
    eta, limit, floor, previous = map(packed, (runs.eta, runs.limit, runs.floor, runs.previous))
    taken, outcome = map(packed, (runs.taken, runs.outcome))
    problem = _Problem(
        depth=depth,
        widths=address(shape, depth + 1, dtype=torch.int64),
        columns=r,
        input_root=None if root is None else address(root, sizes[0], r),
        parameters=N,
        runs=batch,
        weights=address(runs.w, batch, N),
        velocity=None if runs.velocity is None else address(runs.velocity, batch, N),
        target=address(runs.target, *outputs),
        observed_weights=None if runs.observed is None else address(runs.observed, *outputs),
        eta=address(eta, blocks, 1, LANES),
        limit=address(limit, blocks, 1, LANES),
        floor=address(floor, blocks, 1, LANES),
        previous=address(previous, blocks, 1, LANES),
        growth=method.growth,
        momentum=method.momentum,
        nesterov=method.nesterov,
        first_step=first,
        steps=steps,
        final=final,
        check_every=method.check_every,
        taken=address(taken, blocks, 1, LANES, dtype=torch.int64),
        outcome=address(outcome, blocks, 1, LANES, dtype=torch.int64),
        loss=address(loss, blocks, 1, LANES),
        observe_every=0,
        axes=axes,
        blocks=blocks,
    )
    if method.minibatch is not None:
        part = method.minibatch
        n, m = part.inputs.shape[1], part.size
        X, Y = aligned(n, sizes[0]), aligned(n, sizes[-1])
        X.copy_(part.scale * part.inputs.mT)
        Y.copy_(part.scale * part.outputs.mT)
        # Both engines draw with NumPy, so that they use the same columns.
        drawn = aligned(steps, m, dtype=torch.int64)
        for step in range(steps):
            drawn[step] = part.columns(first + step)
        problem.inputs = address(X, n, sizes[0])
        problem.outputs = address(Y, n, sizes[-1])
        problem.drawn = address(drawn, steps, m, dtype=torch.int64)
        problem.drawn_columns = m
    if observe_every is not None:
        reference, directions = packed(runs.reference), packed(runs.directions)
        observed = aligned(len(times), blocks, 2 + axes, LANES).fill_(torch.nan)
        path = aligned(len(times), blocks, N, LANES).fill_(torch.nan) if keep_path else None
        problem.observe_every = observe_every
        problem.reference = address(reference, blocks, N, LANES)
        problem.directions = address(directions, blocks, axes * N, LANES)
        problem.observed = address(observed, len(times), blocks, 2 + axes, LANES)
        if path is not None:
            problem.path = address(path, len(times), blocks, N, LANES)

    def work(first_block: int, last_block: int) -> None:
        size = compiled.scratch_size(ctypes.byref(problem))
        scratch = aligned(size)
        refused = compiled.descend(
            ctypes.byref(problem), first_block, last_block, address(scratch, size)
        )
        if refused:
            raise ValueError(f"factors: expected at most {MOST_LAYERS} layers, got {depth}")

    shared(work, blocks)
    runs.taken, runs.outcome, runs.previous, runs.limit, runs.loss = (
        unpacked(x, batch)[:, 0].contiguous() for x in (taken, outcome, previous, limit, loss)
    )
    if observe_every is None:
        return None
    K, padded = len(times), blocks * LANES
    rows = observed.transpose(2, 3).reshape(K, padded, 2 + axes)[:, :batch]
    points = None if path is None else path.transpose(2, 3).reshape(K, padded, N)[:, :batch]
    ended = torch.tensor(times, dtype=torch.int64, device=CPU)[:, None] > runs.taken
    rows = rows.masked_fill(ended[..., None], torch.nan)
    if points is not None:
        points = points.masked_fill(ended[..., None], torch.nan)
    return Observed(rows[..., 0], rows[..., 1].sqrt(), rows[..., 2:], points)
