"""Optional: the escape from a minimizer as an animated GIF, from cached tables."""

from pathlib import Path

from dmf_sharpness import cli
from dmf_sharpness.artifacts import lineage
from dmf_sharpness.artifacts.store import atomic_path
from dmf_sharpness.experiments import catalog
from dmf_sharpness.figures import animation, style
from dmf_sharpness.figures.tables import (
    check_drawn,
    load_tables,
    refused_if_not_drawable,
)

RESOLUTION = 130
"""Dots per inch: 880 pixels across."""


def main() -> None:
    """Read the recorded runs and the contour map, write the GIF."""
    parser = cli.parser(__doc__)
    parser.add_argument("output", type=Path, help="the GIF to write")
    parser.add_argument("--trajectories", nargs="+", required=True, type=Path, help="Parquet")
    parser.add_argument("--landscape", required=True, type=Path, help="safetensors")
    args = parser.parse_args()
    tables = load_tables(trajectories=args.trajectories, landscape=args.landscape)
    check_drawn(tables, catalog.figures()["contour"].tables)
    with (
        refused_if_not_drawable(args.output),
        style.applied(style.Style()),
        atomic_path(args.output) as temporary,
    ):
        movie = animation.animate(tables)
        movie.save(temporary, writer="pillow", fps=animation.FRAME_RATE, dpi=RESOLUTION)
        animation.add_comment(temporary, lineage.marker(cli.origin()))
    cli.log.info("%s", args.output)


if __name__ == "__main__":
    cli.run(main)
