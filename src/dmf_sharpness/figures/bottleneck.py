"""How far the exact expression falls short behind a bottleneck, network by network."""

import numpy as np
from matplotlib.figure import Figure

from dmf_sharpness.claims import EXACT
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

SMALLEST = float(np.finfo(np.float64).eps) / 2
"""Where an excess of zero is drawn."""


def draw(tables: Tables) -> Figure:
    """The excess of the true sharpness, a row of dots per network, a colour per depth."""
    table = tables.bottleneck
    networks = table.drop_duplicates("widths").sort_values(["depth", "uniform", "widths"])
    rows = {widths: row for row, widths in enumerate(networks.widths)}
    palette = style.depth_colours(table.depth)

    figure = style.new_figure(ratio=0.95)
    axes = figure.subplots()
    axes.axvspan(SMALLEST / 2, EXACT, color="0.94", linewidth=0)
    for depth, part in table.groupby("depth"):
        axes.scatter(
            part.excess.abs().clip(lower=SMALLEST), part.widths.map(rows), s=9, linewidths=0.2,
            edgecolors="white", color=palette[int(str(depth))], label=str(depth),
        )  # fmt: skip
    axes.set(
        xscale="log", xlim=(SMALLEST / 2, 1), yticks=list(rows.values()),
        xlabel=r"true sharpness over the expression, $-1$", ylabel="widths",
    )  # fmt: skip
    axes.set_yticklabels(list(rows))
    axes.tick_params(axis="y", labelsize="x-small")
    axes.annotate("exact", (EXACT, 0), xytext=(-4, 0), textcoords="offset points", ha="right")
    axes.legend(title="depth $L$", loc="center left", handletextpad=0.1)
    return figure
