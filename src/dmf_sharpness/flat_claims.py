"""The rows of the ledger that the studies of flatness bear on, and those of the regularized problem."""

from collections.abc import Callable, Iterator, Mapping

import pandas as pd

from dmf_sharpness.claims import EXACT, FLAT_BALANCE, SPECTRUM
from dmf_sharpness.ledger import Claim, judged

ATTAINED = 1e-6
"""Relative excess sharpness at which a minimization of it has arrived."""
SHARED = 1e-10
"""Relative defect of a singular pair that two layers share."""
DESCENDED = 1e-6
"""Spectra and norms where a descent ends; it stops when the loss no longer changes in float64."""


def _flattest(table: pd.DataFrame) -> Iterator[Claim]:
    yield judged(
        "C2.bound",
        "ours",
        "No minimizer is flatter than λ_flat: minimizing the sharpness never gets below it.",
        "relative shortfall of the least sharpness on the way",
        EXACT,
        table,
        1 - table.least_ratio,
        "a bound one part in a million higher",
        1 + 1e-6 - table.least_ratio,
    )
    yield judged(
        "C2.attained",
        "ours",
        "From random minimizers, minimizing the sharpness ends at λ_flat.",
        "relative excess sharpness at the end",
        ATTAINED,
        table,
        table.end_ratio - 1,
        "where the same searches started",
        table.start_ratio - 1,
    )
    yield judged(
        "C5.path",
        "ours",
        "At the flat minimizers so found, adjacent layers share a singular vector along the top path.",
        "relative defect of the singular pairs",
        FLAT_BALANCE,
        table,
        table.path_defect,
        "where the same searches started",
        table.start_path_defect,
    )


def _necessity(table: pd.DataFrame) -> Iterator[Claim]:
    scalar, depth_2 = table.widths.str.match(r"1-.*-1$"), table.depth == 2
    shortfall = table.least_excess - table.found_excess
    for name, where, place in (
        ("C3", depth_2, "At depth 2"),
        ("C4", scalar & ~depth_2, "In deep scalar factorization"),
    ):
        rows = table[where]
        yield judged(
            f"{name}.search",
            "ours",
            f"{place} no search finds less excess than the product held off balance forces.",
            "least excess that the imbalance allows, minus the least found",
            EXACT,
            rows,
            shortfall[rows.index],
            "the same search on three matrix factors",
            shortfall[~scalar & ~depth_2],
        )
        yield judged(
            f"{name}.tight",
            "ours",
            f"{place} no more is forced: the search ends there.",
            "excess at the end, minus the least that the imbalance allows",
            ATTAINED,
            rows,
            rows.end_excess - rows.least_excess,
            "where the same searches started",
            rows.start_excess - rows.least_excess,
        )


def _paths(table: pd.DataFrame) -> Iterator[Claim]:
    outside = pd.concat([table.lower / table.sharpness, table.sharpness / table.upper], axis=1)
    yield judged(
        "C1.paths",
        "paper",
        "The closed form is exact all along paths through the set of minimizers, not at flat ones only.",
        "relative difference of exact sharpness and dense Hessian",
        EXACT,
        table,
        (table.sharpness / table.oracle_sharpness - 1).abs(),
        "the value at the flat minimizers, which was known before",
        (table.flat_sharpness / table.oracle_sharpness - 1).abs(),
    )
    yield judged(
        "C1.bounds",
        "ours",
        "Spectral norms alone bound it: 2 max p_i² ≤ λ_max ≤ 2 Σ p_i², p_i = ‖L_i‖‖R_i‖.",
        "relative violation of either bound",
        EXACT,
        table,
        outside.max(axis=1) - 1,
        "the upper bound taken for the value",
        table.upper / table.sharpness - 1,
    )


def _structure(table: pd.DataFrame) -> Iterator[Claim]:
    flat = table.ratio - 1 <= EXACT
    yield judged(
        "C5.structure",
        "ours",
        "At every flat minimizer adjacent layers share a singular vector along the top path.",
        "relative defect of the singular pairs",
        SHARED,
        table[flat],
        table.path_defect[flat],
        "minimizers that are not flat",
        table.path_defect[~flat],
    )


def _regularized(table: pd.DataFrame) -> Iterator[Claim]:
    scalar = table.spectrum_difference.notna()
    built, found = table[table.source == "closed form"], table[table.source == "descent"]
    plain = table[table.source == "not regularized"]
    rows = built[scalar[built.index]]
    spectrum = "largest eigenvalue difference over the largest eigenvalue"
    yield judged(
        "E.spectrum",
        "extension",
        "With ℓ² regularization the Hessian spectrum at scalar minimizers has a closed form.",
        f"{spectrum}, of the dense Hessian",
        SPECTRUM,
        rows,
        rows.spectrum_difference,
        "minimizers of the problem without regularization",
        plain[scalar[plain.index]].spectrum_difference,
    )
    rows = found[scalar[found.index]]
    yield judged(
        "E.constant",
        "extension",
        "It is the same at all minimizers: at those that descent finds, too.",
        f"{spectrum}, of the dense Hessian",
        DESCENDED,
        rows,
        rows.spectrum_difference,
        "minimizers of the problem without regularization",
        plain[scalar[plain.index]].spectrum_difference,
    )

    def norms_off(rows: pd.DataFrame) -> pd.Series:
        most, least = rows.most_norm - rows.predicted_norm, rows.predicted_norm - rows.least_norm
        return pd.concat([most, least], axis=1).max(axis=1)

    yield judged(
        "E.norms",
        "extension",
        "All layers of all minimizers that descent finds have one Frobenius norm, the predicted one.",
        "largest difference from it",
        DESCENDED,
        found,
        norms_off(found),
        "minimizers of the problem without regularization",
        norms_off(plain),
    )
    yield judged(
        "E.least",
        "extension",
        "No descent gets below the closed form of the least regularized loss.",
        "relative shortfall of the loss at the end",
        EXACT,
        found,
        1 - found.loss / found.least_loss,
        "a least loss one part in a million higher",
        1 - found.loss / (found.least_loss * (1 + 1e-6)),
    )
    local = found[found.share > 1]
    yield judged(
        "E.collapse",
        "extension",
        "The minimizer collapses to zero at the predicted regularization μ*.",
        "1 where the best end is zero below μ* or is not above it",
        0.0,
        found,
        (found.collapsed != (found.share > 1)).astype(float),
        "where the local minimum that is not zero vanishes, in place of μ*",
        (local.collapsed != (local.share > local.vanishing_share)).astype(float),
    )


JUDGES: Mapping[str, Callable[[pd.DataFrame], Iterator[Claim]]] = {
    "flattest": _flattest,
    "necessity": _necessity,
    "paths": _paths,
    "structure": _structure,
    "regularized": _regularized,
}
