"""Standard starts of training: the initializations with which networks are trained in practice."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_integer, shown
from dmf_sharpness.network.randomness import random_generator

SMALL = 0.5
"""The factors of a small-scale start are those of a fan-in start times this."""


def _fan_in(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((rows, columns)) / math.sqrt(columns)


def _xavier(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((rows, columns)) * math.sqrt(2 / (rows + columns))


def _orthogonal(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    Q, R = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    Q = Q * np.sign(np.diag(R))  # otherwise Q is not uniformly distributed
    return Q if rows >= columns else Q.T


def _small(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    return SMALL * _fan_in(rows, columns, rng)


def _identity(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    return np.eye(rows, columns)


STARTS: Mapping[str, Callable[[int, int, np.random.Generator], np.ndarray]] = {
    "fan_in": _fan_in,
    "xavier": _xavier,
    "orthogonal": _orthogonal,
    "small": _small,
    "identity": _identity,
}
"""Each kind makes a factor ``W_i``, given its rows ``d_i``, its columns ``d_{i−1}`` and a generator."""


def standard_start(widths: Sequence[int], kind: str = "fan_in", seed: object = 0) -> list[Tensor]:
    """The factors with which training starts.

    Args:
        widths: ``(d_0, …, d_L)``, positive integers, ``L ≥ 1``.
        kind: ``fan_in``, independent entries ``N(0, 1/d_{i−1})``; ``xavier``, ``N(0, 2/(d_{i−1} + d_i))``
            (Glorot and Bengio, AISTATS 2010); ``orthogonal``, uniformly distributed with orthonormal rows
            or columns (Saxe, McClelland and Ganguli, arXiv:1312.6120); ``small``, half of ``fan_in``;
            ``identity``, ones on the diagonal.
        seed: An integer, a list of integers or a NumPy generator.

    Returns:
        ``[W_1 … W_L]``, float64, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        TypeError: A width or the seed is not an integer.
        ValueError: A width is not positive, there are fewer than two, or there is no such kind.

    >>> standard_start([2, 3, 1], "identity")[1]
    tensor([[1., 0., 0.]], dtype=torch.float64)
    """
    if not isinstance(kind, str) or kind not in STARTS:
        raise ValueError(f"kind: expected one of {list(STARTS)}, got {shown(kind)}")
    given: object = widths  # the annotation need not be true
    array = isinstance(given, Tensor | np.ndarray) and given.ndim == 1
    if not array and not isinstance(given, list | tuple):
        raise TypeError(f"widths: expected a list of integers, got {shown(widths)}")
    sizes = [checked_integer(width, "widths", least=1) for width in widths]
    if len(sizes) < 2:
        raise ValueError(f"widths: expected two or more, got {len(sizes)}")
    rng = random_generator(seed)
    return [
        torch.from_numpy(np.ascontiguousarray(STARTS[kind](rows, columns, rng)))
        for columns, rows in pairwise(sizes)
    ]
