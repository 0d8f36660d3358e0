"""Groups of minimizers in the tables of the sharpness and of searches: by target, widths and products."""

import pandas as pd

from dmf_sharpness.claims.tolerances import BALANCED

EXCESS = "relative excess sharpness, λ_max / λ_flat − 1"


def factorization(table: pd.DataFrame) -> pd.DataFrame:
    """The minimizers of matrix factorization, without data."""
    return table[table.flat_sharpness.notna()]


def is_scalar(table: pd.DataFrame) -> pd.Series:
    """Whether the product of the factors is a single number."""
    return table.widths.str.match(r"1-.*-1$")


def is_settled(table: pd.DataFrame) -> pd.Series:
    """Whether the paper claims that the balance condition is necessary: at depth 2 and for scalars."""
    return is_scalar(table) | (table.depth == 2)


def is_balanced(table: pd.DataFrame) -> pd.Series:
    """Whether all spectral products have the right value."""
    return table.spectral_imbalance <= BALANCED


def has_wrong_value(table: pd.DataFrame) -> pd.Series:
    """Whether all spectral products are equal, but have a wrong value."""
    return (table.product_spread <= BALANCED) & ~is_balanced(table)
