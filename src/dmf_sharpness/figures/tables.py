"""What a figure may read: the tables of all experiments, and the contour map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dmf_sharpness.artifacts import read_studies, read_tables, read_tensors

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Tables:
    """Artifacts of the earlier stages; an empty table where a figure needs none.

    Attributes:
        sharpness: A row per minimizer.
        bottleneck: A row per bottlenecked minimizer.
        benchmark: A row per problem and tool.
        escape: A row per run of gradient descent.
        trajectories: A row per step of a recorded run.
        landscape: ``along_top`` ``(A,)``, ``along_flattening`` ``(B,)`` and ``loss`` ``(B, A)``.
        studies: The tables of each study of the escape, by its name.
    """

    sharpness: pd.DataFrame
    bottleneck: pd.DataFrame
    benchmark: pd.DataFrame
    escape: pd.DataFrame
    trajectories: pd.DataFrame
    landscape: dict[str, Tensor]
    studies: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def load_tables(
    sharpness: Sequence[Path] = (),
    escape: Sequence[Path] = (),
    trajectories: Sequence[Path] = (),
    landscape: Path | None = None,
    bottleneck: Sequence[Path] = (),
    benchmark: Sequence[Path] = (),
    studies: Sequence[Path] = (),
) -> Tables:
    """Read and check the artifacts that a figure draws.

    Raises:
        ArtifactError: A file is missing, damaged, or of another kind.
    """
    return Tables(
        sharpness=read_tables(sharpness, "sharpness"),
        bottleneck=read_tables(bottleneck, "bottleneck"),
        benchmark=read_tables(benchmark, "benchmark"),
        escape=read_tables(escape, "escape"),
        trajectories=read_tables(trajectories, "trajectories"),
        landscape=read_tensors(landscape, "landscape")[0] if landscape else {},
        studies=read_studies(studies),
    )
