"""Put the measured ledger, and the benchmark if there is one, into the README between their markers."""

import re
from pathlib import Path

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import read_table, write_text
from dmf_sharpness.claims.ledger import read_ledger, summary, to_short_markdown
from dmf_sharpness.errors import UserError
from dmf_sharpness.figures import benchmark_tables
from dmf_sharpness.figures.captions import figures_of


def main() -> None:
    """Read CLAIMS, rewrite README; if anything is wrong with either, the README stays as it is."""
    parser = cli.parser(
        __doc__, claims="the ledger (JSON), from judge_claims.py", readme="the README to update"
    )
    parser.add_argument("--benchmark", type=Path, help="from benchmarks/sharpness.py, if it exists")
    args = parser.parse_args()
    rows = read_ledger(args.claims)
    if not rows:
        raise UserError(f"{args.claims}: {summary(rows)}")
    tables = {"claims": to_short_markdown(rows, {row["id"]: figures_of(row["id"]) for row in rows})}
    if args.benchmark is not None and args.benchmark.exists():
        measured, _ = read_table(args.benchmark, "benchmark")
        tables["bench"] = benchmark_tables.to_short_markdown(measured)
    text = _read(args.readme)
    for name, table in tables.items():
        text = _between(args.readme, name, table, text)
    write_text(args.readme.resolve(), text)  # the file behind a link, not in its place


def _read(path: Path) -> str:
    """The text of a file with its line ends, which may be those of Windows."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected a text in UTF-8, got: {error.reason}") from None


def _between(path: Path, name: str, table: str, text: str) -> str:
    marks = re.compile(rf"(<!-- {name} -->(\r?\n)).*?(<!-- /{name} -->)", re.DOTALL)
    found = marks.findall(text)
    if len(found) != 1:
        raise UserError(
            f"{path}: expected the lines <!-- {name} --> and <!-- /{name} --> once, one after the "
            f"other, got them {len(found)} times"
        )
    return marks.sub(lambda mark: mark[1] + table.replace("\n", mark[2]) + mark[3], text)


if __name__ == "__main__":
    cli.run(main)
