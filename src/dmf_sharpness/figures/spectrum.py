"""All eigenvalues of the Hessian at minimizers, zeros included: the closed form on the dense Hessian."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/spectrum",),
    caption=(
        "All Hessian eigenvalues at minimizers of four networks, over the largest one: of the dense "
        "autograd Hessian (dots; zeros come out as rounding errors, drawn by their size) and in closed form "
        "(rings, C1.spectrum). Behind the dotted line all are zero. The ranks of the products L_i and R_i "
        "give its place (C1.zeros: right at {C1.zeros.n} minimizers of targets of ranks 1 to 3)."
    ),
)

PANELS = 4
"""The spectra of so many minimizers are drawn."""
FLOOR = 1e-18
"""Zeros without a rounding error are drawn at this size."""


def draw(tables: Tables) -> Figure:
    """A panel per network, of those with the most parameters for each rank of the target."""
    figure, panels = style.new_panels(PANELS, ratio=1.0, sharey=True)
    for axes, rows in zip(panels, _shown(tables.studies["spectrum"]), strict=False):
        _draw(axes, rows)
    style.label_rows(panels, r"$|\lambda_k|\,/\,\lambda_{\max}$")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def _shown(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The minimizers to draw: the largest networks, first those that differ in the target's rank."""
    key = ["experiment", "network", "minimizer"]
    size = table.groupby(key)["rank"].agg(["first", "size"]).reset_index()
    size = size.sort_values("size", ascending=False, kind="stable")
    distinct = size.drop_duplicates("first")
    order = pd.concat([distinct, size.drop(distinct.index)]).head(PANELS)
    chosen = order.sort_values(["first", "size"])
    return [table[(table[key] == row[key]).all(axis=1)] for _, row in chosen.iterrows()]


def _draw(axes: Axes, rows: pd.DataFrame) -> None:
    first = rows.iloc[0]
    nonzero = rows[rows.closed_form > 0]
    size = rows.dense.abs().clip(lower=FLOOR)
    axes.plot(
        nonzero.place, nonzero.closed_form, "o", markersize=5, markerfacecolor="none",
        markeredgecolor=style.UNSTABLE, markeredgewidth=0.7, label="closed form",
    )  # fmt: skip
    axes.plot(
        rows.place, size, ".", markersize=3.5, color=style.STABLE, markeredgewidth=0,
        label="dense Hessian",
    )  # fmt: skip
    border = len(rows) - first.predicted_zeros + 0.5
    axes.axvline(
        border,
        color=style.THEORY,
        linestyle=":",
        linewidth=0.8,
        label="zeros from here on, by ranks",
    )
    axes.set(yscale="log", ylim=(FLOOR / 3, 10), xlabel="place $k$")
    axes.set_title(f"{first.widths}, rank {first['rank']}")
    axes.text(
        0.97, 0.55, f"{first.zeros} zeros of {len(rows)}\nby ranks: {first.predicted_zeros}",
        transform=axes.transAxes, ha="right", va="center", fontsize=7,
    )  # fmt: skip
    style.decades(axes, "y")
    axes.set_xlim(0, len(rows) + 1)
    axes.set_xticks(np.unique([1, int(border), len(rows)]))
