"""Escape times: against the radius of the start, and for starts of every kind."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/timing", "studies/starts"),
    caption=(
        "Left, the time to leave, scaled by the predicted rate, against the radius of the start: "
        "one line for all minimizers until rounding takes over (C6.time: slope off by at most "
        "{C6.time.value} over {C6.time.n} fits). Right, when starts of each kind have left, in "
        "units of the time that a rounding error needs: those on the stable manifold stay, or "
        "leave when rounding has grown (C6.stable: {C6.stable.n} starts); random ones and those "
        "along v_N leave before it could (C6.starts: {C6.starts.n})."
    ),
)

STARTS = {
    "top": (r"along $v_1$", "-"),
    "random": ("random", "--"),
    "orthogonal": (r"$\perp v_1$", "-"),
    "flattening": (r"along $v_N$", "--"),
    "manifold": ("on the minimizers", "-"),
    "stable": ("stable manifold", "--"),
    "exact": ("the minimizer", ":"),
}
"""Each kind of start has a name and a style of line, so that similar kinds can be told apart in grey."""


def draw(tables: Tables) -> Figure:
    """Left, measured times and the predicted slope; right, the share of starts that have left over time."""
    figure, (left, right) = style.new_panels(2, ratio=0.7)
    _draw_times(left, tables)
    _draw_starts(right, tables)
    return figure


def _draw_times(axes: Axes, tables: Tables) -> None:
    """Draw the escape times in units of the predicted rate, which gives one line for all minimizers."""
    runs = tables.studies["timing"]
    runs = runs[(runs.second_ratio < 1) & (runs.direction == "top")]
    colours = style.ratio_colours(runs.step_ratio)
    for ratio, colour in colours.items():
        group = runs[runs.step_ratio == ratio]
        kept = group[(group.radius > 0) & group.escape_time.notna()]
        axes.scatter(
            kept.radius / kept.level,
            kept.escape_time / kept.predicted_slope,
            s=2,
            linewidths=0,
            color=colour,
            label=f"$c = {ratio:g}$",
            rasterized=True,
        )
    x = np.geomspace(1e-17, 1, 10)
    axes.plot(x, -np.log(x), color=style.THEORY, linestyle=":", label="predicted")
    zero = runs[(runs.radius == 0) & runs.escape_time.notna()]
    if len(zero):
        middle = float((zero.escape_time / zero.predicted_slope).median())
        axes.axhline(middle, color="0.6", linewidth=0.8, linestyle="--")
        axes.annotate(
            "started at the minimizer itself (median)",
            (1, middle),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize="small",
            ha="right",
        )
    axes.set(
        xscale="log",
        xlim=(1e-15, 1),
        ylim=(0, 38),
        xlabel=r"radius of the start / level of escape",
        ylabel=r"escape time $\times\ \log|1-\eta\lambda_{\max}|$",
    )
    axes.legend(loc="lower left", markerscale=3)


def _draw_starts(axes: Axes, tables: Tables) -> None:
    """Draw the share of starts that have left, over the time in units of what rounding needs to grow."""
    runs = tables.studies["starts"]
    span = np.log(1e-3 / 2**-52) / np.log(2 * runs.step_ratio - 1)
    time = runs.escape_time / span
    for (kind, (label, line)), colour in zip(
        STARTS.items(), style.palette().cycle[: len(STARTS)], strict=True
    ):
        values = np.sort(time[(runs.start == kind)].to_numpy())
        share = np.arange(1, len(values) + 1) / len(values)
        left = np.isfinite(values)
        x = np.concatenate([[0.0], values[left], [2.0]])
        y = np.concatenate([[0.0], share[left], [share[left][-1] if left.any() else 0.0]])
        axes.step(x, y, where="post", color=colour, linestyle=line, label=label)
    axes.axvline(1, color=style.THEORY, linestyle=":", linewidth=0.8)
    axes.annotate("rounding has grown", (1.02, 0.45), fontsize="small", rotation=90)
    axes.set(
        xlim=(0, 2),
        ylim=(0, 1.03),
        ylabel="share of the starts that have left",
        xlabel=r"time $/\ [\log(10^{-3}/2^{-52}) / \log|1-\eta\lambda_{\max}|]$",
    )
    axes.legend(loc="center right")
