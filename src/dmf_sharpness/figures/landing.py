"""The landings of gradient descent beside the curve of the landing law, and the law's error."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from dmf_sharpness.descent.landing_curve import landing_curve
from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/landing",),
    caption=(
        "Where runs land that leave a minimizer by δ above the limit of stability. Left, start "
        "and landing in the units of the law, one coefficient per minimizer, nothing fitted; the "
        "dotted line is the mirror image c_end = 1 − δ. Right, the error of the prediction, with "
        "the first-order coefficient a and with ã = a + 3/2 − b (C6.law, at δ = 1e-3: what the mirror "
        "image leaves is predicted to {C6.law.value} of (4/3)(1 + |ã|)δ² at {C6.law.n} minimizers. "
        "C6.second_order: landings at smaller δ give ã to {C6.second_order.value} at "
        "{C6.second_order.n} minimizers). Beyond |ã|δ of a tenth the law is rough; the page on the law "
        "has the share of misses at every δ."
    ),
)

WINDOW = (-6.0, 1.0)
"""The figure shows this range of the scaled excess ``2ãδ``; from 1 on the law predicts no landing."""


def draw(tables: Tables) -> Figure:
    """Left, the landings in the units of the law; right, the error of the prediction."""
    runs = tables.studies["landing"]
    runs = runs[(runs.outcome == "landed") & (runs.second_ratio < 1) & ~(runs.flat_ratio >= 1)]
    runs = runs.sort_values("excess", ascending=False)  # small excesses are drawn last, on top
    figure, (left, right) = style.new_panels(2, ratio=0.7)
    norm = _logarithmic(runs.excess)
    w_0 = 2 * runs.refined * runs.excess
    w_e = -2 * runs.refined * (1 - runs.end_ratio)
    shown = w_0.between(*WINDOW)
    points = left.scatter(
        w_0[shown],
        w_e[shown],
        c=runs.excess[shown],
        norm=norm,
        cmap=style.excess_colours(),
        s=5,
        linewidths=0,
        rasterized=True,
    )
    _draw_curve(left)
    left.set(
        xlim=WINDOW,
        ylim=(-3, 2),
        xlabel=r"start $w_0 = 2\tilde a\,\delta$",
        ylabel=r"landing $w_e = -2\tilde a\,(1 - c_{\mathrm{end}})$",
    )
    left.legend(loc="lower left")
    reach = runs.refined.abs() * runs.excess
    for column, label, marker, size in (
        ("predicted", r"first order, $a$", "x", 4),
        ("predicted_refined", r"second order, $\tilde a = a + 3/2 - b$", "o", 3),
    ):
        error = ((1 - runs[column]) / (1 - runs.end_ratio) - 1).abs().clip(lower=1e-8)
        face: dict[str, Any] = (
            {"c": runs.excess, "norm": norm, "cmap": style.excess_colours()}
            if marker == "o"
            else {"color": "0.75"}
        )
        right.scatter(reach, error, s=size, marker=marker, linewidths=0.3, rasterized=True, **face)
        # The legend shows a medium colour; otherwise it would show that of whichever run comes first.
        colour = style.excess_colours()(0.6) if marker == "o" else "0.75"
        right.plot([], [], marker, color=colour, markersize=3, label=label)
    right.axhline(0.02, color=style.THEORY, linestyle=":", linewidth=0.8)
    right.annotate("2 %", (2e-5, 0.026), fontsize="small")
    right.set(
        xscale="log",
        yscale="log",
        ylim=(5e-9, 3e4),
        xlim=(1e-5, 1e2),
        xlabel=r"$|\tilde a|\,\delta$",
        ylabel=r"relative error of $1 - c_{\mathrm{end}}$",
    )
    right.legend(loc="upper left", handletextpad=0.1)
    figure.colorbar(
        points, ax=right, label=r"excess $\delta = \eta\lambda_{\max}/2 - 1$ at the start"
    )
    return figure


def _logarithmic(values: object) -> LogNorm:
    numbers = np.asarray(values, dtype=float)
    return LogNorm(numbers.min(), numbers.max())


def _draw_curve(axes: Axes) -> None:
    w = np.linspace(*WINDOW, 400)[:-1]
    # The curve of w_e against w_0: for a = w and δ = 1/2 these are w and 2w (c_end − 1).
    w_e = 2 * w * (landing_curve(w, np.full_like(w, 1.5)) - 1)
    axes.plot(
        w, w_e, color=style.THEORY, zorder=3, label=r"law: $(w_e - 1)e^{w_e} = (w_0 - 1)e^{w_0}$"
    )
    axes.plot(w, -w, color=style.THEORY, linestyle=":", linewidth=0.8, label="mirror")
