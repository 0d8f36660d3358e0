"""The input of the figures: the tables of all experiments, and the contour map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from dmf_sharpness.artifacts.store import read_arrays, read_studies, read_tables
from dmf_sharpness.errors import UserError


@dataclass(frozen=True)
class Tables:
    """The artifacts of the earlier stages; a table that the figure does not need is empty.

    Attributes:
        sharpness: A row per minimizer.
        bottleneck: A row per bottlenecked minimizer.
        benchmark: A row per problem and tool.
        escape: A row per run of gradient descent.
        trajectories: A row per step of a recorded run.
        landscape: ``along_top`` ``(A,)``, ``along_flattening`` ``(B,)`` and ``loss`` ``(B, A)``.
        studies: The table of each study, by the name of the study.
    """

    sharpness: pd.DataFrame
    bottleneck: pd.DataFrame
    benchmark: pd.DataFrame
    escape: pd.DataFrame
    trajectories: pd.DataFrame
    landscape: dict[str, np.ndarray]
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
        landscape=read_arrays(landscape, "landscape")[0] if landscape else {},
        studies=read_studies(studies),
    )


def check_drawn(tables: Tables, names: Sequence[str]) -> None:
    """Make sure that there is something to draw.

    Args:
        tables: The artifacts that were read.
        names: The artifacts that the figure needs, as the attribute ``tables`` of its
            :class:`dmf_sharpness.experiments.catalog.FigureInputs` names them.

    Raises:
        UserError: One is missing or has no rows; the message names the option that gives it.
    """
    for name in names:
        option, _, study = name.partition("/")
        given = getattr(tables, option)
        if study:
            given = given.get(study, pd.DataFrame())
        if len(given) == 0:
            got = "tables without rows" if len(getattr(given, "columns", ())) > 0 else "none"
            raise UserError(f"--{option}: expected tables of {name}, got {got}")


@contextmanager
def refused_if_not_drawable(output: Path) -> Iterator[None]:
    """A block in which an error of drawing becomes an error of one line.

    Some faults show only in drawing, for instance that a phase diagram has a single step ratio.

    Raises:
        UserError: The block cannot draw the numbers that it was given.
    """
    try:
        yield
    except UserError:
        raise
    except (ValueError, LookupError, ArithmeticError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{output}: these tables cannot be drawn ({reason})") from error
