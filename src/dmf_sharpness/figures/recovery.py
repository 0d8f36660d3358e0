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
    "flat": r"least $\lambda_{\max}$ (flat)",
    "random": "random completion",
    "gradient_descent": "descent from a small start",
    "trace_flat": "least trace",
}
"""The kinds of completions, in the order of the columns of dots."""


def draw(tables: Tables) -> Figure:
    """The recovery error over the share of observed entries, a colour and a marker per kind of completion."""
    table = tables.studies["recovery"]
    figure = style.new_figure(ratio=0.8)
    axes = figure.subplots()
    colours = (style.UNSTABLE, style.OTHER, "C2", style.STABLE)
    for k, (solution, name) in enumerate(NAMES.items()):
        rows = table[table.solution == solution]
        error = rows.recovery_error.clip(lower=LEAST)
        aside = 0.008 * (k - 1.5)
        axes.plot(
            rows.observed_share + aside, error, "osDv"[k], markersize=3.5, color=colours[k],
            markeredgecolor="white", markeredgewidth=0.2, label=name, zorder=3,
        )  # fmt: skip
        median = error.groupby(rows.observed_share).median()
        axes.plot(median.index + aside, median, color=colours[k], linewidth=0.8, zorder=2)
    axes.axhline(LEAST, color=style.THEORY, linewidth=0.6, linestyle=":", zorder=1)
    place = axes.get_yaxis_transform()
    axes.text(0.02, 1.3 * LEAST, "recovered, up to the solver", transform=place, fontsize=6)
    axes.set(
        yscale="log",
        ylim=(LEAST / 2.5, 3),
        xlabel="share of the entries that are observed",
        ylabel=r"distance $\|W_2 W_1 - M\|_F \,/\, \|M\|_F$",
    )
    axes.set_xticks(sorted(table.observed_share.unique()))
    style.decades(axes, "y")
    figure.legend(loc="outside upper center", ncols=2, handletextpad=0.1)
    return figure
