"""One study, by its name, on all networks of an experiment.

Each module here has one function, ``study(ensemble, spec) -> DataFrame``: all its runs on the minimizers of
one network, a row for each. It says in ``STUDY`` which options it needs and takes.
"""

from collections.abc import Iterable
from importlib import import_module

import pandas as pd

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import catalog
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec


def run(name: str, ensembles: Iterable[Ensemble], spec: StudySpec) -> pd.DataFrame:
    """One study on all networks of an experiment, their tables one below the other.

    Raises:
        ValueError: There is no such study.
        UserError: It leaves all minimizers out.
    """
    if name not in catalog.studies():
        raise ValueError(f"name: expected one of {list(catalog.studies())}, got {name!r}")
    study = import_module(f"dmf_sharpness.studies.{name}").study
    tables: list[pd.DataFrame] = [study(ensemble, spec) for ensemble in ensembles]
    tables = [table for table in tables if len(table)]
    if not tables:
        raise UserError(
            f"studies.{name}: expected step ratios at which a minimizer has one unstable direction, "
            "got none"
        )
    return pd.concat(tables, ignore_index=True)
