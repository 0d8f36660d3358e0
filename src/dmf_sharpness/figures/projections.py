"""Gradient descent beside a minimizer: the loss around the limit of stability, and all eigenvectors."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables
from dmf_sharpness.figures.valley import first_valley

FIGURE = FigureInputs(
    tables=("studies/projections", "studies/valley"),
    caption=(
        "Gradient descent beside minimizers of Gaussian targets. Top left, the loss with step sizes below, "
        "at and above 2/λ_max, from a start along v_1: above, it grows, and falls again at a flatter "
        "minimizer (C6.flatter). Top right, the displacement along v_1 in a run from a random start at 1e-8: "
        "it changes sign at every step. Bottom left, all eigenvectors of the Hessian in such a run; dotted, "
        "the prediction |1 − ηλ_k| per step, with nothing fitted, for the stable ones (blue) until the "
        "square of the unstable displacement (red) takes over. Bottom right, measured against predicted "
        "(C6.directions: agree to {C6.directions.value} over {C6.directions.n} components)."
    ),
)

LEAST = 1e-17
"""Components and losses below this are rounding errors."""


def draw(tables: Tables) -> Figure:
    """Four panels: the loss, one eigenvector, all eigenvectors, all growths per step."""
    table = tables.studies["projections"]
    _, runs = first_valley(tables.studies["valley"])
    key = ["experiment", "network", "minimizer"]
    one = table[(table[key] == table[key].iloc[0]).all(axis=1)]
    unstable = np.sort(one.step_ratio[one.step_ratio > 1].unique())

    across = 2 if style.is_wide(True) else 1
    figure = style.new_figure(4 // across, across, wide=True, ratio=0.5)
    panels = figure.subplots(4 // across, across).ravel()
    _draw_losses(panels[0], runs)
    _draw_swings(panels[1], one[(one.step_ratio == unstable[0]) & (one.place == 1)])
    _draw_components(panels[2], one[one.step_ratio == unstable[-1]])
    _draw_growth(panels[3], table)
    return figure


def _draw_losses(axes: Axes, runs: pd.DataFrame) -> None:
    for ratio, colour in style.ratio_colours(runs.step_ratio).items():
        path = runs[(runs.step_ratio == ratio) & (runs.loss > LEAST)].sort_values("step")
        axes.plot(path.step + 1, path.loss, color=colour, linewidth=0.9, label=f"{ratio:g}")
    axes.set(xscale="log", yscale="log", xlabel="iteration $t + 1$", ylabel="loss")
    style.decades(axes, "y")
    axes.legend(title=r"$\eta\lambda_{\max}/2$", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _draw_swings(axes: Axes, path: pd.DataFrame) -> None:
    path = path.sort_values("step")
    axes.plot(path.step, path.component, color="0.7", linewidth=0.5)
    for parity, name, colour in ((0, "even $t$", style.STABLE), (1, "odd $t$", style.UNSTABLE)):
        half = path[path.step % 2 == parity]
        axes.plot(half.step, half.component, ".", markersize=3, color=colour, markeredgewidth=0, label=name)
    axes.set(xlabel="iteration $t$", ylabel="displacement along $v_1$")
    axes.set_title(rf"$\eta\lambda_{{\max}}/2 = {path.step_ratio.iloc[0]:g}$")
    axes.legend(loc="upper left")


def _draw_components(axes: Axes, run: pd.DataFrame) -> None:
    """The size of every component, blue where the direction is stable and red where it is not."""
    for place, path in run.groupby("place"):
        c = float(path.direction_ratio.iloc[0])
        stable = c < 1
        shade = mpl.colormaps[style.palette().below if stable else style.palette().above]
        colour = shade(0.4 + 0.5 * c) if stable else shade(0.75)
        size = path.component.abs()
        axes.plot(path.step, size.clip(lower=LEAST), color=colour, linewidth=0.6)
        predicted = size.iloc[0] * abs(1 - 2 * c) ** path.step
        shown = (predicted > 1e-13) & (predicted < 1)
        axes.plot(path.step[shown], predicted[shown], ":", color=style.THEORY, linewidth=0.6, zorder=3)
    axes.set(yscale="log", xlabel="iteration $t$", ylabel="displacement along $v_k$")
    axes.set_title(rf"$\eta\lambda_{{\max}}/2 = {run.step_ratio.iloc[0]:g}$")
    style.decades(axes, "y")


def _draw_growth(axes: Axes, table: pd.DataFrame) -> None:
    key = ["experiment", "network", "minimizer", "step_ratio", "place"]
    found = table.drop_duplicates(key)
    found = found[found.growth.notna()]
    c = np.linspace(0, found.direction_ratio.max() * 1.03, 200)
    axes.plot(c, np.abs(1 - 2 * c), ":", color=style.THEORY, label=r"predicted, $|1-\eta\lambda_k|$")
    for stable, colour in ((True, style.STABLE), (False, style.UNSTABLE)):
        rows = found[(found.direction_ratio < 1) == stable]
        axes.plot(rows.direction_ratio, rows.growth, ".", color=colour, markersize=4, markeredgewidth=0,
                  label="measured, stable" if stable else "measured, unstable")  # fmt: skip
    axes.axhline(1, color=style.OTHER, linewidth=0.6, zorder=0)
    axes.set(xlabel=r"$\eta\lambda_k/2$", ylabel="growth per step")
    axes.legend(loc="upper left")
