"""Put the measured ledger, and the benchmark if there is one, into the README between their markers.

The tables of ``docs/landing_law.md`` and ``docs/speed.md`` are put into these pages in the same way.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import read_table, write_text
from dmf_sharpness.claims import landing_misses
from dmf_sharpness.claims.ledger import all_stand, read_ledger, summary, to_short_markdown
from dmf_sharpness.errors import UserError
from dmf_sharpness.figures import benchmark_tables
from dmf_sharpness.figures.captions import figures_of


def main() -> None:
    """Read CLAIMS, rewrite README; if anything is wrong with either, the README stays as it is.

    A ledger with a claim that does not stand is refused, so that the README never shows one.
    """
    parser = cli.parser(
        __doc__, claims="the ledger (JSON), from judge_claims.py", readme="the README to update"
    )
    parser.add_argument("--benchmark", type=Path, help="from benchmarks/sharpness.py, if it exists")
    parser.add_argument(
        "--landings",
        nargs=2,
        type=Path,
        metavar=("TABLE", "PAGE"),
        help="the table of the study landing, if it exists, and the page on the landing law to update",
    )
    parser.add_argument(
        "--scaling",
        nargs=2,
        type=Path,
        metavar=("TABLE", "PAGE"),
        help="from benchmarks/scaling.py, if it exists, and the page on speed to update",
    )
    args = parser.parse_args()
    rows = read_ledger(args.claims)
    if not all_stand(rows):
        raise UserError(f"{args.claims}: {summary(rows)}")
    tables = {"claims": to_short_markdown(rows, {row["id"]: figures_of(row["id"]) for row in rows})}
    if args.benchmark is not None and args.benchmark.exists():
        measured, _ = read_table(args.benchmark, "benchmark")
        tables["bench"] = benchmark_tables.to_short_markdown(measured)
    _update(args.readme, tables)
    if args.landings is not None and args.landings[0].exists():
        source, page = args.landings
        landings, _ = read_table(source, "study_landing")
        _update(page, {"misses": landing_misses.to_markdown(landings)})
    if args.scaling is not None and args.scaling[0].exists():
        from dmf_sharpness.figures.benchmark_scaling import slopes  # brings Matplotlib with it

        source, page = args.scaling
        scaling, _ = read_table(source, "benchmark")
        _update(page, {"scaling": slopes(scaling)})


def _update(page: Path, tables: Mapping[str, str]) -> None:
    """Put tables between the markers of their names."""
    text = _read(page)
    for name, table in tables.items():
        text = _between(page, name, table, text)
    write_text(page.resolve(), text)  # the file behind a link, not in its place


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
