"""Small tables for every figure, from formulas: no engine, no random numbers, the same everywhere."""

import pandas as pd

from dmf_sharpness.experiments import catalog
from dmf_sharpness.figures.tables import Tables
from tests.figures.tables import of_descent, of_minimizers, of_training


def tables() -> Tables:
    """All of them; the table of a study is the function of its name."""
    made = vars(of_minimizers) | vars(of_descent) | vars(of_training)
    return Tables(
        sharpness=of_minimizers.sharpness(),
        bottleneck=of_minimizers.bottleneck(),
        benchmark=of_minimizers.benchmark(),
        escape=pd.DataFrame(),
        trajectories=of_descent.trajectories(),
        landscape=of_descent.landscape(),
        studies={name: made[name]() for name in catalog.studies() if name in made},
    )
