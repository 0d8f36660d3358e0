"""Stage 5: draw one figure from cached tables; nothing is computed again."""

from importlib import import_module
from pathlib import Path

from dmf_sharpness import cli
from dmf_sharpness.artifacts.provenance import shortened
from dmf_sharpness.experiments import catalog
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import (
    check_drawn,
    load_tables,
    refused_if_not_drawable,
)


def main() -> None:
    """Read the tables that the figure needs, write OUTPUT.png and the other formats."""
    parser = cli.parser(__doc__)
    parser.add_argument("figure", choices=tuple(catalog.figures()), help="which figure")
    own = style.Style()
    parser.add_argument(
        "--width", choices=("own", "column", "text"), default=own.width, help="how wide"
    )
    parser.add_argument("--palette", choices=style.PALETTES, default=own.palette, help="colours")
    parser.add_argument(
        "--formats", nargs="*", choices=("pdf", "svg", "png"), default=["pdf"], help="beside PNG"
    )
    parser.add_argument("output", type=Path, help="where to write it, without a suffix")
    for name in ("sharpness", "bottleneck", "escape", "trajectories", "benchmark"):
        parser.add_argument(
            f"--{name}", nargs="*", default=[], type=Path, help=f"tables of {name} (Parquet)"
        )
    parser.add_argument("--landscape", type=Path, help="the contour map (safetensors)")
    parser.add_argument(
        "--studies",
        nargs="*",
        default=[],
        type=Path,
        help="tables of studies, STUDY/EXPERIMENT.parquet",
    )
    args = parser.parse_args()
    tables = load_tables(
        args.sharpness,
        args.escape,
        args.trajectories,
        args.landscape,
        args.bottleneck,
        args.benchmark,
        args.studies,
    )
    check_drawn(tables, catalog.figures()[args.figure].tables)
    drawn = [*args.sharpness, *args.escape, *args.trajectories, *args.bottleneck, *args.benchmark]
    drawn += [*args.studies, *([args.landscape] if args.landscape else [])]
    module = import_module(f"dmf_sharpness.figures.{args.figure}")
    made = cli.origin(args.figure, {"width": args.width, "palette": args.palette})
    with refused_if_not_drawable(args.output):
        written = style.render(
            lambda: module.draw(tables),
            args.output,
            style.Style(args.width, args.palette),
            args.formats,
            shortened(drawn),
            made,
        )
    cli.log.info("%s", " ".join(map(str, written)))


if __name__ == "__main__":
    cli.run(main)
