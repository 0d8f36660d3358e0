"""The sharpness at the end of gradient flow from fan-in starts, over the width and the depth."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/training",),
    caption=(
        "The sharpness at the end of gradient flow from fan-in starts, a dot per start, over the width n of "
        "the hidden layers. Lines, 2(1 + (L − 1)n/d_0), to which it tends in wide networks; dotted, with the "
        "correction of Gaussian matrices of finite width, where that is below 0.75 (C6.trained_width: there "
        "the deviation is at most {C6.trained_width.value} times it). At depths 3 and 4 these widths are too "
        "small for that. Networks of four inputs and three outputs."
    ),
)


CORRECTED = 0.75
"""The correction for finite width is drawn where it is at most this, as in the row."""


def draw(tables: Tables) -> Figure:
    """``λ_max`` over ``n``, on logarithmic axes, a colour per depth."""
    table = _equal_widths(tables.studies["training"])
    figure = style.new_figure()
    axes = figure.subplots()
    for k, (depth, colour) in enumerate(style.depth_colours(table.depth).items()):
        rows = table[table.depth == depth]
        aside = 1 + 0.05 * (depth - 3)
        axes.plot(
            rows.n * aside, rows.value, "osD^v"[k % 5], markersize=3.5, color=colour,
            markeredgecolor="white", markeredgewidth=0.2, label=f"depth $L = {depth}$",
        )  # fmt: skip
        n = np.geomspace(rows.n.min(), rows.n.max(), 50)
        limit = 2 * (1 + (depth - 1) * n / 4)
        axes.plot(n, limit, color=colour, linewidth=0.8)
        correction = (1 + (4 / n) ** 0.5) ** (2 * (depth - 1))
        shown = correction - 1 <= CORRECTED
        axes.plot(n[shown], (limit * correction)[shown], color=colour, linewidth=0.7, linestyle=":")
    axes.plot([], [], color=style.THEORY, linewidth=0.8, label="$2(1 + (L-1)\\,n/d_0)$")
    axes.plot(
        [], [], ":", color=style.THEORY, linewidth=0.7, label="the same, corrected for finite $n$"
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="hidden width $n$ of $4$-$n$-…-$n$-$3$",
        ylabel=r"$\lambda_{\max}$ at the end of gradient flow",
    )
    axes.set_xticks([8, 16, 32, 64, 128, 256], ["8", "16", "32", "64", "128", "256"])
    axes.set_yticks([10, 30, 100, 300], ["10", "30", "100", "300"])
    axes.minorticks_off()
    figure.legend(loc="outside upper center", ncols=2, handletextpad=0.4)
    return figure


def _equal_widths(table: pd.DataFrame) -> pd.DataFrame:
    """The fan-in starts of networks with 4 inputs, 3 outputs and hidden layers of one width."""
    equal = table.widths.str.match(r"^4-(\d+)(-\1)*-3$") & (table.start == "fan_in")
    rows = table[equal & table.flow_ratio.notna()]
    rows = rows.drop_duplicates(["experiment", "network", "problem", "start", "repeat"])
    return rows.assign(
        n=rows.widths.str.split("-").str[1].astype(int),
        value=rows.flow_ratio * rows.flat_sharpness,
    )
