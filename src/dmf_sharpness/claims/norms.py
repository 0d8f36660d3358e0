"""C5: flat minimizers are balanced in the spectral norm, but need not be in the Frobenius norm."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.minimizer_groups import EXCESS, factorization, is_balanced, is_settled
from dmf_sharpness.claims.tolerances import EXACT, FAR_APART, FLAT_BALANCE, UNBALANCED_FROBENIUS


@judged_from("sharpness")
def frobenius(table: pd.DataFrame) -> Iterator[Claim]:
    """Flatness of minimizers that are not balanced in the Frobenius norm."""
    table = factorization(table)
    apart = table.frobenius_imbalance >= UNBALANCED_FROBENIUS
    rows = table[is_balanced(table) & apart]
    yield judged(
        "C5.frobenius",
        origin="paper",
        claim="Spectrally balanced minimizers are flat even with Frobenius norms far apart.",
        statistic=EXCESS,
        tolerance=EXACT,
        rows=rows,
        values=rows.excess,
        control="random minimizers as far apart in Frobenius norm",
        control_values=table[(table.kind == "random") & ~is_balanced(table) & apart].excess,
    )


@judged_from("sharpness")
def hundred(table: pd.DataFrame) -> Iterator[Claim]:
    """Flatness with Frobenius norms a factor of a hundred apart, if an experiment has such minimizers."""
    table = factorization(table)
    apart = table.frobenius_imbalance >= FAR_APART
    random = table[(table.kind == "random") & ~is_balanced(table) & ~apart]
    live = table[apart & (table.kind == "flat_live")]
    rows = table[is_balanced(table) & apart & (table.kind != "flat_live")]
    if len(rows):
        yield judged(
            "C5.hundred",
            origin="ours",
            claim=(
                "A block of a layer that no layer writes to and no layer reads can be of any size: "
                "Frobenius norms a factor of 100 apart, and still flat."
            ),
            statistic=EXCESS,
            tolerance=EXACT,
            rows=rows,
            values=rows.excess,
            control="unbalanced random minimizers, whose Frobenius norms are closer",
            control_values=random.excess,
        )
    if len(live):
        yield judged(
            "C5.live",
            origin="ours",
            claim=(
                "Without such a block as well, from three factors on: all hidden widths the rank, so that "
                "every unit is written and read, norms a factor of 100 and more apart, and flat."
            ),
            statistic=EXCESS,
            tolerance=EXACT,
            rows=live,
            values=live.excess,
            control="unbalanced random minimizers, whose Frobenius norms are closer",
            control_values=random[random.experiment.isin(live.experiment)].excess,
        )


@judged_from("studies/flattest")
def spectral(table: pd.DataFrame) -> Iterator[Claim]:
    """The spectral balance of flat minimizers that were found, where the condition is necessary."""
    flat = table[table.end_ratio - 1 <= EXACT]
    rows = flat[is_settled(flat)]
    yield judged(
        "C5.spectral",
        origin="paper",
        claim=(
            "Flat minimizers (depth 2 and scalars), found by minimizing the sharpness, are "
            "spectral-norm balanced."
        ),
        statistic="relative deviation of ‖L_i‖‖R_i‖ from ‖M‖^{1−1/L}",
        tolerance=FLAT_BALANCE,
        rows=rows,
        values=rows.imbalance,
        control="flat minimizers of five matrix factors, found alike",
        control_values=flat[~is_settled(flat) & (flat.depth == 5)].imbalance,
    )


@judged_from("studies/flattest")
def top_path(table: pd.DataFrame) -> Iterator[Claim]:
    """The path of Mulayoff and Michaeli (arXiv:2002.04710), at flat minimizers that a search found."""
    rows = table[table.end_ratio - 1 <= EXACT]
    yield judged(
        "C5.path",
        origin="ours",
        claim=(
            "At flat minimizers of any depth, found alike, adjacent layers share a singular vector "
            "along the top path, as Mulayoff and Michaeli have it."
        ),
        statistic="relative defect of the singular pairs",
        tolerance=FLAT_BALANCE,
        rows=rows,
        values=rows.path_defect,
        control="where the same searches started",
        control_values=rows.start_path_defect,
    )
