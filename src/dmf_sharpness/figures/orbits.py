"""Orbits beyond ``2/λ_flat``: the balance of the layers, and the subspace of the oscillation."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/orbits",),
    caption=(
        "No minimizer is stable beyond 2/λ_flat: what runs do there, on the set-up of Ghosh et "
        "al. Left, along the top path the layers become equal, from the balanced start and from "
        "beside minimizers that are not (C6.balancing: to {C6.balancing.value} over "
        "{C6.balancing.n} runs). Right, just beyond the limit the oscillation keeps to the "
        "target's top singular subspace (C6.orbits: to {C6.orbits.value} over {C6.orbits.n} "
        "runs); beyond the second limit it is in the first two."
    ),
)

FLOOR = 1e-16
"""Smaller gaps, which are rounding errors, are drawn at this value."""
LINES = {"identity": "-", "minimizer": "--"}
"""Each kind of start has this style of line."""
STARTS = {"identity": "from 0.1 times the identity", "minimizer": "from beside a minimizer"}
"""The legend describes each kind of start like this."""


def draw(tables: Tables) -> Figure:
    """Left, the gap between the layers along the top path; right, the variance in the top subspaces."""
    table = tables.studies["orbits"]
    bounded = table[table.ended == 0]
    figure, (left, right) = style.new_panels(2, ratio=0.7)
    colours = style.ratio_colours(bounded.flat_ratio)
    _draw_gaps(left, bounded[bounded.flat_ratio > 1], colours)
    _draw_subspaces(right, bounded.drop_duplicates(["experiment", "network", "run"]), colours)
    return figure


def _draw_gaps(axes: Axes, table: pd.DataFrame, colours: dict[float, object]) -> None:
    for _, run in table.groupby(["experiment", "network", "run"]):
        axes.plot(
            run.step,
            run.top_gap.clip(lower=FLOOR),
            color=colours[run.flat_ratio.iloc[0]],
            linestyle=LINES[run.start.iloc[0]],
            linewidth=0.7,
            alpha=0.8,
        )
    for ratio in sorted(table.flat_ratio.unique()):
        axes.plot(
            [], [], color=colours[ratio], label=rf"$\eta\lambda_{{\mathrm{{flat}}}}/2 = {ratio:g}$"
        )
    for start, label in STARTS.items():
        axes.plot([], [], color="0.3", linestyle=LINES[start], label=label)
    axes.set(
        yscale="log",
        ylim=(FLOOR / 3, 1),
        xlim=(0, table.step.max()),
        xlabel="iteration $t$",
        ylabel="gap of the layers along the top path",
    )
    axes.legend(loc="center right")


def _draw_subspaces(axes: Axes, runs: pd.DataFrame, colours: dict[float, object]) -> None:
    """Draw the share of an orbit's variance in the span of the target's first one and two singular pairs."""
    runs = runs[runs.flat_ratio > 1]
    ratios = sorted(runs.flat_ratio.unique())
    for k, ratio in enumerate(ratios):
        rows = runs[runs.flat_ratio == ratio]
        spread = np.linspace(-0.2, 0.2, len(rows))
        axes.plot(
            k + spread,
            rows.in_top,
            "o",
            color=colours[ratio],
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.3,
        )
        axes.plot(k + spread, rows.in_pair, "_", color=colours[ratio], markersize=5)
    axes.plot([], [], "o", color="0.4", markersize=4, label=r"first pair, $\sigma_1$")
    axes.plot([], [], "_", color="0.4", markersize=6, label=r"first two, $\sigma_1$ and $\sigma_2$")
    axes.set(
        xlim=(-0.6, len(ratios) - 0.4),
        ylim=(0, 1.05),
        xlabel=r"$\eta\lambda_{\mathrm{flat}}/2$, a dot per run",
        ylabel="share of the oscillation's variance",
    )
    axes.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
    axes.legend(loc="lower left")
