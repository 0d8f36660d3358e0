"""The benchmark of the sharpness as Markdown: a short table for the README, and a table of all tools."""

import math
from typing import Any

import pandas as pd

OURS = "dmf_sharpness"
"""This package has this name among the tools."""
ACCURATE = 1e-8
"""A tool counts as accurate up to this relative error."""


def to_short_markdown(table: pd.DataFrame) -> str:
    """A table with a row for each problem: our time and error, and the fastest of the accurate tools.

    Args:
        table: A row per problem and tool with the columns ``widths``, ``parameters``, ``tool``, ``status``,
            ``seconds``, ``cpu_seconds``, ``error``, ``residual``, ``ratio``, and ``memory`` if it was
            measured.
    """
    lines = [
        "| widths | parameters | this engine | relative error | fastest accurate tool | ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    problems: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_dict("records"):
        problems.setdefault(str(row["widths"]), []).append({str(k): v for k, v in row.items()})
    for widths, rows in problems.items():
        ours = next(row for row in rows if row["tool"] == OURS)
        time = _time(ours["seconds"])
        if ours.get("memory", math.nan) > 0:
            time += f", memory {ours['memory']:.2f} × the factors"
        known = ours["error"] >= 0
        error = _number(ours["error"]) if known else f"residual {_number(ours['residual'])}"
        others = [row for row in rows if row["tool"] != OURS]
        right = [row for row in others if row["status"] == "ok" and row["error"] <= ACCURATE]
        stopped = [row for row in others if row["status"] == "stopped"]
        fastest, ratio = "–", "–"
        if right or stopped:
            # If no tool gave an accurate answer in time, the time limit is a lower bound.
            bound = "" if right else "> "
            best = min(right or stopped, key=lambda row: float(row["seconds"]))
            fastest = f"{best['tool']}, {bound}{_time(best['seconds'])}"
            ratio = f"{bound}{best['ratio']:,.3g}"
        cells = [widths, f"{ours['parameters']:,.0f}", time, error, fastest, ratio]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_markdown(table: pd.DataFrame) -> str:
    """A table with a row for each tool and problem: its time, the ratio to our time, and its error."""
    lines = [
        "| widths | parameters | tool | repeats | time | processor time | ratio | relative error |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in table.to_dict("records"):
        known = row["seconds"] > 0
        bound = "> " if row["status"] == "stopped" else ""
        method = row["method"]
        name = f"{row['tool']} ({method})" if isinstance(method, str) and method else row["tool"]
        cells = [
            row["widths"],
            f"{row['parameters']:,.0f}",
            name,
            f"{row['repeats']:.0f}",
            bound + _time(row["seconds"]) if known else row["status"],
            _time(row["cpu_seconds"]) if row["cpu_seconds"] > 0 else "–",
            f"{bound}{row['ratio']:,.3g}" if known else "–",
            _number(row["error"]) if row["error"] >= 0 else "–",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def _number(value: float) -> str:
    return f"{value:.0e}" if value else "0"
