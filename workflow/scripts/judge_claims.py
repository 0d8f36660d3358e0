"""Stage 4: judge every claim from the tables, and write the ledger as JSON and Markdown."""

import json
from pathlib import Path

from dmf_sharpness import cli
from dmf_sharpness.artifacts import read_studies, read_tables, write_text
from dmf_sharpness.claims import judge
from dmf_sharpness.ledger import to_json, to_markdown
from dmf_sharpness.study_claims import judge_studies


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
    parser.add_argument(
        "--studies",
        nargs="*",
        default=[],
        type=Path,
        help="tables of studies, STUDY/EXPERIMENT.parquet",
    )
    args = parser.parse_args()
    sharpness = read_tables(args.sharpness, "sharpness")
    escape = read_tables(args.escape, "escape")
    narrow = read_tables(args.bottleneck, "bottleneck") if args.bottleneck else None
    claims = [*judge(sharpness, escape, narrow), *judge_studies(read_studies(args.studies))]
    rows = to_json(sorted(claims, key=lambda claim: claim.id.partition(".")[0]))  # C1 … C6
    write_text(args.output.with_suffix(".md"), to_markdown(rows))
    write_text(args.output, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    fallen = [row["id"] for row in rows if row["verdict"] == "fails"]
    cli.log.info("%s: %d claims, failed: %s", args.output, len(rows), fallen or "none")


if __name__ == "__main__":
    cli.run(main)
