"""How well flat and other completions recover a matrix of rank 1."""

from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/recovery",),
    caption=(
        "Completions of matrices of rank 1 from part of their entries, by two factors: the distance from "
        "the matrix, relative to its norm, a dot per completion; the lines join medians. The completions "
        "with the least λ_max of the observed loss do not recover the matrix. Those "
        "with the least trace do where most entries are observed, and only some with fewer "
        "(C3.observed_trace; C3.recovery); so, less exactly, does gradient descent with small steps from a "
        "small start. Errors below 1e-6 are drawn there."
    ),
)

LEAST = 1e-6
"""Errors below this are those of the solvers."""
NAMES = {
    "flat": r"least $\lambda_{\max}$",
    "random": "random",
    "gradient_descent": "small start",
    "trace_flat": "least trace",
}


def draw(tables: Tables) -> Figure:
    """The recovery error over the share of observed entries, a colour per kind of completion."""
    table = tables.studies["recovery"]
    figure = style.new_figure()
    axes = figure.subplots()
    colours = style.tool_colours(len(NAMES))
    markers = "osDv"
    for k, (solution, name) in enumerate(NAMES.items()):
        rows = table[table.solution == solution]
        error = rows.recovery_error.clip(lower=LEAST)
        axes.scatter(
            rows.observed_share + 0.006 * (k - 1.5),
            error,
            s=8,
            color=colours[k],
            linewidths=0,
            marker=markers[k],
        )
        median = error.groupby(rows.observed_share).median()
        axes.plot(
            median.index, median, color=colours[k], linewidth=1, marker=markers[k], label=name
        )
    axes.set(
        yscale="log",
        xlabel="share of entries observed",
        ylabel=r"$\|W_2 W_1 - M\|_F \,/\, \|M\|_F$",
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
