"""Write docs/tables.md, the dictionary of all columns, from docs/tables.yaml.

The meanings and units are in that file. The readers of a column are found in the sources (``readers.py``).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import write_text
from dmf_sharpness.artifacts.yaml_files import read_mapping
from readers import readers_of

ROOT = Path(__file__).resolve().parents[1]
REGISTER = ROOT / "docs/tables.yaml"
PAGE = ROOT / "docs/tables.md"
MARKS = re.compile(r"(<!-- tables -->\n).*(<!-- /tables -->)", re.DOTALL)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name.
        meaning: Its meaning, in Markdown.
        unit: One of the units of the register.
        kept: The purpose of a column that no module reads; None if one does.
    """

    name: str
    meaning: str
    unit: str
    kept: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of the pipeline.

    Attributes:
        name: ``sharpness``, or ``studies/landing``.
        rows: What a row is.
        identity: The columns that identify the minimizer of a row, first in the table.
        columns: Its own columns, in order.
    """

    name: str
    rows: str
    identity: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns."""
        return (*self.identity, *(column.name for column in self.columns))

    @property
    def path(self) -> str:
        """The file of an experiment."""
        if self.name == "trajectories":
            return "results/escape/<experiment>.trajectories.parquet"
        return f"results/{self.name}/<experiment>.parquet"


def register() -> dict[str, Table]:
    """All tables of the register, by name."""
    given = read_mapping(REGISTER)
    return {
        name: Table(
            name,
            table["rows"],
            tuple(table.get("identity", given["identity"])),
            tuple(_columns(table, given["columns"])),
        )
        for name, table in given["tables"].items()
    }


def _columns(table: Mapping[str, Any], common: Mapping[str, Any]) -> Iterator[Column]:
    kept = table.get("kept", {})
    for name, own in table["columns"].items():
        meaning, unit = own or common[name]
        yield Column(name, meaning, str(unit), kept.get(name))


def to_markdown() -> str:
    """The dictionary: the columns that all tables share, and a section per table."""
    given = read_mapping(REGISTER)
    lines = ["| unit | |", "| --- | --- |"]
    lines += [f"| {unit} | {meaning} |" for unit, meaning in given["units"].items()]
    lines += ["", "## The first columns of every table", ""]
    lines += ["| column | meaning | unit |", "| --- | --- | --- |"]
    lines += [
        f"| `{name}` | {meaning} | {unit} |" for name, (meaning, unit) in given["identity"].items()
    ]
    for table in register().values():
        lines += ["", f"## {table.name}", "", f"`{table.path}`; a row is {table.rows}.", ""]
        lines += ["| column | meaning | unit | read by |", "| --- | --- | --- | --- |"]
        lines += [_line(table.name, column) for column in table.columns]
    return "\n".join(lines) + "\n"


def _line(table: str, column: Column) -> str:
    modules = ", ".join(f"`{module}`" for module in readers_of(table, column.name))
    cells = [f"`{column.name}`", column.meaning, column.unit, modules or f"– (kept: {column.kept})"]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def page() -> str:
    """The text of the page, with the dictionary between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    return MARKS.sub(lambda mark: mark[1] + to_markdown() + mark[2], text)


def main() -> None:
    """Write the dictionary into the page."""
    cli.parser(__doc__).parse_args()
    write_text(PAGE, page())


if __name__ == "__main__":
    cli.run(main)
