"""Keep one line per benchmark, and warn where a ratio to another tool has fallen.

A ratio compares two tools in one run on one machine, so it depends on the machine much less than a time.
"""

import argparse
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dmf_sharpness import cli
from dmf_sharpness.artifacts.provenance import machine, versions
from dmf_sharpness.artifacts.store import read_table, write_text
from dmf_sharpness.errors import UserError
from dmf_sharpness.figures.benchmark_tables import ACCURATE, OURS

import pandas as pd

HISTORY = Path(__file__).with_name("history.jsonl")
FALLEN = 0.8
"""A warning is printed where a ratio is below this fraction of the last one that was kept."""


def line_of(table: pd.DataFrame) -> dict[str, Any]:
    """A line of the history: the commit, the machine, our seconds, and the ratios to accurate tools."""
    right = table[(table.status == "ok") & (table.tool != OURS) & (table.error <= ACCURATE)]
    ours = table[(table.status == "ok") & (table.tool == OURS)]
    ratios: dict[str, dict[str, float]] = {}
    for row in right.itertuples():
        ratios.setdefault(str(row.widths), {})[str(row.tool)] = _rounded(row.ratio)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": machine(),
        "versions": {name: versions()[name] for name in ("torch", "numpy", "scipy")},
        "seconds": {str(row.widths): _rounded(row.seconds) for row in ours.itertuples()},
        "ratios": ratios,
    }


def warnings(new: dict[str, Any], kept: list[dict[str, Any]]) -> list[str]:
    """A sentence for each ratio below :data:`FALLEN` of the last kept one of the same problem and tool."""
    said = []
    for widths, ratios in new["ratios"].items():
        for tool, ratio in ratios.items():
            earlier = [old for old in kept if tool in old["ratios"].get(widths, {})]
            if not earlier:
                continue
            before = earlier[-1]["ratios"][widths][tool]
            if ratio < FALLEN * before:
                said.append(
                    f"warning: {widths}: {ratio:g} × faster than {tool}, {before:g} × at commit "
                    f"{earlier[-1]['commit']}"
                )
    return said


def read_history(path: Path) -> list[dict[str, Any]]:
    """All lines of a history, the oldest first; none if there is no file yet."""
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError:
        raise UserError(f"{path}: expected a JSON object in each line") from None


def _rounded(value: Any) -> float:
    return float(f"{float(value):.3g}")


def _commit() -> str:
    """The commit of the working tree, marked if it has changes."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(command, cwd=HISTORY.parent, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.decode("utf-8").strip()


def main() -> None:
    """Compare TABLE with the history; with ``--keep`` it becomes a line of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="from benchmarks/sharpness.py")
    parser.add_argument("--keep", action="store_true", help="add a line to the history")
    parser.add_argument("--history", type=Path, default=HISTORY, help="the file of the history")
    args = parser.parse_args()
    new = line_of(read_table(args.table, "benchmark")[0])
    kept = read_history(args.history)
    said = warnings(new, kept)
    count = sum(map(len, new["ratios"].values()))
    print("\n".join(said) or f"no ratio has fallen by a fifth, of {count} that were measured")
    if args.keep:
        lines = [json.dumps(line, ensure_ascii=False) for line in [*kept, new]]
        write_text(args.history, "\n".join(lines) + "\n")


if __name__ == "__main__":
    cli.run(main)
