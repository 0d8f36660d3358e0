"""Runs on handwritten digits, whose Hessian has eigenvalues of every size, against three predictions."""

import numpy as np
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/soft",),
    caption=(
        "The handwritten digits, raw inputs: where a run is after it has left a minimizer and no "
        "longer oscillates. Eigenvalues of the Hessian down to a billionth of the largest leave "
        "most directions on the way; the reduced map, in which each forgets at its own rate, says "
        "how far (C6.soft: the relative error is at most {C6.soft.value} δ in {C6.soft.n} runs; "
        "nothing fitted). "
        "Dashed, the landing law, right when all directions have settled; dotted, the mirror "
        "image."
    ),
)

MARKERS = "osD^v"


def draw(tables: Tables) -> Figure:
    """``1 − ηλ/2`` after the escape against the excess ``δ`` at the start, with three predictions."""
    table = tables.studies["soft"]
    figure = style.new_figure(ratio=0.85)
    axes = figure.subplots()
    colours = style.depth_colours(table.depth)
    for k, (_, rows) in enumerate(table.groupby(["experiment", "network", "minimizer"])):
        rows = rows.sort_values("excess")
        minimizer = rows.minimizer.iloc[0]
        axes.plot(
            rows.excess,
            1 - rows.end_ratio,
            MARKERS[minimizer % len(MARKERS)],
            markersize=4,
            color=colours[rows.depth.iloc[0]],
            markeredgecolor="white",
            markeredgewidth=0.3,
            zorder=3,
            label=rows.widths.iloc[0] if minimizer == 0 else None,
        )
        axes.plot(
            rows.excess,
            1 - rows.predicted,
            color=style.THEORY,
            linewidth=0.7,
            zorder=2,
            label="predicted, reduced map" if k == 0 else None,
        )
        axes.plot(
            rows.excess,
            1 - rows.settled,
            color=style.OTHER,
            linewidth=0.7,
            linestyle="--",
            zorder=1,
            label="predicted, landing law" if k == 0 else None,
        )
    x = np.array([table.excess.min(), table.excess.max()])
    axes.plot(x, x, color=style.THEORY, linestyle=":", linewidth=0.8, label=r"mirror, $\delta$")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=r"excess $\delta = \eta\lambda_{\max}/2 - 1$ at the start",
        ylabel=rf"$1 - \eta\lambda/2$ after {int(table.steps.max()):,} steps",
    )
    handles, labels = axes.get_legend_handles_labels()
    by_kind = sorted(zip(labels, handles, strict=True), key=lambda item: not item[0][0].isdigit())
    axes.legend(
        title="a marker per minimizer",
        handles=[handle for _, handle in by_kind],
        labels=[label for label, _ in by_kind],
        loc="center right",
    )
    return figure
