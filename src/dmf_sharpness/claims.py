"""The claims: what of the artifacts each one is judged by (:mod:`dmf_sharpness.ledger`)."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.ledger import Claim, judged

EXACT = 1e-12
"""Two ways to compute one number in float64."""
SPECTRUM = 1e-10
"""A whole spectrum, relative to its largest eigenvalue."""
BOTTLENECK = 1e-10
"""A Lanczos iteration in parameter space against the dense Hessian."""
BALANCED = 1e-10
"""Spectral products are called equal up to this relative difference."""
FLAT_BALANCE = 1e-5
"""Imbalance of a flat minimizer: the excess is quadratic in it, so about the root of EXACT."""
UNBALANCED_FROBENIUS = 1.2
"""Ratio of Frobenius norms from which a minimizer is called not balanced."""
FAR_APART = 100 * (1 - 1e-9)
"""Ratio of Frobenius norms called a hundred."""
UNBALANCED = 1e-2
"""Relative deviation of a spectral product from which the balance condition is plainly not met."""
RATE = 1e-4
"""Relative error of the growth per step in the linear phase."""


def _exactness(table: pd.DataFrame) -> Iterator[Claim]:
    wrong = (table.control_sharpness / table.oracle_sharpness - 1).abs()
    factorization, data = table[table.flat_sharpness.notna()], table[table.flat_sharpness.isna()]
    difference = "relative difference of exact sharpness and dense Hessian"
    yield judged(
        "C1.sharpness",
        "paper",
        "The closed form is the largest Hessian eigenvalue at any minimizer of deep matrix factorization.",
        difference,
        EXACT,
        factorization,
        factorization.relative_difference,
        "the formula for flat minimizers, used at every minimizer",
        wrong[factorization.index],
    )
    yield judged(
        "C1.data",
        "paper",
        "The closed form is the largest Hessian eigenvalue at a minimizer of deep linear network training.",
        difference,
        EXACT,
        data,
        data.relative_difference,
        "the closed form with the data left out",
        wrong[data.index],
    )
    yield judged(
        "C1.spectrum",
        "ours",
        "The same operator has the whole nonzero Hessian spectrum, multiplicities included.",
        "largest eigenvalue difference over λ_max",
        SPECTRUM,
        table,
        table.spectrum_difference,
        "the spectrum of another minimizer of the network",
        table.control_spectrum_difference,
    )
    yield judged(
        "C1.eigenvector",
        "ours",
        "The top eigenvector in parameter space is U_i ∝ L_iᵀ Y R_iᵀ.",
        "‖Hv − λv‖ / λ with the dense Hessian",
        SPECTRUM,
        table,
        table.eigenvector_residual,
        "the eigenvector of another minimizer of the network",
        table.control_eigenvector_residual,
    )


def _flatness(table: pd.DataFrame) -> Iterator[Claim]:
    table = table[table.flat_sharpness.notna()]
    scalar = table.widths.str.match(r"1-.*-1$")
    depth_2 = table.depth == 2
    settled = scalar | depth_2  # where the balance condition is claimed to be necessary
    balanced = table.spectral_imbalance <= BALANCED
    wrong_constant = (table.product_spread <= BALANCED) & ~balanced
    violation = table.least_excess - table.excess
    excess = "relative excess sharpness, λ_max / λ_flat − 1"

    rows = table[balanced]
    yield judged(
        "C2",
        "paper",
        "Equal spectral products ‖L_i‖‖R_i‖ = ‖M‖^{1−1/L} make a minimizer flat.",
        excess,
        EXACT,
        rows,
        rows.excess,
        "equal products of another value",
        table[wrong_constant].excess,
    )
    rows = table[wrong_constant]
    common = 1 + rows.spectral_imbalance  # the value of the products over the right one
    others = table[~balanced & ~wrong_constant]
    yield judged(
        "C2.constant",
        "ours",
        "The value matters: with all products x times the right one, λ_max was x² λ_flat.",
        "relative difference of λ_max / λ_flat and x²",
        EXACT,
        rows,
        ((1 + rows.excess) / common**2 - 1).abs(),
        "the largest product as x where they are not equal",
        ((1 + others.excess) / (1 + others.spectral_imbalance) ** 2 - 1).abs(),
    )
    made = ~settled & table.kind.isin(["unbalanced_flat", "unequal_flat", "explicit"])
    rows = table[made & (table.spectral_imbalance >= UNBALANCED)]
    unequal = table[(table.kind == "random") & (table.spectral_imbalance >= UNBALANCED)]
    yield judged(
        "C2.necessity",
        "ours",
        "For three and more matrix factors it is not necessary: flat with a product off by 1 % and more.",
        excess,
        EXACT,
        rows,
        rows.excess,
        "random minimizers with products off by as much",
        unequal.excess,
    )
    for name, where, place, condition in (
        ("C3", depth_2, "At depth 2", depth_2),
        ("C4", scalar, "In deep scalar factorization", scalar & ~depth_2),
    ):
        rows = table[where & balanced]
        yield judged(
            f"{name}.sufficient",
            "paper",
            f"{place} equal spectral products of the right value make a minimizer flat.",
            excess,
            EXACT,
            rows,
            rows.excess,
            "equal products of another value",
            table[wrong_constant & condition].excess,
        )
        rows = table[where]
        yield judged(
            f"{name}.necessary",
            "paper",
            f"{place} nothing else does: one product off by a factor x forces a positive excess.",
            "least excess that the imbalance allows, minus the excess",
            EXACT,
            rows,
            violation[rows.index],
            "three matrix factors, where the condition is not necessary",
            violation[~settled & (table.kind == "explicit")],
        )
        yield judged(
            f"{name}.exact",
            "ours",
            f"{place} the relative excess sharpness is mean_i x_i² − 1, x_i the relative products.",
            "difference of the excess and mean_i x_i² − 1",
            EXACT,
            rows,
            (rows.excess - rows.balance_excess).abs() / (1 + rows.excess),
            "matrix factors of depth 3 and more",
            (table.excess - table.balance_excess).abs()[~settled],
        )
    rows = table[balanced & (table.frobenius_imbalance >= UNBALANCED_FROBENIUS)]
    yield judged(
        "C5.frobenius",
        "paper",
        "Spectrally balanced minimizers are flat even with Frobenius norms far apart.",
        excess,
        EXACT,
        rows,
        rows.excess,
        "as far apart in Frobenius norm, spectral products not equal",
        table[~balanced & (table.frobenius_imbalance >= UNBALANCED_FROBENIUS)].excess,
    )
    apart = table.frobenius_imbalance >= FAR_APART
    if apart.any():  # which takes an experiment that asks for it
        yield judged(
            "C5.hundred",
            "ours",
            "Up to a factor of 100 apart, and they are still flat.",
            excess,
            EXACT,
            table[balanced & apart],
            table[balanced & apart].excess,
            "random minimizers, whose Frobenius norms are closer",
            table[(table.kind == "random") & ~apart].excess,
        )
    rows = table[settled & (table.excess <= EXACT)]
    yield judged(
        "C5.spectral",
        "paper",
        "Flat minimizers (depth 2 and scalars) are spectral-norm balanced.",
        "relative deviation of ‖L_i‖‖R_i‖ from ‖M‖^{1−1/L}",
        FLAT_BALANCE,
        rows,
        rows.spectral_imbalance,
        "their Frobenius norms, judged alike",
        rows.frobenius_imbalance - 1,
    )


def _escape(runs: pd.DataFrame) -> Iterator[Claim]:
    unstable, stable = runs[runs.step_ratio > 1], runs[runs.step_ratio < 1]
    stays, leaves = (~runs.escaped).astype(float), (runs.outcome != "returned").astype(float)
    closest = runs.radius.min()
    yield judged(
        "C6.escape",
        "paper",
        f"With η > 2/λ_max gradient descent escapes, from as close as {closest:.0e} along v_1.",
        "1 for a run that did not escape",
        0.0,
        unstable,
        stays[unstable.index],
        "step sizes below 2/λ_max",
        stays[stable.index],
    )
    yield judged(
        "C6.return",
        "paper",
        "With η < 2/λ_max it returns to the minimizer.",
        "1 for a run that did not return",
        0.0,
        stable,
        leaves[stable.index],
        "step sizes above 2/λ_max",
        leaves[unstable.index],
    )
    measured = runs[runs.growth.notna()]
    # What the formula for flat minimizers would make of the same step size.
    informed = measured[measured.flat_sharpness.notna() & (measured.step_ratio > 1)]
    uninformed = (1 - informed.step_size * informed.flat_sharpness).abs()
    yield judged(
        "C6.rate",
        "ours",
        "In the linear phase the displacement along v_1 changes by |1 − ηλ_max| per step.",
        "relative error of the measured factor",
        RATE,
        measured,
        (measured.growth / measured.predicted_growth - 1).abs(),
        "the factor with λ_flat in place of λ_max",
        (informed.growth / uninformed - 1).abs(),
    )
    landed = runs[runs.outcome == "landed"]
    yield judged(
        "C6.landing",
        "ours",
        "Where it lands after an escape, the minimizer is flatter than stability asks: ηλ/2 ≤ 1.",
        "ηλ/2 − 1 at the end",
        0.0,
        landed,
        landed.end_ratio - 1,
        "the minimizers that the same runs left",
        landed.step_ratio - 1,
    )


def _bottleneck(table: pd.DataFrame) -> Iterator[Claim]:
    exact, wider = table[table.tight_ends], table[~table.tight_ends]
    missed = (table.expression / table.oracle_sharpness - 1).abs()
    yield judged(
        "C1.bottleneck",
        "ours",
        "Behind a bottleneck the sharpness comes from the Hessian-vector product with the residual.",
        "relative difference of that sharpness and the dense Hessian",
        BOTTLENECK,
        table,
        (table.sharpness / table.oracle_sharpness - 1).abs(),
        "the closed form, which leaves the residual out, where an outer hidden layer is wider",
        missed[wider.index],
    )
    yield judged(
        "C1.bottleneck_exact",
        "ours",
        "The closed form is still exact there if the first and last hidden widths are the bottleneck's.",
        "relative difference of the closed form and the dense Hessian",
        EXACT,
        exact,
        missed[exact.index],
        "an outer hidden layer wider than the bottleneck",
        missed[wider.index],
    )


def judge(
    sharpness: pd.DataFrame | None,
    escape: pd.DataFrame | None,
    bottleneck: pd.DataFrame | None = None,
) -> list[Claim]:
    """All rows of the ledger that these stages bear on; None leaves the rows of a stage out.

    Args:
        sharpness: The tables of the sharpness stage, one below the other, with a column
            ``experiment``.
        escape: The tables of the escape stage, likewise.
        bottleneck: The tables of the bottleneck stage, likewise.
    """
    claims: list[Claim] = []
    if sharpness is not None:
        claims += _exactness(sharpness.reset_index(drop=True))
    if bottleneck is not None:
        claims += _bottleneck(bottleneck.reset_index(drop=True))
    if sharpness is not None:
        claims += _flatness(sharpness.reset_index(drop=True))
    if escape is not None:
        claims += _escape(escape.reset_index(drop=True))
    return claims
