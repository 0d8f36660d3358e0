"""What a figure may read: the tables of all experiments, and the contour map."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from torch import Tensor

from dmf_sharpness.artifacts import read_table, read_tensors


@dataclass(frozen=True)
class Tables:
    """Artifacts of the earlier stages; an empty table where a figure needs none.

    Attributes:
        sharpness: A row per minimizer.
        escape: A row per run of gradient descent.
        trajectories: A row per step of a recorded run.
        landscape: ``along_top`` ``(A,)``, ``along_flattening`` ``(B,)`` and ``loss`` ``(B, A)``.
    """

    sharpness: pd.DataFrame
    escape: pd.DataFrame
    trajectories: pd.DataFrame
    landscape: dict[str, Tensor]


def _stacked(paths: Sequence[Path], kind: str) -> pd.DataFrame:
    frames = []
    for path in paths:
        table, header = read_table(path, kind)
        frames.append(table.assign(experiment=header["experiment"]))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def load_tables(
    sharpness: Sequence[Path] = (),
    escape: Sequence[Path] = (),
    trajectories: Sequence[Path] = (),
    landscape: Path | None = None,
) -> Tables:
    """Read and check the artifacts that a figure draws.

    Raises:
        ArtifactError: A file is missing, damaged, or of another kind.
    """
    return Tables(
        sharpness=_stacked(sharpness, "sharpness"),
        escape=_stacked(escape, "escape"),
        trajectories=_stacked(trajectories, "trajectories"),
        landscape=read_tensors(landscape, "landscape")[0] if landscape else {},
    )
