"""Tables of a few rows that are written by hand, and the rows of the ledger that they give."""

import pandas as pd


def table(**columns):
    """Rows of different problems of one experiment."""
    count = len(next(iter(columns.values())))
    given = {"experiment": "e", "network": 0, "problem": range(count)}
    return pd.DataFrame({**given, **columns})


def rows(judge, frame):
    return {claim.id: claim for claim in judge(frame)}


def numbers(claim):
    return claim.value, claim.n, claim.control.value, claim.control.n
