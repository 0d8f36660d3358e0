"""Stage 4: judge every claim from the tables, and write the ledger as JSON and Markdown."""

import json
from pathlib import Path

from dmf_sharpness import cli
from dmf_sharpness.artifacts import lineage
from dmf_sharpness.artifacts.store import read_studies, read_tables, write_text
from dmf_sharpness.claims.judge import judge
from dmf_sharpness.claims.ledger import sealed_rows, to_json, to_markdown
from dmf_sharpness.errors import UserError


def main() -> None:
    """Read the tables, write OUTPUT and, beside it, the same as Markdown."""
    parser = cli.parser(__doc__, output="where to write the ledger (JSON); NAME.md goes beside it")
    for name, help_text in (
        ("sharpness", "tables of stage 2 (Parquet)"),
        ("escape", "tables of stage 3 (Parquet)"),
        ("bottleneck", "tables of bottlenecks (Parquet)"),
        ("studies", "tables of studies, STUDY/EXPERIMENT.parquet"),
    ):
        parser.add_argument(f"--{name}", nargs="*", default=[], type=Path, help=help_text)
    args = parser.parse_args()
    if not any((args.sharpness, args.escape, args.bottleneck, args.studies)):
        raise UserError("--sharpness, --escape, --bottleneck, --studies: expected tables, got none")
    stages = {"sharpness": args.sharpness, "escape": args.escape, "bottleneck": args.bottleneck}
    tables = {kind: read_tables(paths, kind) for kind, paths in stages.items() if paths}
    studies = read_studies(args.studies)
    claims = judge({**tables, **{f"studies/{name}": table for name, table in studies.items()}})
    origin = cli.origin()
    marker, made_from = lineage.marker(origin), origin["made_from"]
    rows = to_json(sorted(claims, key=lambda claim: claim.id.partition(".")[0]))  # C1 … C6
    for row in rows:
        row["artifacts"] = {path: made_from[path] for path in row["artifacts"]}
    rows = sealed_rows(rows, marker)
    write_text(args.output.with_suffix(".md"), f"{to_markdown(rows)}\n<!-- {marker} -->\n")
    write_text(args.output, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    fallen = [row["id"] for row in rows if row["verdict"] == "fails"]
    cli.log.info("%s: %d claims, failed: %s", args.output, len(rows), fallen or "none")


if __name__ == "__main__":
    cli.run(main)
