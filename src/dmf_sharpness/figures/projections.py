"""Gradient descent beside a minimizer: the loss around the limit of stability, and all eigenvectors."""

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
        "at and above 2/λ_max: at it, it stays until the drift has lowered the sharpness "
        "(tests/studies/test_valley.py); above, it grows, and falls again at a flatter minimizer "
        "(C6.flatter). Top right, the displacement along v_1 from a random start at 1e-8, which changes sign "
        "at every step. Bottom left, the components along all eigenvectors in such a run, in the null space "
        "their length; dotted, |1 − ηλ_k| per step from the start on, with nothing fitted. They follow it "
        "until the square of the largest one, which grows at twice the rate, drives them "
        "(tests/studies/test_projections.py). Bottom right, the measured factors (C6.directions: "
        "{C6.directions.n} components, to {C6.directions.value})."
    ),
)

LEAST = 1e-17
"""Components and losses below this are rounding errors."""
SHOWN = 1e-14
"""Predictions are drawn down to this."""


def draw(tables: Tables) -> Figure:
    """Four panels: the loss, one eigenvector, all eigenvectors, all factors per step."""
    table = tables.studies["projections"]
    _, runs = first_valley(tables.studies["valley"])
    key = ["experiment", "network", "minimizer"]
    one = table[(table[key] == table[key].iloc[0]).all(axis=1)]
    unstable = np.sort(one.step_ratio[one.step_ratio > 1].unique())

    across = 2 if style.is_wide(True) else 1
    figure = style.new_figure(4 // across, across, wide=True, ratio=0.56)
    panels = figure.subplots(4 // across, across).ravel()
    _draw_losses(panels[0], runs)
    _draw_swings(panels[1], one[(one.step_ratio == unstable[0]) & (one.place == 1)])
    _draw_components(panels[2], one[one.step_ratio == unstable[-1]])
    _draw_factors(panels[3], table)
    return figure


def _draw_losses(axes: Axes, runs: pd.DataFrame) -> None:
    for ratio, colour in style.ratio_colours(runs.step_ratio).items():
        path = runs[(runs.step_ratio == ratio) & (runs.loss > LEAST)].sort_values("step")
        axes.plot(path.step + 1, path.loss, color=colour, linewidth=0.9, label=f"{ratio:g}")
    axes.set(xscale="log", yscale="log", xlabel="iteration $t + 1$", ylabel="loss")
    axes.set_title("step sizes around the limit")
    style.decades(axes, "y")
    axes.legend(title=r"$\eta\lambda_{\max}/2$", loc="lower left", ncols=2)


def _draw_swings(axes: Axes, path: pd.DataFrame) -> None:
    path = path.sort_values("step")
    axes.plot(path.step, path.component, color="0.75", linewidth=0.5)
    for parity, name, colour in ((0, "even $t$", style.STABLE), (1, "odd $t$", style.UNSTABLE)):
        half = path[path.step % 2 == parity]
        axes.plot(
            half.step, half.component, ".", markersize=3.5, color=colour, markeredgewidth=0, label=name
        )  # fmt: skip
    axes.set(xlabel="iteration $t$", ylabel="displacement along $v_1$")
    axes.set_title(rf"$\eta\lambda_{{\max}}/2 = {path.step_ratio.iloc[0]:g}$, along $v_1$")
    axes.legend(loc="upper left")


def _draw_components(axes: Axes, run: pd.DataFrame) -> None:
    """The size of every component, in the colour of its stability."""
    kinds = {
        "unstable": (style.UNSTABLE, r"unstable, $\eta\lambda_k > 2$"),
        "stable": (style.STABLE, r"stable, $\eta\lambda_k < 2$"),
        "null": (style.OTHER, r"null space, $\lambda_k = 0$"),
    }
    named = set()
    for _, path in run.groupby("place"):
        c = float(path.direction_ratio.iloc[0])
        kind = "null" if c == 0 else "stable" if c < 1 else "unstable"
        colour, name = kinds[kind]
        size = path.component.abs()
        axes.plot(
            path.step, size.clip(lower=LEAST), linewidth=0.7 if kind == "stable" else 1.0,
            zorder=2 if kind == "stable" else 3, color=colour, label=None if kind in named else name,
        )  # fmt: skip
        named.add(kind)
        predicted = size.iloc[0] * abs(1 - 2 * c) ** path.step.to_numpy()
        shown = (predicted > SHOWN) & (predicted < 1)
        axes.plot(
            path.step[shown], predicted[shown], ":", color=style.THEORY, linewidth=0.7, zorder=4
        )
    axes.plot([], [], ":", color=style.THEORY, label=r"predicted, $|1-\eta\lambda_k|^t$")
    first = run[run.place == 1]
    farthest = int(first.step.to_numpy()[first.component.abs().to_numpy().argmax()])
    axes.set(yscale="log", xlabel="iteration $t$", ylabel="displacement along $v_k$")
    axes.set(xlim=(0, 2 * farthest), ylim=(LEAST / 3, None))
    axes.set_title(rf"$\eta\lambda_{{\max}}/2 = {run.step_ratio.iloc[0]:g}$, along all $v_k$")
    style.decades(axes, "y")
    axes.legend(loc="lower right")


def _draw_factors(axes: Axes, table: pd.DataFrame) -> None:
    found = table.drop_duplicates(["experiment", "network", "minimizer", "step_ratio", "place"])
    found = found[found.growth.notna()]
    for stable, colour in ((True, style.STABLE), (False, style.UNSTABLE)):
        rows = found[(found.direction_ratio < 1) == stable]
        axes.plot(
            rows.direction_ratio, rows.growth, ".", color=colour, markersize=4.5, markeredgewidth=0,
            label="measured, stable" if stable else "measured, unstable",
        )  # fmt: skip
    c = np.linspace(0, found.direction_ratio.max() * 1.03, 200)
    axes.plot(
        c, np.abs(1 - 2 * c), ":", color=style.THEORY, label=r"predicted, $|1-\eta\lambda_k|$"
    )
    axes.set(xlabel=r"$\eta\lambda_k/2$", ylabel="factor per step")
    axes.set_title("all runs")
    axes.legend(loc="upper left")
