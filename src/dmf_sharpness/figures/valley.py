"""The loss around a curve of minimizers in matrix factorization, and runs of gradient descent along it."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/valley",),
    caption=(
        "The contour map for matrices: the loss on the surface γ(s) + a v_1(γ(s)). γ is the curve of "
        "minimizers that begins at the star and along which the sharpness falls fastest, which is the "
        "direction of the drift to leading order (Damian et al., arXiv:2209.15594); v_1 is the top Hessian "
        "eigenvector there, and lengths are over the norm of the factors at the star. Runs (dots, the last "
        "one ringed; the first swings joined) are projected on the surface. Right, the sharpness along γ "
        "(line) and at the ends of the runs, which for steps near the limit lie beside the curve "
        "(tests/studies/test_valley.py), below 2/η (dashed, C6.flatter)."
    ),
)

SWINGS = 60
"""So many iterates from the start on are joined."""


def draw(tables: Tables) -> Figure:
    """Left, the map with the runs; right, the sharpness along the curve."""
    grid, runs = first_valley(tables.studies["valley"])
    colours = style.ratio_colours(runs.step_ratio)
    figure, (left, right) = style.new_panels(2, ratio=0.75, sharey=style.is_wide(True))
    _draw_map(left, grid)
    for ratio, colour in reversed(colours.items()):
        _draw_run(left, runs[runs.step_ratio == ratio].sort_values("step"), colour)
    for axes, x in ((left, 0.0), (right, grid.curve_ratio.max())):
        axes.plot(
            x, 0, marker="*", color="white", markeredgecolor="black", markersize=9,
            markeredgewidth=0.6, linestyle="none", zorder=6, clip_on=False,
        )  # fmt: skip
    _draw_sharpness(right, grid, runs, colours)
    top = min(1.25 * runs.arc.max(), grid.arc.max()) or 1.0
    for axes in (left, right):
        axes.set_ylim(0, top)
    wide = np.abs(runs.along_top).max() * 1.05
    left.set(
        xlim=(-wide, wide),
        xlabel="displacement $a$ along $v_1$",
    )
    style.label_rows([left, right], "arc length $s$ along the minimizers")
    for ratio, colour in colours.items():
        left.plot([], [], "o", color=colour, markersize=4, markeredgecolor="black",
                  markeredgewidth=0.4, label=f"{ratio:g}")  # fmt: skip
    left.plot([], [], "--", color=style.OTHER, linewidth=0.7, label=r"$\lambda_{\max} = 2/\eta$")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles, labels, title=r"step ratio $\eta\lambda_{\max}/2$ at the start",
        loc="outside upper center", ncols=len(handles), handletextpad=0.3,
    )  # fmt: skip
    return figure


def first_valley(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The map and the runs of the first minimizer."""
    key = ["experiment", "network", "minimizer"]
    one = table[(table[key] == table[key].iloc[0]).all(axis=1)]
    return one[one.part == "map"], one[one.part == "run"]


def _draw_map(axes: Axes, grid: pd.DataFrame) -> None:
    """Contours of the loss, white in the valley; none beside a flat minimizer, which has no such curve."""
    loss = grid.pivot_table(index="arc", columns="along_top", values="loss")
    values = loss.to_numpy()
    if min(values.shape) < 2:
        return
    floor, ceiling = np.quantile(values, 0.05), values.max()
    levels = np.geomspace(floor, ceiling, 14)
    axes.contourf(
        loss.columns, loss.index, np.maximum(values, floor), levels=levels, cmap="Greys",
        norm=LogNorm(floor, ceiling * 1e3),
    )  # fmt: skip
    axes.contour(loss.columns, loss.index, values, levels=levels, colors="white", linewidths=0.4)


def _draw_run(axes: Axes, path: pd.DataFrame, colour: object) -> None:
    axes.plot(path.along_top, path.arc, ".", markersize=1.6, markeredgewidth=0, color=colour)
    swings = path.head(SWINGS)
    axes.plot(swings.along_top, swings.arc, color=colour, linewidth=0.35, alpha=0.7)
    end = path.iloc[-1]
    axes.plot(
        end.along_top, end.arc, "o", markersize=4.5, color=colour, markeredgecolor="black",
        markeredgewidth=0.5, zorder=5,
    )  # fmt: skip


def _draw_sharpness(
    axes: Axes, grid: pd.DataFrame, runs: pd.DataFrame, colours: dict[float, Any]
) -> None:
    """The sharpness along the curve, the limits ``2/η``, and the ends of the runs."""
    curve = grid.drop_duplicates("arc")
    start = float(curve.curve_ratio.iloc[0])
    axes.plot(curve.curve_ratio, curve.arc, color=style.THEORY, linewidth=1.0)
    for ratio, colour in colours.items():
        end = runs[runs.step_ratio == ratio].sort_values("step").iloc[-1]
        if ratio >= 1:
            axes.axvline(start / ratio, color=colour, linestyle="--", linewidth=0.7)
        axes.plot(
            end.end_ratio, end.arc, "o", markersize=4.5, color=colour, markeredgecolor="black",
            markeredgewidth=0.5, zorder=5,
        )  # fmt: skip
    axes.set_xlabel(r"sharpness $\lambda_{\max}/\lambda_{\mathrm{flat}}$ along the minimizers")
