"""Put the measured ledger, and the benchmark if there is one, into the README between their markers."""

import json
import re
from pathlib import Path

from dmf_sharpness import benchmark_tables, cli
from dmf_sharpness.artifacts import read_table, write_text
from dmf_sharpness.figures.captions import figures_of
from dmf_sharpness.ledger import to_short_markdown


def main() -> None:
    """Read CLAIMS, rewrite README."""
    parser = cli.parser(
        __doc__, claims="the ledger (JSON), from judge_claims.py", readme="the README to update"
    )
    parser.add_argument("--benchmark", type=Path, help="from benchmark_sharpness.py, if it exists")
    args = parser.parse_args()
    rows = json.loads(args.claims.read_text(encoding="utf-8"))
    table = to_short_markdown(rows, {row["id"]: figures_of(row["id"]) for row in rows})
    text = args.readme.read_text(encoding="utf-8")
    text = _between("claims", table, text)
    if args.benchmark is not None and args.benchmark.exists():
        measured, _ = read_table(args.benchmark, "benchmark")
        text = _between("bench", benchmark_tables.to_short_markdown(measured), text)
    write_text(args.readme, text)


def _between(name: str, table: str, text: str) -> str:
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return marks.sub(lambda found: found[1] + table + found[2], text)


if __name__ == "__main__":
    cli.run(main)
