"""Stage 4: judge every claim from the tables, and write the ledger as JSON and Markdown."""

import json
from pathlib import Path

from dmf_sharpness import cli
from dmf_sharpness.artifacts import read_tables, write_text
from dmf_sharpness.claims import judge, to_json, to_markdown


def main() -> None:
    """Read the tables, write OUTPUT and, beside it, the same as Markdown."""
    parser = cli.parser(__doc__, output="where to write the ledger (JSON); NAME.md goes beside it")
    parser.add_argument(
        "--sharpness", nargs="+", required=True, type=Path, help="tables of stage 2 (Parquet)"
    )
    parser.add_argument(
        "--escape", nargs="+", required=True, type=Path, help="tables of stage 3 (Parquet)"
    )
    parser.add_argument(
        "--bottleneck", nargs="*", default=[], type=Path, help="tables of bottlenecks (Parquet)"
    )
    args = parser.parse_args()
<<<<<<< HEAD
    sharpness = read_tables(args.sharpness, "sharpness")
    rows = to_json(judge(sharpness, read_tables(args.escape, "escape")))
=======
    sharpness = [read_table(path, "sharpness")[0] for path in args.sharpness]
    escape = [read_table(path, "escape")[0] for path in args.escape]
    narrow = [read_table(path, "bottleneck")[0] for path in args.bottleneck]
    bottleneck = pd.concat(narrow) if narrow else None
    rows = to_json(judge(pd.concat(sharpness), pd.concat(escape), bottleneck))
>>>>>>> b2e41e2 (Bottleneck: an experiment, its table, figure and ledger rows)
    write_text(args.output.with_suffix(".md"), to_markdown(rows))
    write_text(args.output, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    fallen = [row["id"] for row in rows if row["verdict"] == "fails"]
    cli.log.info("%s: %d claims, failed: %s", args.output, len(rows), fallen or "none")


if __name__ == "__main__":
    cli.run(main)
