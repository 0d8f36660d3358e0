"""All claims, judged from the tables that there are."""

from collections.abc import Mapping

import pandas as pd

# Each of these modules enters its claims into the list when it is imported, and the ledger is in this order.
from dmf_sharpness.claims import escape, exactness, flatness, regularized  # noqa: F401
from dmf_sharpness.claims.claim import JUDGES, Claim


def judge(tables: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """All rows of the ledger that some tables bear on.

    Args:
        tables: By kind: ``sharpness``, ``bottleneck``, ``escape`` and ``studies/<name>``; each that of all
            experiments, one below the other, with a column ``experiment``. The claims on a table that is
            not there are left out.
    """
    rows = {name: table.reset_index(drop=True) for name, table in tables.items()}
    return [claim for name, judged in JUDGES if name in rows for claim in judged(rows[name])]
