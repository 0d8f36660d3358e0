"""The ledger of the claims: its sealed JSON file, and its forms in Markdown and on a terminal."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dmf_sharpness.artifacts.headers import ArtifactError
from dmf_sharpness.artifacts.yaml_files import read_schema, schema_problems
from dmf_sharpness.claims.claim import Claim, stands

SCHEMA = Path(__file__).with_name("ledger.yaml")
"""The JSON schema of a ledger lies here."""


def to_json(claims: list[Claim]) -> list[dict[str, Any]]:
    """The ledger as plain objects; NaN and infinity become None, because JSON has neither."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{key: plain(value) for key, value in asdict(claim).items()} for claim in claims]


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """The rows of a ledger, as :func:`to_json` makes them, from the file that ``judge_claims.py`` writes.

    A ledger without claims can be read, but does not stand, see :func:`all_stand`.

    Raises:
        ArtifactError: The file is missing, is no JSON, is no ledger, or was altered; the message is one line.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        json.dumps(rows, ensure_ascii=False).encode()  # fails for half of a surrogate pair
    except OSError as error:
        raise ArtifactError(path, "claims", f"expected a ledger, got: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(path, "claims", f"expected a ledger in JSON, got: {reason}") from None
    for problem in schema_problems(rows, read_schema(SCHEMA)):
        raise ArtifactError(path, "claims", f"not a ledger: {problem}")
    seals = {row["seal"] for row in rows if "seal" in row}
    if seals - {_seal(rows)}:
        raise ArtifactError(path, "claims", "altered since it was judged")
    return list(rows)


def sealed_rows(rows: list[dict[str, Any]], lineage: str) -> list[dict[str, Any]]:
    """The rows of a ledger, each with the ledger's lineage and a digest of all rows.

    Args:
        rows: The rows, as :func:`to_json` makes them.
        lineage: The marker of the ledger's lineage (:func:`dmf_sharpness.artifacts.lineage.marker`).
    """
    marked = [{**row, "lineage": lineage} for row in rows]
    return [{**row, "seal": _seal(marked)} for row in marked]


def _seal(rows: list[dict[str, Any]]) -> str:
    plain = [{key: value for key, value in row.items() if key != "seal"} for row in rows]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant}, which is no number")


def all_stand(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is at least one claim, and every claim stands."""
    return len(rows) > 0 and all(map(stands, rows))


def format_number(value: float | None) -> str:
    """A number with two digits, or a dash if there was nothing to measure."""
    return "–" if value is None else f"{value:.2g}"


def format_control(control: Mapping[str, Any]) -> str:
    """The median of a control, and the share of it beyond the tolerance unless that is all of it."""
    value = format_number(control["value"])
    return value if control["share"] == 1 else f"{value} ({control['share']:.1%})"


def to_markdown(rows: list[dict[str, Any]]) -> str:
    """The ledger as a Markdown table."""
    lines = [
        "| claim | origin | what is claimed | statistic (largest) | value | tolerance | n | problems "
        "| verdict | negative control: median, share beyond the tolerance |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
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
            str(row["problems"]),
            f"**{row['verdict']}**",
            f"{control['description']}: {format_control(control)}, {control['verdict']}",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def to_short_markdown(
    rows: list[dict[str, Any]], figures: Mapping[str, Sequence[str]] | None = None
) -> str:
    """The ledger as the README shows it: the paper's claims, and ours in a folded section below them.

    Args:
        rows: The ledger.
        figures: The names of the figures that show a claim, by its id.
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
        "| claim | measured | tolerance | n | problems | control | verdict | figure |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for row in rows:
        origin = " (extension)" if row["origin"] == "extension" else ""
        cells = [
            f"**{row['id']}**{origin} {row['claim']}".replace("|", "\\|"),
            format_number(row["value"]),
            format_number(row["tolerance"]),
            str(row["n"]),
            str(row["problems"]),
            format_control(row["control"]),
            row["verdict"],
            ", ".join(f"[{name}](figures/{name}.png)" for name in figures.get(row["id"], ())),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_text(rows: list[dict[str, Any]]) -> str:
    """The ledger as a table for a terminal: one line per claim."""
    lines = [
        f"{'':2}{'claim':<20}{'value':>9}  {'≤':>7}{'n':>6}{'of':>5}  {'control':>15}  what is claimed"
    ]
    for row in rows:
        lines.append(
            f"{'✓' if stands(row) else '✗':2}{row['id']:<20}{format_number(row['value']):>9}  "
            f"{format_number(row['tolerance']):>7}{row['n']:>6}{row['problems']:>5}  "
            f"{format_control(row['control']):>15}  "
            f"{row['claim']}"
        )
    return "\n".join(lines) + "\n"


def summary(rows: list[dict[str, Any]]) -> str:
    """One sentence that says whether the claims stand."""
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


def to_verdict(rows: list[dict[str, Any]]) -> str:
    """The verdict that the pipeline prints: the table for a terminal, and the summary."""
    return f"{to_text(rows)}\n{summary(rows)}\n"
