"""The sharpness along training from standard starts, for several step sizes."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/sharpening",),
    caption=(
        "The largest Hessian eigenvalue at every step of training, from one fan-in start per panel with "
        "several step sizes. Dashed in the same colour, 2/η. At small step sizes the sharpness rises to "
        "that of the gradient-flow solution. Where this is above 2/η, it passes 2/η, oscillates, and "
        "settles below (C6.sharpening): the progressive sharpening and the edge of stability of Cohen et "
        "al., arXiv:2103.00065."
    ),
)

MOST_PANELS = 2
"""The runs from so many starts are drawn, a panel each."""


def draw(tables: Tables) -> Figure:
    """``λ_max/λ_flat`` over the time ``ηt`` in units of ``2/λ_flat``, a panel per start."""
    table = tables.studies["sharpening"]
    starts = [rows for _, rows in table.groupby(["experiment", "network", "minimizer"])]
    figure, panels = style.new_panels(MOST_PANELS, ratio=0.75, sharey=True)
    shades = mpl.colormaps[style.palette().depth](np.linspace(0, 0.85, table.flat_ratio.nunique()))
    colours = dict(zip(np.sort(table.flat_ratio.unique()), shades, strict=True))
    for k, (axes, rows) in enumerate(zip(panels, starts, strict=False), 1):
        _draw(axes, rows, colours)
        axes.set_title(f"start {k}, widths {rows.widths.iloc[0]}")
    style.label_rows(panels, r"$\lambda_{\max}/\lambda_{\mathrm{flat}}$")
    panels[0].plot([], [], "--", color=style.OTHER, linewidth=0.6, label=r"$2/\eta$")
    panels[0].plot([], [], color=style.THEORY, linewidth=0.6, label=r"$\lambda_{\mathrm{flat}}$")
    panels[0].legend(title=r"$\eta\lambda_{\mathrm{flat}}/2$", loc="upper left", ncols=2)
    return figure


def _draw(axes: Axes, table: pd.DataFrame, colours: dict[float, Any]) -> None:
    for ratio, colour in colours.items():
        path = table[(table.flat_ratio == ratio) & (table.step > 0)]
        axes.plot(
            ratio * path.step, path.sharpness_ratio, color=colour, linewidth=0.9, label=f"{ratio:g}"
        )
        if ratio > 1 / np.max(table.sharpness_ratio):
            axes.axhline(1 / ratio, color=colour, linestyle="--", linewidth=0.6)
    axes.axhline(1, color=style.THEORY, linewidth=0.6)
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(0.7, 8),
        xlabel=r"time $\eta t$ over $2/\lambda_{\mathrm{flat}}$",
    )
    axes.set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    axes.minorticks_off()
