"""The studies: of the escape (when, how fast, where to, the map of it all), of flatness and beyond.

Each module has one function, ``study(ensemble, spec) -> DataFrame``: all its runs on the minimizers of one
network, a row for each. :func:`run` finds it by name.
"""

from collections.abc import Iterable
from importlib import import_module

import pandas as pd

from dmf_sharpness.ensembles import Ensemble
from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import StudySpec

STUDIES = (
    "landing",
    "soft",
    "threshold",
    "timing",
    "starts",
    "phase",
    "orbits",
    "flattest",
    "necessity",
    "paths",
    "structure",
    "regularized",
)


def run(name: str, ensembles: Iterable[Ensemble], spec: StudySpec) -> pd.DataFrame:
    """One study on all networks of an experiment, their tables one below the other.

    Raises:
        ValueError: There is no such study.
        UserError: It leaves all minimizers out.
    """
    if name not in STUDIES:
        raise ValueError(f"name: expected one of {list(STUDIES)}, got {name!r}")
    study = import_module(f"dmf_sharpness.studies.{name}").study
    tables: list[pd.DataFrame] = [study(ensemble, spec) for ensemble in ensembles]
    tables = [table for table in tables if len(table)]
    if not tables:
        raise UserError(
            f"studies.{name}: expected step ratios at which a minimizer has one unstable direction, "
            "got none"
        )
    return pd.concat(tables, ignore_index=True)
