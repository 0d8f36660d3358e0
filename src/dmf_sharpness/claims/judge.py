"""The judgement of all claims, from the tables that exist."""

from collections.abc import Mapping

import pandas as pd

# These modules are imported because each registers its claims when it is imported.
from dmf_sharpness.claims import (  # noqa: F401
    bottleneck,
    data,
    depth_2_and_scalars,
    directions,
    escape,
    exactness,
    flatness,
    landing,
    minibatches,
    necessity,
    norms,
    observed,
    recovery,
    regularized,
    trace,
    training,
)
from dmf_sharpness.claims.claim import JUDGES, Claim


def judge(tables: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """All rows of the ledger that can be judged from some tables.

    Args:
        tables: The tables by name: ``sharpness``, ``bottleneck``, ``escape`` and ``studies/<name>``. Each
            holds the rows of all experiments, with a column ``experiment``. Claims whose table is missing
            are left out.
    """
    rows = {name: table.reset_index(drop=True) for name, table in tables.items()}
    return [claim for name, judged in JUDGES if name in rows for claim in judged(rows[name])]
