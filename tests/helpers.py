"""Networks and strategies that several tests share."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from hypothesis import strategies as st
from torch import Tensor

from dmf_sharpness.compiled import lanes
from dmf_sharpness.minimizers.basic import random_minimizer
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.scaling import times_power

if TYPE_CHECKING:
    from dmf_sharpness.experiments.ensembles import Ensemble

NETWORKS = [
    (4, 8, 4),
    (3, 10, 7),
    (4, 8, 8, 4),
    (8, 6, 9, 2),
    (5, 6, 6, 6, 6, 5),
    (1, 4, 4, 1),
    (1, *[3] * 14, 1),
]

COMPILED = ["compiled"] if lanes.available() else []
"""The methods of ``sharpness`` that need a compiler."""


@st.composite
def networks(draw: st.DrawFn, max_depth: int = 5) -> tuple[int, ...]:
    """Widths whose hidden layers can hold a full-rank target."""
    ends = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    hidden = st.integers(min(ends), 6)
    inner = draw(st.lists(hidden, min_size=1, max_size=max_depth - 1))
    return (ends[0], *inner, ends[1])


def random_problem(widths: tuple[int, ...], seed: int) -> tuple[Tensor, list[Tensor]]:
    """A Gaussian target and a random minimizer."""
    target = gaussian_matrix(widths[-1], widths[0], [seed, 1])
    return target, random_minimizer(target, widths[1:-1], [seed, 2])


def random_point(widths: tuple[int, ...], seed: int) -> list[Tensor]:
    """Factors that are no minimizer of anything."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(d_out, d_in, generator=generator, dtype=torch.float64)
        for d_in, d_out in pairwise(widths)
    ]


Maker = Callable[[Tensor, Sequence[int], int], list[Tensor]]


def ensemble_of(
    network: int, widths: tuple[int, ...], makers: Sequence[Maker], targets: Sequence[Tensor] = ()
) -> "Ensemble":
    """A minimizer by each of the makers, of the targets given or of Gaussian ones."""
    from dmf_sharpness.experiments.ensembles import Ensemble  # which needs the pipeline's packages

    count = len(makers)
    targets = targets or [gaussian_matrix(widths[-1], widths[0], [5, k]) for k in range(count)]
    made = [
        make(M, widths[1:-1], k) for k, (M, make) in enumerate(zip(targets, makers, strict=True))
    ]
    return Ensemble(
        network=network,
        widths=widths,
        kinds=("random",) * count,
        factors=[torch.stack(layer) for layer in zip(*made, strict=True)],
        target=torch.stack(list(targets)),
        input_root=None,
    )


def times(factors, exponent):
    """``2^exponent W_i``, exactly as long as no entry leaves the range."""
    return [times_power(W, torch.tensor(float(exponent))) for W in factors]
