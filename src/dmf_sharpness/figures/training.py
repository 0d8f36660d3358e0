"""The sharpness at the end of training from standard starts, against the step size."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/training",),
    caption=(
        "The sharpness at the end of training from standard starts, a dot for each of the runs that "
        "converge, by the closed form ({C6.trained_stable.n} runs). Left, scalar networks; right, matrix "
        "factorizations and data. No run ends above 2/η (line; C6.trained_stable) or below λ_flat "
        "(C6.trained_flat), and none converges with η > 2/λ_flat (C6.trained_limit: "
        "{C6.trained_limit.n} runs). At small steps most runs end about where gradient flow from the same "
        "start does (ticks at the left; C6.trained_follows), as long as this is below 2/η. The dots of some "
        "starts are joined; one that is itself too sharp for a step size may end anywhere in between."
    ),
)

TOP = 8.0
"""Sharper ends, of scalar networks on small targets, are not shown."""
JOINED = 6
"""The dots of so many starts are joined."""


def draw(tables: Tables) -> Figure:
    """``λ_end/λ_flat`` over ``ηλ_flat/2``, on logarithmic axes."""
    table = tables.studies["training"]
    table = table[table.groupby(["experiment", "network"]).flat_ratio.transform("max") > 1]
    scalar = table.widths.str.match(r"1-.*-1$")
    figure, panels = style.new_panels(2, ratio=0.8, sharey=True)
    colours = style.depth_colours(table.depth)
    for axes, rows, title in zip(
        panels, (table[scalar], table[~scalar]), ("scalars", "matrices"), strict=True
    ):
        _draw(axes, rows, colours)
        axes.set_title(title)
    style.label_rows(panels, r"$\lambda_{\mathrm{end}}/\lambda_{\mathrm{flat}}$")
    panels[0].plot([], [], color="0.45", linewidth=0.7, label="one start, all step sizes")
    panels[0].plot(
        [], [], "_", color="0.45", markersize=4, markeredgewidth=0.8, label="gradient flow"
    )
    handles, labels = panels[0].get_legend_handles_labels()
    panels[0].legend(handles[-2:], labels[-2:], loc="upper right", bbox_to_anchor=(1.0, 1.0))
    panels[-1].legend(title="depth $L$", ncols=2, loc="upper right", handletextpad=0.1)
    return figure


def _draw(axes: Axes, table: pd.DataFrame, colours: Mapping[int, Any]) -> None:
    rows = table[table.outcome == "converged"]
    left, right = 0.7 * table.flat_ratio.min(), 1.15 * table.flat_ratio.max()
    ratio = np.geomspace(left, 1, 200)
    axes.fill_between([left, 1, 1, right], 1, 0.8, color="0.93", linewidth=0)
    axes.plot(ratio, 1 / ratio, color=style.THEORY, linewidth=0.9)
    axes.plot([left, 1], [1, 1], color=style.THEORY, linewidth=0.9)
    axes.text(0.36, 3.0, r"$2/\eta$", fontsize=7)
    axes.text(
        1.05 * left, 0.98, r"below $\lambda_{\mathrm{flat}}$", fontsize=6, color="0.4", va="top"
    )
    axes.text(
        1.02, 1.5, "no minimizer\nis stable", fontsize=6, color="0.4", rotation=90, va="center"
    )
    seen = rows[rows.flow_ratio.between(1.05, TOP)]
    flows = seen.groupby(["experiment", "network", "problem", "start", "repeat"])
    ends = flows.flow_ratio.first().sort_values()
    for place in np.linspace(0.1, 1, JOINED) * (len(ends) - 1):
        path = flows.get_group(ends.index[int(place)])
        axes.plot(path.flat_ratio, path.sharpness_ratio, color="0.45", linewidth=0.7, zorder=3)
    for depth, colour in colours.items():
        some = rows[rows.depth == depth]
        # The step sizes of the runs are the same for all; the dots of a depth stand a little aside.
        aside = 1.012 ** (list(colours).index(depth) - len(colours) / 2)
        axes.scatter(
            some.flat_ratio * aside, some.sharpness_ratio, s=3, color=colour, linewidths=0,
            label=f"{depth}", rasterized=True, zorder=2,
        )  # fmt: skip
        axes.plot(
            [left * 1.03] * len(some), some.flow_ratio, "_", color=colour, markersize=3,
            markeredgewidth=0.4,
        )  # fmt: skip
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(left, right),
        ylim=(0.9, TOP),
        xlabel=r"$\eta\lambda_{\mathrm{flat}}/2$",
    )
    axes.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5, 1], ["0.02", "0.05", "0.1", "0.2", "0.5", "1"])
    axes.set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    axes.minorticks_off()
