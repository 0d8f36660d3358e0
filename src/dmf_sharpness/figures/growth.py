"""Loss and distance against iteration, with the growth that is predicted for the linear phase."""

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
    tables=("trajectories",),
    of="several radii",
    caption=(
        "Loss and distance from the minimizer, for several step ratios (left) and starting radii "
        "(right). Dotted, the predicted growth per step, with nothing fitted (C6.rate: measured "
        "and predicted factor agree to {C6.rate.value} over {C6.rate.n} runs)."
    ),
)


def draw(tables: Tables) -> Figure:
    """Left, several step ratios from one radius; right, one unstable ratio from several radii."""
    paths = tables.trajectories
    paths = paths[paths.experiment == paths.groupby("experiment").radius.nunique().idxmax()]
    paths = paths[paths.network == paths.network.iloc[0]]
    radii = np.sort(paths.radius.unique())
    start = radii[len(radii) // 2 - 1]
    unstable = np.sort(paths.step_ratio[paths.step_ratio > 1].unique())
    ratio = float(unstable[len(unstable) // 2])
    by_ratio, by_radius = paths[paths.radius == start], paths[paths.step_ratio == ratio]

    if style.is_wide(True):
        figure = style.new_figure(rows=2, columns=2, wide=True, ratio=0.5)
        grid = figure.subplots(2, 2, sharex="col", sharey="row")
    else:
        figure = style.new_figure(rows=4, wide=True, ratio=0.5)
        grid = figure.subplots(4, 1).reshape(2, 2, order="F")
    colours = style.ratio_colours(by_ratio.step_ratio)
    for c, path in by_ratio.groupby("step_ratio"):
        _draw_pair(grid[:, 0], path.sort_values("step"), colours[float(c)], f"{c:g}")
    shades = mpl.colormaps[style.palette().radius](np.linspace(0.1, 0.8, len(radii)))
    for shade, (r, path) in zip(shades, by_radius.groupby("radius"), strict=True):
        _draw_pair(grid[:, 1], path.sort_values("step"), shade, style.power_of_ten(float(r)))

    for axes in grid.flat:
        axes.set_yscale("log")
        style.decades(axes, "y")
    style.label_rows(list(grid[0]), "loss")
    style.label_rows(list(grid[1]), "distance")
    grid[0, 0].set_title(f"starts at radius {style.power_of_ten(float(start))}")
    grid[0, 1].set_title(rf"step ratio $\eta\lambda_{{\max}}/2 = {ratio:g}$")
    for axes in grid.flat:
        axes.set_xlim(0, _horizon(by_radius))
    for axes in grid[1]:
        axes.set_xlabel("iteration $t$")
    predicted = (
        r"predicted, $(1-\eta\lambda_{\max})^{2t}$ and $|1-\eta\lambda_{\max}|^{t}$ times the start"
    )
    line = grid[0, 1].plot([], [], color=style.THEORY, linestyle=":", label=predicted)
    grid[0, 1].legend(handles=line, loc="lower right", handlelength=2)
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.36)}
    grid[1, 0].legend(ncols=6, title=r"step ratio $\eta\lambda_{\max}/2$", **below)
    grid[1, 1].legend(ncols=4, title="radius of the start", **below)
    return figure


def _horizon(paths: pd.DataFrame) -> float:
    """The end of the horizontal axis, a little past the step at which the slowest run has left."""
    left = paths[paths.distance > 1e-3]
    return 1.35 * float(left.groupby("radius").step.min().max())


def _draw_pair(pair: np.ndarray, path: pd.DataFrame, colour: object, label: str) -> None:
    """Draw the loss above and the distance below, each with its prediction from the first iterate on."""
    for axes, column, power in ((pair[0], "loss", 2), (pair[1], "distance", 1)):
        values = path[column]
        axes.plot(path.step, values.where(values > 0), color=colour, label=label, linewidth=0.9)
        factor = abs(1 - 2 * float(path.step_ratio.iloc[0]))
        _draw_prediction(axes, path.step, values.iloc[0] * factor ** (power * path.step), power)


def _draw_prediction(axes: Axes, step: pd.Series, values: pd.Series, power: int) -> None:
    """Draw the prediction where the phase can be linear: above rounding and below the minimizer's size."""
    shown = (values < 1) & (values > 1e-15**power)
    axes.plot(
        step[shown], values[shown], color=style.THEORY, linestyle=":", linewidth=0.9, zorder=3
    )
