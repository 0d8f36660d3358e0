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
        "correction of Gaussian matrices of finite width (C6.trained_width: where that is below 0.75, the "
        "deviation is at most {C6.trained_width.value} times it). "
        "Networks of four inputs and three outputs."
    ),
)


def draw(tables: Tables) -> Figure:
    """``λ_max`` over ``n``, on logarithmic axes, a colour per depth."""
    table = _equal_widths(tables.studies["training"])
    figure = style.new_figure()
    axes = figure.subplots()
    for depth, colour in style.depth_colours(table.depth).items():
        rows = table[table.depth == depth]
        aside = 1 + 0.05 * (depth - 3)
        axes.scatter(rows.n * aside, rows.value, s=7, color=colour, linewidths=0, label=f"{depth}")
        n = np.geomspace(rows.n.min(), rows.n.max(), 50)
        limit = 2 * (1 + (depth - 1) * n / 4)
        axes.plot(n, limit, color=colour, linewidth=0.8)
        correction = (1 + (4 / n) ** 0.5) ** (2 * (depth - 1))
        axes.plot(n, limit * correction, color=colour, linewidth=0.7, linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="width $n$", ylabel=r"$\lambda_{\max}$")
    axes.set_xticks([8, 16, 32, 64, 128, 256], ["8", "16", "32", "64", "128", "256"])
    axes.minorticks_off()
    axes.legend(title="depth $L$")
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
