"""The error of the closed form behind a bottleneck, network by network."""

import numpy as np
from matplotlib.figure import Figure

from dmf_sharpness.claims.tolerances import EXACT
from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("bottleneck",),
    caption=(
        "Behind a bottleneck, a hidden layer narrower than the target's rank, the minimum keeps a "
        "residual: how far the true sharpness then is from the closed form, network by network. "
        "It is still exact at depth 2 and wherever the first and the last hidden layer are as "
        "narrow as the bottleneck (C1.bottleneck_exact: to {C1.bottleneck_exact.value} over "
        "{C1.bottleneck_exact.n} minimizers). Elsewhere the sharpness comes from the "
        "Hessian-vector product with the residual (C1.bottleneck: to {C1.bottleneck.value} over "
        "{C1.bottleneck.n}). Hollow dots: the closed form is too high."
    ),
)

SMALLEST = float(np.finfo(np.float64).eps) / 2
"""An excess of zero is drawn at this value."""


def draw(tables: Tables) -> Figure:
    """The relative excess of the true sharpness over the closed form, a row per network, a colour per depth.

    Dots are hollow where the true sharpness is below the closed form.
    """
    table = tables.bottleneck
    networks = table.drop_duplicates("widths").sort_values(["depth", "tight_ends", "widths"])
    rows = {widths: row for row, widths in enumerate(networks.widths)}
    palette = style.depth_colours(table.depth)

    figure = style.new_figure(ratio=0.95)
    axes = figure.subplots()
    axes.axvspan(SMALLEST / 2, EXACT, color="0.94", linewidth=0)
    for widths, depth in zip(networks.widths, networks.depth, strict=True):
        part, colour = table[table.widths == widths], palette[int(depth)]
        for side, face in ((part.excess >= 0, colour), (part.excess < 0, "none")):
            x = part[side].excess.abs().clip(lower=SMALLEST)
            y = np.full(len(x), rows[widths])
            axes.scatter(x, y, s=9, linewidths=0.5, edgecolors=[colour], facecolors=[face])
    for depth, colour in palette.items():
        axes.scatter([], [], s=9, color=colour, label=str(depth))
    axes.scatter([], [], s=9, edgecolors="0.2", facecolors="none", label=r"$\lambda_{\max}$ below")
    axes.set(
        xscale="log",
        xlim=(SMALLEST / 2, 1),
        yticks=list(rows.values()),
        xlabel=r"$|\lambda_{\max} / \mathrm{closed\ form} - 1|$",
        ylabel="widths $d_0$-…-$d_L$",
    )
    axes.set_yticklabels(list(rows))
    style.decades(axes, "x", 9)
    axes.annotate("exact", (EXACT, 0), xytext=(-4, 0), textcoords="offset points", ha="right")
    axes.legend(title="depth $L$", loc=(0.3, 0.42), handletextpad=0.1)
    return figure
