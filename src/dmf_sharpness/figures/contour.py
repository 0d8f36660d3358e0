"""The loss around a minimizer, with runs of gradient descent that leave it or return to it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("landscape", "trajectories"),
    caption=(
        "Gradient descent beside a minimizer (star) of a 15-layer scalar factorization, on the "
        "plane of the top Hessian eigenvector v_1 and a vector v_N of the smallest eigenvalue, 0: "
        "of that degenerate eigenspace, the direction in which the sharpness falls fastest. Dots "
        "are iterates, ringed dots the last ones; the first visible swings are joined. Below the "
        "stability limit (blue) the runs return (C6.return: {C6.return.value} of {C6.return.n} do "
        "not), above it they leave and settle at flatter minimizers (C6.escape: {C6.escape.n} "
        "unstable runs, {C6.escape.value} of them failed to escape)."
    ),
)

VISIBLE = 1e-3
"""Displacements below this cannot be told from zero on the map."""
GRID = 3000
"""Dots are told apart to this part of the map's width and height, a tenth of the size of a dot."""


def draw(tables: Tables) -> Figure:
    """Contours of the loss on the plane of ``v_1`` and ``v_N``, and the iterates of each step size."""
    paths = shown_paths(tables)
    colours = style.ratio_colours(paths.step_ratio)
    figure = style.new_figure(ratio=0.95)
    axes = figure.subplots()
    draw_landscape(axes, tables)
    # The runs that oscillate most widely are drawn first, so that they do not cover the others.
    for ratio, colour in reversed(colours.items()):
        _draw_path(axes, paths[paths.step_ratio == ratio].sort_values("step"), colour)
    mark_minimizer(axes)
    for ratio, colour in colours.items():
        axes.plot(
            [],
            [],
            "o",
            color=colour,
            markersize=4,
            markeredgecolor="black",
            markeredgewidth=0.4,
            label=f"{ratio:g}",
        )
    axes.set(
        xlabel="displacement along $v_1$ (largest eigenvalue)",
        ylabel="displacement along $v_N$ (smallest eigenvalue)",
    )
    figure.legend(
        title=rf"step ratio $\eta\lambda_{{\max}}/2$, starts at radius "
        f"{style.power_of_ten(float(paths.radius.min()))}",
        loc="outside upper center",
        ncols=len(colours),
        handletextpad=0.1,
    )
    return figure


def shown_paths(tables: Tables) -> pd.DataFrame:
    """The recorded runs of the first network that start nearest to its minimizer."""
    paths = tables.trajectories
    return paths[(paths.network == paths.network.iloc[0]) & (paths.radius == paths.radius.min())]


def mark_minimizer(axes: Axes) -> None:
    """Draw a star at the minimizer, beside which the runs start."""
    axes.plot(
        0,
        0,
        marker="*",
        color="white",
        markeredgecolor="black",
        markersize=9,
        markeredgewidth=0.6,
        linestyle="none",
        zorder=6,
    )


def draw_landscape(axes: Axes, tables: Tables) -> None:
    """Draw the contours of the loss, white in the valley of the minimizers."""
    x, y = tables.landscape["along_top"], tables.landscape["along_flattening"]
    loss = tables.landscape["loss"]
    floor, ceiling = np.quantile(loss, 0.03), loss.max()
    levels = np.geomspace(floor, ceiling, 14)
    axes.contourf(
        x,
        y,
        np.maximum(loss, floor),
        levels=levels,
        cmap="Greys",
        norm=LogNorm(floor, ceiling * 1e3),
    )
    axes.contour(x, y, loss, levels=levels, colors="white", linewidths=0.4)


def distinguishable(axes: Axes, path: pd.DataFrame) -> pd.DataFrame:
    """The iterates of a run without those that would be drawn on top of an earlier one.

    A run that has settled makes thousands of steps on the spot, and drawing them takes most of the time.
    """
    corners = np.array([axes.get_xlim(), axes.get_ylim()])
    places = path[["along_top", "along_flattening"]] / (np.ptp(corners, axis=1) / GRID)
    return path[~places.round().duplicated()]


def _draw_path(axes: Axes, path: pd.DataFrame, colour: object) -> None:
    """Draw the iterates as dots, join the first visible ones by lines, and ring the last one."""
    dots = distinguishable(axes, path)
    axes.plot(
        dots.along_top,
        dots.along_flattening,
        marker=".",
        markersize=1.6,
        markeredgewidth=0,
        linestyle="none",
        color=colour,
    )
    swings = path[path.distance > VISIBLE].head(60)
    axes.plot(swings.along_top, swings.along_flattening, color=colour, linewidth=0.35, alpha=0.7)
    end = path.iloc[-1]
    axes.plot(
        end.along_top,
        end.along_flattening,
        marker="o",
        markersize=4.5,
        color=colour,
        markeredgecolor="black",
        markeredgewidth=0.5,
        linestyle="none",
        zorder=5,
    )
