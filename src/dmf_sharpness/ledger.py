"""The ledger: a claim as a statistic, a tolerance, a verdict and a negative control; and how it is shown.

Every statistic is the largest of one number per minimizer or run, and a claim holds when it is at
most the tolerance and at least one was looked at. With each claim goes a negative control: the same
judgement where it ought to be false. A claim whose control holds has not been tested.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dmf_sharpness.headers import ArtifactError
from dmf_sharpness.yaml_files import schema_problems

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["holds", "fails"]
Origin = Literal["paper", "ours", "extension"]


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
        origin: Who says so, the ``paper`` or we (``ours``); an ``extension`` is of another problem.
        claim: One sentence.
        statistic: What ``value`` is the largest of.
        value: The statistic.
        tolerance: What it may be at most.
        n: Sample size.
        experiment: The experiments the sample comes from.
        verdict: ``holds`` or ``fails``.
        control: The negative control, whose verdict must be ``fails``.
        artifacts: The files that the sample was read from.
    """

    id: str
    origin: Origin
    claim: str
    statistic: str
    value: float
    tolerance: float
    n: int
    experiment: str
    verdict: Verdict
    control: Control
    artifacts: tuple[str, ...] = ()

    @property
    def stands(self) -> bool:
        """Whether the claim holds and its control fails."""
        return self.verdict == "holds" and self.control.verdict == "fails"


def verdict_on(sample: pd.Series, tolerance: float) -> Verdict:
    """``holds`` if there is a sample, it has no NaN, and its largest value is within tolerance."""
    return "holds" if len(sample) and bool((sample <= tolerance).all()) else "fails"


def experiments_of(rows: pd.DataFrame) -> str:
    """The experiments of a sample, replicas (``<name>.r<number>``) under the name they share."""
    return ", ".join(sorted({name.partition(".")[0] for name in rows.experiment.unique()}))


def _largest(sample: pd.Series) -> float:
    return float(sample.max(skipna=False)) if len(sample) else float("nan")


def judged(
    name: str,
    origin: Origin,
    claim: str,
    statistic: str,
    tolerance: float,
    rows: pd.DataFrame,
    sample: pd.Series,
    control: str,
    control_sample: pd.Series,
) -> Claim:
    """A row of the ledger: the largest of ``sample``, and of ``control_sample``, against the tolerance."""
    return Claim(
        id=name,
        origin=origin,
        claim=claim,
        statistic=statistic,
        value=_largest(sample),
        tolerance=tolerance,
        n=len(sample),
        experiment=experiments_of(rows),
        verdict=verdict_on(sample, tolerance),
        control=Control(
            control,
            _largest(control_sample),
            # An empty control has not failed: then the claim has not been tested.
            verdict_on(control_sample, tolerance) if len(control_sample) else "holds",
        ),
        artifacts=artifacts_of(rows),
    )


def artifacts_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """The files that rows of tables were read from; none for tables made in memory."""
    return tuple(sorted(rows.artifact.unique())) if "artifact" in rows else ()


def to_json(claims: list[Claim]) -> list[dict[str, Any]]:
    """The ledger as plain objects; NaN and infinity, which JSON does not have, become null."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{key: plain(value) for key, value in asdict(claim).items()} for claim in claims]


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """The rows of a ledger, as :func:`to_json` makes them, from the file that judge_claims.py writes.

    A ledger of no claims is read; it does not stand, see :func:`stands`.

    Raises:
        ArtifactError: The file is missing, no JSON, or not a ledger; the message is one line.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        json.dumps(rows, ensure_ascii=False).encode()  # half of a surrogate pair is no character
    except OSError as error:
        raise ArtifactError(path, "claims", f"expected a ledger, got: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(path, "claims", f"expected a ledger in JSON, got: {reason}") from None
    for problem in schema_problems(rows, "ledger"):
        raise ArtifactError(path, "claims", f"not a ledger: {problem}")
    seals = {row["seal"] for row in rows if "seal" in row}
    if seals - {_seal(rows)}:
        raise ArtifactError(path, "claims", "altered since it was judged")
    return list(rows)


def sealed_rows(rows: list[dict[str, Any]], lineage: str) -> list[dict[str, Any]]:
    """The rows of a ledger with its lineage and a digest of all rows in each of them.

    Args:
        rows: As :func:`to_json` makes them.
        lineage: The marker of what the ledger was judged from (:mod:`dmf_sharpness.lineage`).
    """
    marked = [{**row, "lineage": lineage} for row in rows]
    return [{**row, "seal": _seal(marked)} for row in marked]


def _seal(rows: list[dict[str, Any]]) -> str:
    plain = [{key: value for key, value in row.items() if key != "seal"} for row in rows]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant}, which is no number")


def stands(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there are claims, all of them hold, and the negative control of each fails."""
    return len(rows) > 0 and all(_stands(row) for row in rows)


def _stands(row: Mapping[str, Any]) -> bool:
    return row["verdict"] == "holds" and row["control"]["verdict"] == "fails"


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


def to_short_markdown(
    rows: list[dict[str, Any]], figures: Mapping[str, Sequence[str]] | None = None
) -> str:
    """The ledger as the README shows it: the paper's claims, and ours folded away beneath.

    Args:
        rows: The ledger.
        figures: Names of the figures that bear on a claim, by its id.
    """
    ours = [row for row in rows if row["origin"] != "paper"]
    table = _short_table([row for row in rows if row["origin"] == "paper"], figures or {})
    if not ours:
        return table
    return (
        f"{table}\n<details>\n<summary>What we added to them: {len(ours)} more rows</summary>\n\n"
        f"{_short_table(ours, figures or {})}\n</details>\n"
    )


def _short_table(rows: list[dict[str, Any]], figures: Mapping[str, Sequence[str]]) -> str:
    lines = [
        "| claim | measured | tolerance | n | control | verdict | figure |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for row in rows:
        origin = " (extension)" if row["origin"] == "extension" else ""
        cells = [
            f"**{row['id']}**{origin} {row['claim']}".replace("|", "\\|"),
            format_number(row["value"]),
            format_number(row["tolerance"]),
            str(row["n"]),
            format_number(row["control"]["value"]),
            row["verdict"],
            ", ".join(f"[{name}](figures/{name}.png)" for name in figures.get(row["id"], ())),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_text(rows: list[dict[str, Any]]) -> str:
    """The ledger as a table for a terminal: one line per claim."""
    lines = [f"{'':2}{'claim':<20}{'value':>9}  {'≤':>7}{'n':>6}  {'control':>9}  what is claimed"]
    for row in rows:
        lines.append(
            f"{'✓' if _stands(row) else '✗':2}{row['id']:<20}{format_number(row['value']):>9}  "
            f"{format_number(row['tolerance']):>7}{row['n']:>6}  "
            f"{format_number(row['control']['value']):>9}  "
            f"{row['claim']}"
        )
    return "\n".join(lines) + "\n"


def summary(rows: list[dict[str, Any]]) -> str:
    """One sentence: do the claims stand?"""
    if not rows:
        return "There are no claims: nothing was judged, and nothing holds."
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
