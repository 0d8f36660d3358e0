"""The closed form behind a bottleneck: where it is exact, and how far from the sharpness it can be."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmf_sharpness.claims.tolerances import EXACT
from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("bottleneck",),
    caption=(
        "Behind a bottleneck, a hidden layer of a width k below the target's rank, the minimum keeps a "
        "residual. Left: the relative difference of the sharpness and the closed form at random minimizers. "
        "The closed form is exact where both W_1 and W_L have rank k (C1.bottleneck_exact: to "
        "{C1.bottleneck_exact.value} over {C1.bottleneck_exact.n} minimizers), and not too high where one of "
        "them has. Hollow dots: it is too high. Right: the sharpness over the closed form, against the ratio "
        "of the singular values on both sides of the cut. Lines, the bounds: they hold at all "
        "{C1.bottleneck_bounds.n} minimizers, and two families come near to them (C1.bottleneck_high: to "
        "{C1.bottleneck_high.value}; C1.bottleneck_low: to {C1.bottleneck_low.value}). The random "
        "minimizers, grey, are far from both."
    ),
)

SMALLEST = float(np.finfo(np.float64).eps) / 2
"""A difference of zero is drawn at this value."""
ENDS = {2: "both", 1: "one", 0: "none"}
"""The names of the rows of the left panel, by the number of outer factors with the bottleneck's rank."""


def draw(tables: Tables) -> Figure:
    """Left, the error of the closed form by the ranks of the outer factors; right, its bounds."""
    table = tables.bottleneck
    figure, (left, right) = style.new_panels(2, ratio=0.72)
    random = table[table.kind == "bottlenecked"]
    _draw_errors(left, random)
    _draw_bounds(right, table, random)
    return figure


def _draw_errors(axes: Axes, table: pd.DataFrame) -> None:
    axes.axvspan(SMALLEST / 2, EXACT, color="0.94", linewidth=0)
    palette = style.depth_colours(table.depth)
    cells = table[["tight_ends", "depth"]].drop_duplicates().to_numpy()
    for ends, depth in cells:
        rows = table[(table.tight_ends == ends) & (table.depth == depth)]
        excess = rows.sharpness / rows.expression - 1
        # The dots of a row are spread evenly over its height, and their order means nothing.
        height = 2 - int(ends) + 0.7 * (np.arange(len(rows)) * 0.618 % 1 - 0.5)
        for side, filled in ((excess >= 0, True), (excess < 0, False)):
            colour = palette[int(depth)]
            axes.scatter(
                excess[side].abs().clip(lower=SMALLEST),
                height[side.to_numpy()],
                s=8,
                linewidths=0.5,
                edgecolors=[colour],
                facecolors=[colour if filled else "none"],
            )
    for depth, colour in palette.items():
        axes.scatter([], [], s=9, color=colour, label=str(depth))
    for label, face in (("too low", style.OTHER), ("too high", "none")):
        axes.scatter(
            [], [], s=9, facecolors=face, edgecolors=style.OTHER, linewidths=0.5, label=label
        )
    axes.set(
        xscale="log",
        xlim=(SMALLEST / 2, 1),
        ylim=(2.5, -0.5),
        yticks=[0, 1, 2],
        xlabel=r"$|\lambda_{\max} / \mathrm{closed\ form} - 1|$",
        ylabel="outer factors of rank $k$",
    )
    axes.set_yticklabels([ENDS[2], ENDS[1], ENDS[0]], rotation=90, va="center")
    style.decades(axes, "x", 9)
    axes.annotate("exact", (EXACT, 0.5), xytext=(-4, 0), textcoords="offset points", ha="right")
    axes.legend(
        title="depth $L$; closed form",
        loc="lower left",
        handletextpad=0.1,
        ncols=2,
        borderaxespad=0.2,
    )


def _draw_bounds(axes: Axes, table: pd.DataFrame, random: pd.DataFrame) -> None:
    q = np.linspace(0, 1, 200)
    upper, lower = 1 + q, (1 + q) / (1 + 2 * q)
    axes.fill_between(q, lower, upper, color=style.OTHER, alpha=0.15, linewidth=0)
    axes.plot(q, upper, color=style.THEORY, linewidth=0.9, label="$1 + q$")
    axes.plot(q, lower, color=style.THEORY, linewidth=0.9, linestyle="--", label="$(1+q)/(1+2q)$")
    for rows, name, colour, marker, size in (
        (random, "random", style.OTHER, "o", 4),
        (table[table.kind == "underestimated"], "family, from depth 3", style.UNSTABLE, "^", 16),
        (table[table.kind == "overestimated"], "family, from depth 4", style.STABLE, "v", 16),
    ):
        ratio = rows.sharpness / rows.expression
        axes.scatter(
            rows.residual_ratio, ratio, s=size, color=colour, marker=marker, linewidths=0, label=name,
            zorder=3,
        )  # fmt: skip
    axes.set(
        xlim=(0, 1),
        ylim=(0.6, 2.05),
        xlabel=r"$q = \sigma_{k+1} / \sigma_k$",
        ylabel=r"$\lambda_{\max} / \mathrm{closed\ form}$",
    )
    axes.legend(loc="upper left", handletextpad=0.4)
