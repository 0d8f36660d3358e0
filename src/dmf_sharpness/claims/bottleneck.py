"""C1 and C2 behind a bottleneck, where a residual stays: spectrum, closed form, its bounds, and flatness."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import PROBLEM, Claim, judged, judged_from
from dmf_sharpness.claims.larger_bounds import next_larger
from dmf_sharpness.claims.tolerances import BALANCED, BOUND_REACHED, EXACT, ITERATED, SPECTRUM


def _unequal(table: pd.DataFrame) -> pd.DataFrame:
    """The minimizers without equal spectral products of the right value; the others are flat."""
    return table[~(table.spectral_imbalance <= BALANCED)]


def _wider(table: pd.DataFrame) -> pd.DataFrame:
    """Those of them whose first or last factor has a rank above the bottleneck's width."""
    rows = _unequal(table)
    return rows[rows.tight_ends < 2]


def _missed(rows: pd.DataFrame) -> pd.Series:
    return (rows.expression / rows.oracle_sharpness - 1).abs()


@judged_from("bottleneck")
def with_residual(table: pd.DataFrame) -> Iterator[Claim]:
    """The sharpness at minima with a residual, a part of whose Hessian the closed form does not contain."""
    yield judged(
        "C1.bottleneck",
        origin="ours",
        claim="Behind a bottleneck the sharpness comes from the Hessian-vector product with the residual.",
        statistic="relative difference of that sharpness and the dense Hessian",
        tolerance=ITERATED,
        rows=table,
        values=(table.sharpness / table.oracle_sharpness - 1).abs(),
        control="the closed form, which leaves the residual out, where an outer factor has a larger rank",
        control_values=_missed(_wider(table)),
    )


@judged_from("bottleneck")
def spectrum_with_residual(table: pd.DataFrame) -> Iterator[Claim]:
    """The whole spectrum there, from the operator that contains the residual."""
    yield judged(
        "C1.bottleneck_spectrum",
        origin="ours",
        claim=(
            "The whole Hessian spectrum there is that of A^{1/2} J Jᵀ A^{1/2}, "
            "A the Hessian on matrices of the bottleneck's rank."
        ),
        statistic="largest eigenvalue difference over λ_max, of the dense Hessian",
        tolerance=SPECTRUM,
        rows=table,
        values=table.spectrum_difference,
        control="the spectrum of 2 J Jᵀ, which leaves the residual out",
        control_values=table.control_spectrum_difference,
    )


@judged_from("bottleneck")
def with_narrow_ends(table: pd.DataFrame) -> Iterator[Claim]:
    """The closed form at those minima with a residual at which it is still exact."""
    rows = table[table.tight_ends == 2]
    yield judged(
        "C1.bottleneck_exact",
        origin="ours",
        claim=(
            "The closed form is still exact there if the first and the last factor have the "
            "bottleneck's width as their rank."
        ),
        statistic="relative difference of the closed form and the dense Hessian",
        tolerance=EXACT,
        rows=rows,
        values=_missed(rows),
        control="one of these factors, or both, of a larger rank",
        control_values=_missed(_wider(table)),
    )


@judged_from("bottleneck")
def with_one_narrow_end(table: pd.DataFrame) -> Iterator[Claim]:
    """The sign of the closed form's error if one outer factor has the bottleneck's rank."""

    def above(rows: pd.DataFrame) -> pd.Series:
        return rows.expression / rows.oracle_sharpness - 1

    rows, too_high = table[table.tight_ends >= 1], table[table.kind == "overestimated"]
    if too_high.empty:
        return
    yield judged(
        "C1.bottleneck_below",
        origin="ours",
        claim="If one of these two factors has it, the closed form is not above the sharpness.",
        statistic="relative excess of the closed form over the dense Hessian",
        tolerance=EXACT,
        rows=rows,
        values=above(rows),
        control="both of a larger rank, in the family in which the closed form is too high",
        control_values=above(too_high),
    )


def _over_upper(rows: pd.DataFrame, share: float = 1.0) -> pd.Series:
    """The sharpness relative to ``1 + q`` times the closed form; ``q`` times a share in place of ``q``."""
    q = share * rows.residual_ratio
    return rows.oracle_sharpness / rows.expression / (1 + q)


def _over_lower(rows: pd.DataFrame, share: float = 1.0) -> pd.Series:
    """The sharpness relative to ``(1 + q)/(1 + 2q)`` times the closed form."""
    q = share * rows.residual_ratio
    return rows.oracle_sharpness / rows.expression * (1 + 2 * q) / (1 + q)


