"""Excess sharpness against spectral imbalance, at depth 2 and for scalars, where only balance is flat."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables
from dmf_sharpness.network.least_excess import least_excess

FIGURE = FigureInputs(
    tables=("sharpness",),
    of="factorization",
    caption=(
        "Excess sharpness against the spectral imbalance. Bottom left, equal products: flat "
        "(C3.sufficient: to {C3.sufficient.value} over {C3.sufficient.n}; C4.sufficient: to "
        "{C4.sufficient.value} over {C4.sufficient.n}). Lines, the least excess that an imbalance "
        "allows; at depth 2 it is the parabola 2(‖W_1‖ − ‖W_2‖)² of factors with ‖W_1‖‖W_2‖ = "
        "‖M‖. No minimizer lies to the right of its line (C3.necessary: violated by at most "
        "{C3.necessary.value} over {C3.necessary.n} minimizers; C4.necessary: by "
        "{C4.necessary.value} over {C4.necessary.n})."
    ),
)

FLOOR = 1e-16
"""Smaller excesses and imbalances, which are rounding errors, are drawn at this value."""
FLAT_BAND = 1e-13
"""Minimizers in the shaded band below this excess are flat to rounding."""


def draw(tables: Tables) -> Figure:
    """A panel for depth 2 and one for scalars, with the least excess that an imbalance allows as a line."""
    table = tables.sharpness[tables.sharpness.flat_sharpness.notna()]
    scalar = table.widths.str.match(r"1-.*-1$")
    figure, (left, right) = style.new_panels(2, ratio=0.7, sharey=True, sharex=True)
    _draw_panel(left, table[(table.depth == 2) & ~scalar], "matrices of depth 2")
    _draw_panel(right, table[scalar & (table.depth > 2)], "scalars of several depths")
    style.label_rows((left, right), r"excess $\lambda_{\max}/\lambda_{\mathrm{flat}} - 1$")
    return figure


def _draw_panel(axes: Axes, table: pd.DataFrame, title: str) -> None:
    x = np.geomspace(3e-7, 20, 300)
    for depth, colour in style.depth_colours(table.depth).items():
        rows = table[table.depth == depth]
        bound = least_excess(1 + x, depth)
        # For small x the sum 1 + x loses digits of x, so the leading term of the bound is used.
        bound = np.where(x < 1e-4, 2 * x**2 / (depth - 1), bound)
        axes.plot(x, bound, color=colour, linewidth=0.7, zorder=1)
        axes.scatter(
            rows.spectral_imbalance.clip(lower=FLOOR),
            rows.excess.abs().clip(lower=FLOOR),
            color=[colour],
            s=11,
            linewidths=0.2,
            edgecolors="white",
            label=f"$L={depth}$",
            zorder=2,
        )
    axes.axhspan(FLOOR / 10, FLAT_BAND, color=style.STABLE, alpha=0.12, linewidth=0)
    axes.annotate(
        r"flat to rounding: $\lambda_{\max} = \lambda_{\mathrm{flat}}$",
        (3e-13, FLOOR),
        color=style.STABLE,
        fontsize="small",
    )
    axes.set(
        xscale="log",
        yscale="log",
        title=title,
        xlim=(FLOOR / 4, 30),
        ylim=(FLOOR / 10, 300),
        xlabel=r"imbalance $\max_i\, |x_i - 1|$,  "
        r"$x_i = \Vert L_i\Vert_2 \Vert R_i\Vert_2 / \Vert M\Vert_2^{1-1/L}$",
    )
    axes.legend(
        title="dots, minimizers;\nlines, least excess",
        loc="upper left",
        handletextpad=0.1,
        ncols=2,
        alignment="left",
    )
