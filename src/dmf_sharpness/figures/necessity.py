"""When balance is necessary: the predicted answer and the measured excess, over spectra and widths."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dmf_sharpness.claims.tolerances import EXACT
from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/unbalanced",),
    caption=(
        "When every flat minimizer is balanced (ours), at depth 3. A square is a network: its input and "
        "first hidden width at the bottom, its last hidden and output width at the left, r the rank of "
        "the target. Colour, the theorem: blue, every flat minimizer is balanced; orange, not every. "
        "Numbers, the measurement: the least excess sharpness of a minimizer with a spectral product "
        "off by 1 % and more, constructed (C2.not_necessary: flat to {C2.not_necessary.value} at "
        "{C2.not_necessary.n} of {C2.not_necessary.problems} problems) or found by a search with the "
        "product held 5 % off (C2.necessary: below what is proved by at most {C2.necessary.value} at "
        "{C2.necessary.n} problems)."
    ),
)

DEPTH = 3
"""The grid is drawn for this depth, where two widths at each end decide."""
TINT = 0.35
"""The opacity of the squares."""


def draw(tables: Tables) -> Figure:
    """A panel per spectrum: the widths at the input against those at the output."""
    table = tables.studies["unbalanced"]
    table = table[table.depth == DEPTH].assign(share=table.least_share.round(6))
    grids = []
    for rank, share in table[["rank", "share"]].drop_duplicates().to_numpy():
        rows = table[(table["rank"] == rank) & (table.share == share)]
        best = rows.groupby("widths", as_index=False).agg(
            necessary=("necessary", "first"), excess=("unbalanced_excess", "min")
        )
        if len(best) == 16:
            grids.append((int(rank), float(share), best))
    # Rank 1 first, then equal singular values before unequal ones.
    grids.sort(key=lambda grid: (grid[0], -grid[1]))
    figure, panels = style.new_panels(len(grids), ratio=1.22)
    for axes, (rank, share, rows) in zip(panels, grids, strict=True):
        _draw_grid(axes, rank, rows)
        axes.set_title(_spectrum(rank, share))
    style.label_rows(panels, "$d_2, d_3$")
    handles = [
        Patch(facecolor=style.STABLE, alpha=TINT, label="theorem: only balanced ones are flat"),
        Patch(facecolor=style.UNSTABLE, alpha=TINT, label="theorem: others can be flat"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _spectrum(rank: int, share: float) -> str:
    if rank == 1:
        return "rank 1"
    return f"rank {rank}, " + (
        r"$\sigma_2 = \sigma_1$" if share == 1 else rf"$\sigma_2 = {share:g}\,\sigma_1$"
    )


def _draw_grid(axes: Axes, rank: int, rows: pd.DataFrame) -> None:
    places = [(a, b) for a in (rank, rank + 1) for b in (rank, rank + 1)]
    for widths, necessary, excess in zip(rows.widths, rows.necessary, rows.excess, strict=True):
        d_0, d_1, d_2, d_3 = (int(width) for width in widths.split("-"))
        x, y = places.index((d_0, d_1)), places.index((d_3, d_2))
        colour = style.STABLE if necessary else style.UNSTABLE
        axes.fill_between(
            [x - 0.47, x + 0.47], y - 0.47, y + 0.47, color=colour, alpha=TINT, linewidth=0
        )
        text = "flat" if excess <= EXACT else f"+{100 * excess:.2g} %"
        axes.annotate(text, (x, y), ha="center", va="center", fontsize="small")
    names = ["r" if width == rank else "r+1" for width in (rank, rank + 1)]
    pairs = [(a, b) for a in names for b in names]
    axes.set_xticks(np.arange(4), [f"${a}$\n${b}$" for a, b in pairs])
    axes.set_yticks(np.arange(4), [f"${b}, {a}$" for a, b in pairs])
    axes.set(xlim=(-0.5, 3.5), ylim=(-0.5, 3.5), xlabel="$d_0$ (above), $d_1$ (below)")
    axes.set_aspect("equal")
    axes.tick_params(length=0)
