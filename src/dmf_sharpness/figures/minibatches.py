"""Stochastic gradient descent at minimizers that fit every sample: thresholds, growth, and ends of runs."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/minibatches", "studies/minibatch_runs"),
    caption=(
        "Minibatches, at minimizers that fit every sample. (a) The step size, over 2/λ_max, at which "
        "second moments begin to grow (after Mulayoff and Michaeli), and the one at which almost every "
        "run leaves: a line for one minimizer of each network. The second may lie above 2/λ_max. (b) "
        "Growth of second moments per step at η = 2/λ_max: formula (lines) and runs (dots), which agree "
        "to {C6.sgd_growth.value} in {C6.sgd_growth.n} cases. (c) The sharpness where runs end, over "
        "that of the minimizer where they started, with 1.1 times its almost sure threshold as the step "
        "size. Runs on all data (crosses) stay while η < 2/λ_max; all {C6.sgd_escape.n} runs on batches "
        "leave, and those that converge (dots) land at another minimizer. Dotted: λ = 2/η."
    ),
)


def draw(tables: Tables) -> Figure:
    """Three panels: thresholds and growth over the batch size, and ends of runs over the step size."""
    thresholds, runs = tables.studies["minibatches"], tables.studies["minibatch_runs"]
    figure, (left, middle, right) = style.new_panels(3, ratio=0.95)
    _thresholds(left, thresholds[thresholds["at"] == "full"])
    _growth(middle, thresholds[thresholds["at"] == "full"])
    _ends(right, runs[runs.end_ratio.notna()])
    for axes, letter in zip((left, middle, right), "abc", strict=True):
        axes.set_title(f"({letter})", loc="left")
    return figure


def _minimizers(table: pd.DataFrame) -> list[pd.DataFrame]:
    groups = table.groupby(["experiment", "network", "minimizer"])
    return [rows.sort_values("batch_size") for _, rows in groups]


def _thresholds(axes: Axes, table: pd.DataFrame) -> None:
    first = table[table.minimizer == table.minimizer.min()]
    for k, rows in enumerate(_minimizers(first)):
        for column, colour, label in (
            ("mean_square", style.STABLE, "mean-square"),
            ("almost_sure", style.UNSTABLE, "almost sure"),
        ):
            axes.plot(
                rows.batch_size,
                rows[column],
                color=colour,
                linewidth=0.6,
                marker="o" if column == "mean_square" else "^",
                markersize=2,
                label=label if k == 0 else None,
            )
    axes.axhline(1, color=style.THEORY, linestyle="--", linewidth=0.8, label="all data")
    axes.set(
        xlabel="batch size",
        ylabel=r"threshold of $\eta\lambda_{\max}/2$",
        ylim=(0, None),
        xticks=sorted(table.batch_size.unique()),
    )
    axes.legend(loc="lower right")


def _growth(axes: Axes, table: pd.DataFrame) -> None:
    colours = style.depth_colours(table.depth)
    for rows in _minimizers(table):
        colour = colours[rows.depth.iloc[0]]
        axes.plot(rows.batch_size, rows.predicted, color=colour, linewidth=0.6)
        axes.plot(rows.batch_size, rows.growth, "o", color=colour, markersize=2.5)
    for depth, colour in colours.items():
        axes.plot([], [], "o-", color=colour, markersize=2.5, linewidth=0.6, label=f"{depth}")
    axes.set(
        xlabel="batch size",
        ylabel=r"growth per step at $\eta = 2/\lambda_{\max}$",
        yscale="log",
        xticks=sorted(table.batch_size.unique()),
    )
    axes.yaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(title="depth $L$")


def _ends(axes: Axes, table: pd.DataFrame) -> None:
    for method, marker, colour, label in (
        ("full", "x", style.THEORY, "all data"),
        ("minibatch", "o", style.UNSTABLE, "batches"),
    ):
        rows = table[table.method == method]
        axes.scatter(
            rows.full_ratio, rows.end_ratio, s=9, marker=marker, color=colour, linewidths=0.6,
            label=label,
        )  # fmt: skip
    x = np.linspace(1, max(1.01, float(table.full_ratio.max())), 50)
    axes.plot(x, 1 / x, color=style.THEORY, linestyle=":", linewidth=0.8, label=r"$2/\eta$")
    axes.set(
        xlabel=r"$\eta\lambda_{\max}/2$ at the start",
        ylabel=r"$\lambda_{\max}$ at the end / at the start",
        ylim=(0.4, 1.06),
    )
    axes.legend(loc="lower left")
