"""The share of landings that the law misses, for every ``δ``: the table of ``docs/landing_law.md``."""

import pandas as pd

from dmf_sharpness.claims.landing import admissible
from dmf_sharpness.claims.tolerances import LANDING_REACH

MISS = 0.02
"""The law has missed if its ``1 − c_end`` is off by more than this share."""


def miss_rates(table: pd.DataFrame) -> pd.DataFrame:
    """The landing law at every ``δ``, within its reach and beyond.

    Args:
        table: The table of the study ``landing``.

    Returns:
        A row per ``δ``: ``excess``, ``admissible`` (the runs of which the law speaks), ``within`` (those
        with ``|ã|δ ≤ 1/2``), ``missed_within`` and ``missed``, the shares of the one and of the other
        that the law misses. A run that has not landed is missed.
    """
    rows = admissible(table)
    rows = rows.assign(
        excess=rows.excess.map(lambda excess: float(f"{excess:.6g}")),
        within=rows.refined.abs() * rows.excess <= LANDING_REACH,
        missed=~(((1 - rows.predicted_refined) / (1 - rows.end_ratio) - 1).abs() <= MISS),
    )
    groups = rows.groupby("excess")
    return pd.DataFrame(
        {
            "admissible": groups.size(),
            "within": groups.within.sum(),
            "missed_within": rows[rows.within].groupby("excess").missed.mean(),
            "missed": groups.missed.mean(),
        }
    ).reset_index()


def to_markdown(table: pd.DataFrame) -> str:
    """:func:`miss_rates` as a table in Markdown."""
    lines = [
        "| `δ` | minimizers | missed | within reach | missed of these |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in miss_rates(table).itertuples():
        every = f"{row.admissible} | {row.missed:.1%}"
        lines.append(f"| {row.excess:g} | {every} | {row.within} | {row.missed_within:.1%} |")
    return "\n".join(lines) + "\n"
