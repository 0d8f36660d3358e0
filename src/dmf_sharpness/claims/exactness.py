"""C1, exactness: the closed form is the sharpness at any minimizer; also spectrum, eigenvector and bounds."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import BALANCED, DIGITS, EXACT, SHARP, SPECTRUM

DIFFERENCE = "relative difference of exact sharpness and dense Hessian"


def _off(value: pd.Series, rows: pd.DataFrame) -> pd.Series:
    """The relative difference of a value and the largest eigenvalue of the dense Hessian."""
    return (value / rows.oracle_sharpness - 1).abs()


@judged_from("sharpness")
def closed_form(table: pd.DataFrame) -> Iterator[Claim]:
    """The closed form in matrix factorization, at all minimizers and at those that are not flat.

    At flat minimizers the sharpness was known before (Mulayoff and Michaeli, arXiv:2002.04710). Only the
    others are evidence for *any* minimizer, so they also have a row of their own.
    """
    rows = table[table.flat_sharpness.notna()]
    sharp = rows[rows.excess > SHARP]
    known = _off(sharp.control_sharpness, sharp)
    yield judged(
        "C1.sharpness",
        origin="paper",
        claim=(
            "The closed form is the largest Hessian eigenvalue at any minimizer of "
            "deep matrix factorization."
        ),
        statistic=DIFFERENCE,
        tolerance=EXACT,
        rows=rows,
        values=_off(rows.sharpness, rows),
        control="the value at flat minimizers, used at those that are not flat",
        control_values=known,
    )
    yield judged(
        "C1.any",
        origin="paper",
        claim=(
            f"It is so at minimizers that are not flat, taken alone (relative excess above {SHARP:.0e})."
        ),
        statistic=DIFFERENCE,
        tolerance=EXACT,
        rows=sharp,
        values=_off(sharp.sharpness, sharp),
        control="the value at flat minimizers, which Mulayoff and Michaeli have, used there",
        control_values=known,
    )


@judged_from("sharpness")
def closed_form_on_data(table: pd.DataFrame) -> Iterator[Claim]:
    """The closed form in deep linear network training, where it contains the inputs."""
    rows = table[table.flat_sharpness.isna()]
    yield judged(
        "C1.data",
        origin="paper",
        claim=(
            "The closed form is the largest Hessian eigenvalue at a minimizer of "
            "deep linear network training."
        ),
        statistic=DIFFERENCE,
        tolerance=EXACT,
        rows=rows,
        values=_off(rows.sharpness, rows),
        control="the closed form with the data left out",
        control_values=_off(rows.control_sharpness, rows),
    )


@judged_from("studies/many_digits")
def to_fifty_digits(table: pd.DataFrame) -> Iterator[Claim]:
    """The closed form at eighty digits, where a formula that is right to rounding only would show."""
    wrong = pd.concat([table.control_difference, table.float_difference], ignore_index=True)
    yield judged(
        "C1.digits",
        origin="ours",
        claim=(
            f"At depths {table.depth.min()} to {table.depth.max()}, also on data, the closed form agrees to "
            "fifty digits and more with the top eigenvalue of a Hessian in rational arithmetic."
        ),
        statistic="relative difference of the two, both computed with eighty digits",
        tolerance=DIGITS,
        rows=table,
        values=table.difference,
        control=(
            "the formula for flat minimizers, or on data the closed form without them; "
            "and the closed form in float64"
        ),
        control_values=wrong,
    )


@judged_from("sharpness")
def spectrum(table: pd.DataFrame) -> Iterator[Claim]:
    """All nonzero eigenvalues of the Hessian, not only the largest."""
    # At the flat minimizers of a scalar target the only nonzero eigenvalue is one and the same.
    sharp = table[~(table.excess <= SHARP)]
    yield judged(
        "C1.spectrum",
        origin="ours",
        claim="The same operator has the whole nonzero Hessian spectrum, multiplicities included.",
        statistic="largest eigenvalue difference over λ_max",
        tolerance=SPECTRUM,
        rows=table,
        values=table.spectrum_difference,
        control="the spectrum of another minimizer of the network, where it is not flat",
        control_values=sharp.control_spectrum_difference.dropna(),
    )


@judged_from("studies/spectrum")
def zeros(table: pd.DataFrame) -> Iterator[Claim]:
    """The number of eigenvalues that are zero."""
    rows = table.drop_duplicates(["experiment", "network", "minimizer"])
    yield judged(
        "C1.zeros",
        origin="ours",
        claim=(
            "As many Hessian eigenvalues are zero as the ranks of the products L_i and R_i say: "
            "N − Σ_i (rank L_i − rank L_{i−1}) rank R_i, rank L_0 = 0, of N parameters, for targets of "
            f"ranks {rows['rank'].min()} to {rows['rank'].max()}."
        ),
        statistic="difference from the number of zeros of the dense Hessian",
        tolerance=0.0,
        rows=rows,
        values=(rows.predicted_zeros - rows.zeros).abs().astype(float),
        control="N − Σ_i rank L_i rank R_i, as if the terms of the operator did not overlap",
        control_values=(rows.control_zeros - rows.zeros).abs().astype(float),
    )


@judged_from("sharpness")
def eigenvector(table: pd.DataFrame) -> Iterator[Claim]:
    """The top eigenvector of the Hessian, along which gradient descent leaves."""
    yield judged(
        "C1.eigenvector",
        origin="ours",
        claim="The top eigenvector in parameter space is U_i ∝ L_iᵀ Y R_iᵀ.",
        statistic="‖Hv − λv‖ / λ with the dense Hessian",
        tolerance=SPECTRUM,
        rows=table,
        values=table.eigenvector_residual,
        control="the eigenvector of another minimizer of the network",
        control_values=table.control_eigenvector_residual.dropna(),
    )


@judged_from("studies/paths")
def along_paths(table: pd.DataFrame) -> Iterator[Claim]:
    """The closed form along paths through the set of minimizers, which start at flat ones."""
    sharp = table[table.oracle_sharpness > (1 + SHARP) * table.flat_sharpness]
    yield judged(
        "C1.paths",
        origin="ours",
        claim=(
            "The closed form is exact all along random paths through the set of minimizers "
            "that start at flat ones."
        ),
        statistic=DIFFERENCE,
        tolerance=EXACT,
        rows=table,
        values=_off(table.sharpness, table),
        control="the value at their flat start, used where they are not flat",
        control_values=_off(sharp.flat_sharpness, sharp),
    )


@judged_from("sharpness")
def bounds(table: pd.DataFrame) -> Iterator[Claim]:
    """The bounds on the sharpness that the spectral norms of the intermediate factors give."""
    table = table[table.flat_sharpness.notna()]
    lower = table.flat_sharpness / table.depth * table.largest_product**2
    upper = table.flat_sharpness * (1 + table.balance_excess)
    over_lower, below_upper = table.oracle_sharpness / lower - 1, upper / table.oracle_sharpness - 1

    def outside(least: pd.Series, most: pd.Series) -> pd.Series:
        sides = [least / table.oracle_sharpness, table.oracle_sharpness / most]
        return pd.concat(sides, axis=1).max(axis=1) - 1

    yield judged(
        "C1.bounds",
        origin="ours",
        claim="Spectral norms alone bound it: 2 max p_i² ≤ λ_max ≤ 2 Σ p_i², p_i = ‖L_i‖‖R_i‖.",
        statistic="relative violation of either bound by the dense Hessian",
        tolerance=EXACT,
        rows=table,
        values=outside(lower, upper),
        control="the two bounds exchanged",
        control_values=outside(upper, lower),
    )
    scalar = table.widths.str.match(r"1-.*-1$")
    simple = scalar | (table.depth == 2) | (table.spectral_imbalance <= BALANCED)
    # The kind that is left out is made so that the bound is attained.
    others = ~simple & (table.kind != "equal_sharp")
    yield judged(
        "C1.bounds_upper",
        origin="ours",
        claim="The upper bound is attained at depth 2, for scalars, and if all p_i have the right value.",
        statistic="relative distance of the sharpness below it",
        tolerance=EXACT,
        rows=table[simple],
        values=below_upper[simple],
        control="other minimizers, but not those made with equal products of a wrong value",
        control_values=below_upper[others],
    )
    one = table.kind == "one_term"
    if one.any():
        yield judged(
            "C1.bounds_lower",
            origin="ours",
            claim="The lower bound is attained from depth 3 on: one layer can decide alone.",
            statistic="relative distance of the sharpness above it",
            tolerance=EXACT,
            rows=table[one],
            values=over_lower[one],
            control="all other minimizers",
            control_values=over_lower[~one],
        )
