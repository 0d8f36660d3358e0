"""Orbits beyond ``2/λ_flat``: the balance of the layers, and the subspace of the oscillation."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/orbits",),
    caption=(
        "No minimizer is stable beyond 2/λ_flat: what runs do there that stay bounded, on the set-up "
        "of Ghosh et al. and on targets with a lower second singular value. As long as balanced "
        "minimizers have one unstable direction, ηλ_2/2 < 1, the layers become equal along the top "
        "path, wherever the run started (left, solid; C6.balancing: to {C6.balancing.value} in "
        "{C6.balancing.n} runs), and the oscillation keeps to the target's top singular subspace "
        "(right; C6.orbits: to {C6.orbits.value}). Its period is two up to ηλ_flat/2 = 1.2 "
        "(C6.period: {C6.period.n} runs). With a second unstable direction neither holds (dotted)."
    ),
)

FLOOR = 1e-16
"""Smaller gaps, which are rounding errors, are drawn at this value."""
LINES = {False: "-", True: ":"}
"""The line is dotted if balanced minimizers have a second unstable direction."""


def draw(tables: Tables) -> Figure:
    """Left, the gap between the layers along the top path; right, the variance in the top subspace."""
    table = tables.studies["orbits"]
    bounded = table[(table.ended == 0) & (table.flat_ratio > 1)]
    figure, (left, right) = style.new_panels(2, ratio=0.7)
    colours = style.ratio_colours(bounded.flat_ratio)
    _draw_gaps(left, bounded, colours)
    _draw_subspaces(right, bounded.drop_duplicates(["experiment", "network", "run"]), colours)
    return figure


def _draw_gaps(axes: Axes, table: pd.DataFrame, colours: dict[float, object]) -> None:
    for _, run in table.groupby(["experiment", "network", "run"]):
        axes.plot(
            run.step,
            run.top_gap.clip(lower=FLOOR),
            color=colours[run.flat_ratio.iloc[0]],
            linestyle=LINES[bool(run.second_ratio.iloc[0] > 1)],
            linewidth=0.6,
            alpha=0.7,
            rasterized=True,
        )
    axes.plot([], [], color="0.3", linestyle=LINES[False], label=r"$\eta\lambda_2/2 < 1$")
    axes.plot([], [], color="0.3", linestyle=LINES[True], label=r"$\eta\lambda_2/2 > 1$")
    axes.set(
        yscale="log",
        ylim=(FLOOR / 3, 1),
        xlim=(0, table.step.max()),
        xlabel="iteration $t$",
        ylabel="gap of the layers along the top path",
    )
    axes.legend(loc="center right")


def _draw_subspaces(axes: Axes, runs: pd.DataFrame, colours: dict[float, object]) -> None:
    """Draw the share of each orbit's variance in the span of the target's first singular pair."""
    for ratio, colour in colours.items():
        rows = runs[runs.flat_ratio == ratio]
        axes.plot(
            rows.second_ratio,
            rows.in_top,
            "o",
            color=colour,
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.3,
            label=f"{ratio:g}",
        )
    axes.axvline(1, color=style.THEORY, linestyle=":", linewidth=0.8)
    axes.set(
        ylim=(0, 1.05),
        xlabel=r"$\eta\lambda_2/2$ at balanced minimizers, a dot per run",
        ylabel="share of the oscillation's variance\nin the top singular subspace",
    )
    axes.legend(loc="lower left", title=r"$\eta\lambda_{\mathrm{flat}}/2$")
