"""Random numbers that the same call always draws alike."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_integer

MOST_SEED = 2**128 - 1


def gaussian(shape: Sequence[int], seed: int | torch.Generator, device: torch.device) -> Tensor:
    """Independent standard normal entries, float64, for an iteration to start at.

    They are drawn on the CPU, whatever the default device is, and so are the same on every device.
    """
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    numbers = torch.randn(tuple(shape), dtype=torch.float64, generator=generator, device="cpu")
    return numbers.to(device)


def random_generator(seed: object) -> np.random.Generator:
    """The generator that a seed stands for: an integer, a list of some, or a generator itself.

    None is refused: NumPy would draw another seed at every call.

    Raises:
        TypeError: It is none of these.
        ValueError: An integer is negative.
    """
    if isinstance(seed, np.random.Generator | np.random.BitGenerator | np.random.SeedSequence):
        return np.random.default_rng(seed)
    if isinstance(seed, np.ndarray | Tensor) and seed.ndim == 1:
        seed = list(seed)
    if isinstance(seed, list | tuple):
        return np.random.default_rng([checked_integer(s, "seed", most=MOST_SEED) for s in seed])
    return np.random.default_rng(checked_integer(seed, "seed", most=MOST_SEED))
