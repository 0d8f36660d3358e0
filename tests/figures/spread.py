"""Numbers without a random generator."""

import numpy as np

GOLDEN = (5**0.5 - 1) / 2


def spread(count: int, low: float, high: float, offset: float = 0.0) -> np.ndarray:
    """Numbers that fill an interval evenly and in no visible order."""
    return low + (high - low) * np.modf(GOLDEN * (np.arange(count) + 1) + offset)[0]