@judged_from("bottleneck")
def bounds_with_residual(table: pd.DataFrame) -> Iterator[Claim]:
    """The bounds on the sharpness by the closed form, and the two families that come near to them."""
    under, over = (table[table.kind == kind] for kind in ("underestimated", "overestimated"))
    if under.empty or over.empty:
        return

    def outside(rows: pd.DataFrame, share: float = 1.0) -> pd.Series:
        sides = [_over_upper(rows, share), 1 / _over_lower(rows, share)]
        return pd.concat(sides, axis=1).max(axis=1) - 1

    yield judged(
        "C1.bottleneck_bounds",
        origin="ours",
        claim=(
            "With q = σ_{k+1}/σ_k behind a bottleneck of width k, the sharpness is between "
            "(1 + q)/(1 + 2q) and 1 + q times the closed form."
        ),
        statistic="relative violation of either bound",
        tolerance=EXACT,
        rows=table,
        values=outside(table),
        control="half of the residual, q/2 in place of q, in the two families that come near to the bounds",
        control_values=outside(pd.concat([under, over]), share=0.5),
    )
    yield judged(
        "C1.bottleneck_high",
        origin="ours",
        claim="The upper bound is sharp for width 1 from depth 3 on: a family comes as near as one likes.",
        statistic="relative distance of the sharpness below the upper bound",
        tolerance=BOUND_REACHED,
        rows=under,
        values=1 - _over_upper(under),
        control="random minimizers behind bottlenecks",
        control_values=1 - _over_upper(table[table.kind == "bottlenecked"]),
    )
    yield judged(
        "C1.bottleneck_low",
        origin="ours",
        claim="So is the lower bound from depth 4 on.",
        statistic="relative distance of the sharpness above the lower bound",
        tolerance=BOUND_REACHED,
        rows=over,
        values=_over_lower(over) - 1,
        control="random minimizers behind bottlenecks",
        control_values=_over_lower(table[table.kind == "bottlenecked"]) - 1,
    )


@judged_from("studies/bottleneck_search")
def searched_with_residual(table: pd.DataFrame) -> Iterator[Claim]:
    """Searches that maximize or minimize the ratio of sharpness and closed form."""

    def outside(share: float = 1.0) -> pd.Series:
        q = share * table.residual_ratio
        most, least = table.end_ratio / (1 + q), (1 + q) / (1 + 2 * q) / table.end_ratio
        return most.where(table.largest, least) - 1

    farthest = outside(share=0.5).groupby([table[name] for name in (*PROBLEM, "largest")]).max()
    yield judged(
        "C1.bottleneck_search",
        origin="ours",
        claim="No search over the minimizers behind a bottleneck of width 1 leaves these bounds.",
        statistic="relative violation of the bound that was searched for, by the dense Hessian",
        tolerance=EXACT,
        rows=table,
        values=outside(),
        control="the bounds with q/2 in place of q, which the best search of each problem passes",
        control_values=farthest,
    )


@judged_from("bottleneck")
def flat_with_residual(table: pd.DataFrame) -> Iterator[Claim]:
    """The least sharpness behind a bottleneck, and the condition that is sufficient for it there, too."""
    flat, others = table[table.spectral_imbalance <= BALANCED], _unequal(table)
    if flat.empty:
        return
    other = next_larger(flat, "flat_sharpness").dropna()
    yield judged(
        "C2.bottleneck",
        origin="ours",
        claim=(
            "Equal spectral products ‖L_i‖‖R_i‖ = ‖M‖^{1−1/L} make a minimizer flat "
            "behind a bottleneck, too."
        ),
        statistic="relative excess sharpness of the dense Hessian, λ_max / λ_flat − 1",
        tolerance=EXACT,
        rows=flat,
        values=flat.oracle_sharpness / flat.flat_sharpness - 1,
        control="minimizers without them",
        control_values=others.oracle_sharpness / others.flat_sharpness - 1,
    )
    yield judged(
        "C2.bottleneck_bound",
        origin="ours",
        claim="No minimizer behind a bottleneck is flatter than λ_flat.",
        statistic="relative shortfall of the dense Hessian's sharpness",
        tolerance=EXACT,
        rows=table,
        values=1 - table.oracle_sharpness / table.flat_sharpness,
        control="λ_flat of another target, the next larger one of the same network, at the flat ones",
        control_values=1 - flat.oracle_sharpness[other.index] / other,
    )
