"""Stage 6: the ledger and the figures as one HTML file that needs nothing else."""

import base64
import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from dmf_sharpness import cli
from dmf_sharpness.artifacts import write_text
from dmf_sharpness.figures.captions import caption
from dmf_sharpness.ledger import format_number, summary

PACKAGES = ("dmf-sharpness", "torch", "numpy", "scipy", "snakemake")


def _figure(path: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    data = path.read_bytes()
    pixels = int.from_bytes(data[16:20], "big")  # the width in a PNG's header
    return {
        "data": base64.b64encode(data).decode(),
        "caption": caption(path.stem, rows),
        "width": f"min(100%, {pixels / 300 * 1.45:.1f}in)",  # 300 dpi, drawn larger than printed
    }


def main() -> None:
    """Read CLAIMS and the figures, write OUTPUT."""
    parser = cli.parser(
        __doc__,
        claims="the ledger (JSON), from judge_claims.py",
        output="where to write the report",
    )
    parser.add_argument("--figures", nargs="*", default=[], type=Path, help="figures (PNG)")
    args = parser.parse_args()
    rows = json.loads(args.claims.read_text(encoding="utf-8"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = format_number
    template = files("dmf_sharpness").joinpath("templates/report.html").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        claims=rows,
        summary=summary(rows),
        figures=[_figure(path, rows) for path in args.figures],
        versions=", ".join(f"{name} {version(name)}" for name in PACKAGES),
    )
    write_text(args.output, page)
    cli.log.info("%s: %d figures", args.output, len(args.figures))


if __name__ == "__main__":
    cli.run(main)
