"""Lower bounds of other problems, larger ones, for the controls of claims that nothing is below a bound."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dmf_sharpness.claims.tolerances import EXACT


def next_larger(
    table: pd.DataFrame, bound: str, shape: Sequence[str] = ("experiment", "network")
) -> pd.Series:
    """The next larger bound among the problems of one shape.

    A minimizer that attains the bound of its own problem is below this one. So with this one in place of its
    own a claim that nothing is below the bound must be false there.

    Args:
        table: A row per minimizer.
        bound: The column with the bound of the row's problem.
        shape: The columns that problems of one shape have in common.

    Returns:
        A number per row of the table, NaN where no bound of the same shape is larger. Bounds that differ by
        rounding only count as one.
    """

    def larger(bounds: pd.Series) -> np.ndarray:
        values = np.sort(bounds)
        place = np.searchsorted(values, bounds * (1 + EXACT), side="right")
        return np.append(values, np.nan)[place]

    return table.groupby(list(shape))[bound].transform(larger)
