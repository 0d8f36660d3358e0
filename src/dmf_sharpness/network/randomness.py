"""Reproducible random numbers: the same call always draws the same ones."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_integer

MOST_SEED = 2**128 - 1
"""The largest integer that is accepted as a seed."""


def gaussian(shape: Sequence[int], seed: int | torch.Generator, device: torch.device) -> Tensor:
    """Independent standard normal entries, float64, of the given shape.

    They are always drawn on the CPU, also if another device is the default one. So an iteration
    that starts with them starts with the same numbers on every device.
    """
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    numbers = torch.randn(tuple(shape), dtype=torch.float64, generator=generator, device="cpu")
    return numbers.to(device)


def random_generator(seed: object) -> np.random.Generator:
    """The random generator for a seed: an integer, a list of integers, or a generator itself.

    None is refused, because NumPy would then draw a new seed at every call.

    Raises:
        TypeError: ``seed`` is none of these.
        ValueError: An integer is negative or above ``2^128 − 1``.
    """
    if isinstance(seed, np.random.Generator | np.random.BitGenerator | np.random.SeedSequence):
        return np.random.default_rng(seed)
    if isinstance(seed, np.ndarray | Tensor) and seed.ndim == 1:
        seed = list(seed)
    if isinstance(seed, list | tuple):
        return np.random.default_rng([checked_integer(s, "seed", most=MOST_SEED) for s in seed])
    return np.random.default_rng(checked_integer(seed, "seed", most=MOST_SEED))
