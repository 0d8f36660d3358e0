"""The ledger: each claim of the paper as a statistic of the artifacts, a tolerance and a verdict.

Every statistic is the largest of one number per minimizer or run, and a claim holds when it is at
most the tolerance and at least one was looked at. With each claim goes a negative control: the same
judgement where it ought to be false. A claim whose control holds has not been tested.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

Verdict = Literal["holds", "fails"]

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
RATE = 1e-4
"""Relative error of the growth per step in the linear phase."""


@dataclass(frozen=True)
class Control:
    """The same judgement where it must be false."""

    description: str
    value: float
    verdict: Verdict


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        id: ``C1`` … ``C6``, suffixed where a claim has several rows.
        origin: Who says so, the ``paper`` or we (``ours``).
        claim: One sentence.
        statistic: What ``value`` is the largest of.
        value: The statistic.
        tolerance: What it may be at most.
        n: Sample size.
        experiment: The experiments the sample comes from.
        verdict: ``holds`` or ``fails``.
        control: The negative control, whose verdict must be ``fails``.
    """

    id: str
    origin: Literal["paper", "ours"]
    claim: str
    statistic: str
    value: float
    tolerance: float
    n: int
    experiment: str
    verdict: Verdict
    control: Control

    @property
    def stands(self) -> bool:
        """Whether the claim holds and its control fails."""
        return self.verdict == "holds" and self.control.verdict == "fails"


def verdict_on(sample: pd.Series, tolerance: float) -> Verdict:
    """``holds`` if there is a sample, it has no NaN, and its largest value is within tolerance."""
    return "holds" if len(sample) and bool((sample <= tolerance).all()) else "fails"


def _largest(sample: pd.Series) -> float:
    return float(sample.max(skipna=False)) if len(sample) else float("nan")


def _claim(
    name: str,
    origin: Literal["paper", "ours"],
    claim: str,
    statistic: str,
    tolerance: float,
    rows: pd.DataFrame,
    sample: pd.Series,
    control: str,
    control_sample: pd.Series,
) -> Claim:
    return Claim(
        id=name,
        origin=origin,
        claim=claim,
        statistic=statistic,
        value=_largest(sample),
        tolerance=tolerance,
        n=len(sample),
        experiment=", ".join(sorted(rows.experiment.unique())),
        verdict=verdict_on(sample, tolerance),
        control=Control(
            control,
            _largest(control_sample),
            # An empty control has not failed: then the claim has not been tested.
            verdict_on(control_sample, tolerance) if len(control_sample) else "holds",
        ),
    )


def _exactness(table: pd.DataFrame) -> Iterator[Claim]:
    wrong = (table.control_sharpness / table.oracle_sharpness - 1).abs()
    factorization, data = table[table.flat_sharpness.notna()], table[table.flat_sharpness.isna()]
    difference = "relative difference of exact sharpness and dense Hessian"
    yield _claim(
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
    yield _claim(
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
    yield _claim(
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
    yield _claim(
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
    yield _claim(
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
    for name, where, place, condition in (
        ("C3", depth_2, "At depth 2", depth_2),
        ("C4", scalar, "In deep scalar factorization", scalar & ~depth_2),
    ):
        rows = table[where & balanced]
        yield _claim(
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
        yield _claim(
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
        yield _claim(
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
    yield _claim(
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
    rows = table[settled & (table.excess <= EXACT)]
    yield _claim(
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
    yield _claim(
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
    yield _claim(
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
    yield _claim(
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
    yield _claim(
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
    yield _claim(
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
    yield _claim(
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
    sharpness: pd.DataFrame, escape: pd.DataFrame, bottleneck: pd.DataFrame | None = None
) -> list[Claim]:
    """All rows of the ledger.

    Args:
        sharpness: The tables of the sharpness stage, one below the other, with a column
            ``experiment``.
        escape: The tables of the escape stage, likewise.
        bottleneck: The tables of the bottleneck stage, likewise; None leaves its rows out.
    """
    sharpness, escape = sharpness.reset_index(drop=True), escape.reset_index(drop=True)
    narrow = [] if bottleneck is None else _bottleneck(bottleneck.reset_index(drop=True))
    return [*_exactness(sharpness), *narrow, *_flatness(sharpness), *_escape(escape)]


def to_json(claims: list[Claim]) -> list[dict[str, Any]]:
    """The ledger as plain objects; NaN, which JSON does not have, becomes null."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return None if isinstance(value, float) and value != value else value

    return [{key: plain(value) for key, value in asdict(claim).items()} for claim in claims]


def format_number(value: float | None) -> str:
    """Two digits, or a dash where there was nothing to measure."""
    return "–" if value is None else f"{value:.2g}"


def to_markdown(rows: list[dict[str, Any]]) -> str:
    """The ledger as a Markdown table."""
    lines = [
        "| claim | origin | what is claimed | statistic (largest) | value | tolerance | n | verdict "
        "| negative control |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        control = row["control"]
        cells = [
            row["id"],
            row["origin"],
            row["claim"],
            row["statistic"],
            format_number(row["value"]),
            format_number(row["tolerance"]),
            str(row["n"]),
            f"**{row['verdict']}**",
            f"{control['description']}: {format_number(control['value'])}, {control['verdict']}",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def to_short_markdown(rows: list[dict[str, Any]]) -> str:
    """The ledger as the README shows it: claim, value, tolerance, sample, control, verdict."""
    lines = [
        "| claim | | measured | tolerance | n | control | verdict |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        name = f"**{row['id']}** {row['claim']}".replace("|", "\\|")
        cells = [
            name,
            row["origin"],
            format_number(row["value"]),
            format_number(row["tolerance"]),
            str(row["n"]),
            format_number(row["control"]["value"]),
            row["verdict"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_text(rows: list[dict[str, Any]]) -> str:
    """The ledger as a table for a terminal: one line per claim."""
    lines = [f"{'':2}{'claim':<20}{'value':>9}  {'≤':>7}{'n':>6}  {'control':>9}  what is claimed"]
    for row in rows:
        stands = row["verdict"] == "holds" and row["control"]["verdict"] == "fails"
        lines.append(
            f"{'✓' if stands else '✗':2}{row['id']:<20}{format_number(row['value']):>9}  "
            f"{format_number(row['tolerance']):>7}{row['n']:>6}  "
            f"{format_number(row['control']['value']):>9}  "
            f"{row['claim']}"
        )
    return "\n".join(lines) + "\n"


def summary(rows: list[dict[str, Any]]) -> str:
    """One sentence: do the claims stand?"""
    fallen = [row["id"] for row in rows if row["verdict"] != "holds"]
    untested = [row["id"] for row in rows if row["control"]["verdict"] != "fails"]
    if not fallen and not untested:
        return f"All {len(rows)} claims hold, and each one's negative control fails."
    parts = []
    if fallen:
        parts.append(f"These claims fail: {', '.join(fallen)}.")
    if untested:
        parts.append(f"The negative control of these claims does not fail: {', '.join(untested)}.")
    return " ".join(parts)
