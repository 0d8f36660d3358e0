"""The entry point of the studies: runs one of them, given its name, on all networks of an experiment.

Each study is a module with a function ``study(ensemble, spec) -> DataFrame``, which measures the minimizers
of one network. Its constant ``STUDY`` declares which options it needs and which it takes.
"""

from collections.abc import Iterable
from importlib import import_module

import numpy as np
import pandas as pd
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import catalog
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec


def run(name: str, ensembles: Iterable[Ensemble], spec: StudySpec) -> pd.DataFrame:
    """The table of a study on all networks of an experiment, network after network.

    Raises:
        ValueError: There is no such study.
        UserError: The study has left out all minimizers, or one is too ill-conditioned for it.
    """
    if name not in catalog.studies():
        raise ValueError(f"name: expected one of {list(catalog.studies())}, got {name!r}")
    study = import_module(f"dmf_sharpness.studies.{name}").study
    try:
        tables: list[pd.DataFrame] = [study(ensemble, spec) for ensemble in ensembles]
    except (LinAlgError, np.linalg.LinAlgError, ArithmeticError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"studies.{name}: expected minimizers that float64 is accurate enough for, got: {reason}"
        ) from None
    tables = [table for table in tables if len(table)]
    if not tables:
        raise UserError(
            f"studies.{name}: expected step ratios at which a minimizer has one unstable direction, "
            "got none"
        )
    return pd.concat(tables, ignore_index=True)
