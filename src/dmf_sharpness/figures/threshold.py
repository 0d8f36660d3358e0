"""The measured threshold of every minimizer and method, against the sharpness relative to ``λ_flat``."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/threshold",),
    caption=(
        "The step size at which gradient descent stops returning, for every minimizer and method, "
        "found by bisection from random starts and brackets: ηλ_max = 2, 2 + 2β for the heavy ball "
        "(dots), (2 + 2β)/(1 + 2β) for Nesterov's method (diamonds), however sharp the minimizer. "
        "The largest relative deviation is {C6.threshold.value} over {C6.threshold.n} minimizers "
        "(C6.threshold), with momentum {C6.momentum.value} over {C6.momentum.n} pairs of minimizer "
        "and method (C6.momentum). Grey, where the threshold of plain gradient descent would be if "
        "λ_flat decided."
    ),
)

MARKERS = {False: "o", True: "D"}


def draw(tables: Tables) -> Figure:
    """``ηλ_max`` at the threshold against ``λ_max/λ_flat``; at the right the digits without ``λ_flat``."""
    table = tables.studies["threshold"]
    figure = style.new_figure(ratio=0.85)
    axes, aside = figure.subplots(1, 2, sharey=True, width_ratios=(8, 1))
    colours = style.depth_colours(table.depth)
    known = table[table.sharpness_ratio.notna()]
    for nesterov, marker in MARKERS.items():
        rows = known[known.nesterov == nesterov]
        axes.scatter(
            rows.sharpness_ratio,
            rows.threshold,
            color=[colours[d] for d in rows.depth],
            s=9,
            marker=marker,
            linewidths=0.2,
            edgecolors="white",
            zorder=2,
        )
    data = table[table.sharpness_ratio.isna()]
    aside.scatter(
        [0.0] * len(data),
        data.threshold,
        color=[colours[d] for d in data.depth],
        s=9,
        linewidths=0.2,
        edgecolors="white",
        zorder=2,
    )
    right = float(known.sharpness_ratio.max()) * 1.9  # room for the names of the methods
    for _, rows in table.groupby(["momentum", "nesterov"]):
        momentum, nesterov, predicted = rows.iloc[0][["momentum", "nesterov", "predicted"]]
        for panel in (axes, aside):
            panel.axhline(predicted, color=style.THEORY, linestyle=":", linewidth=0.8, zorder=1)
        method = ("Nesterov, " if nesterov else "heavy ball, ") if momentum else "gradient descent"
        axes.annotate(
            method + (rf"$\beta = {momentum:g}$" if momentum else ""),
            (right, predicted),
            xytext=(0, -2 if momentum > 0.5 and nesterov else 2),
            textcoords="offset points",
            ha="right",
            va="top" if momentum > 0.5 and nesterov else "bottom",
            fontsize="small",
        )
    flat = known.sharpness_ratio.sort_values()
    axes.plot(flat, 2 * flat, color=style.OTHER, linewidth=0.8, zorder=1)
    axes.annotate(
        r"if $\lambda_{\mathrm{flat}}$ decided",
        (1.62, 3.35),
        color="0.4",
        fontsize="small",
        ha="right",
    )
    axes.set(
        xscale="log",
        xlim=(0.95, right),
        ylim=(1.15, 4.1),
        xlabel=r"sharpness ratio $\lambda_{\max}/\lambda_{\mathrm{flat}}$",
        ylabel=r"$\eta\lambda_{\max}$ at the threshold",
    )
    axes.set_xticks([1, 1.5, 2, 3, 5], ["1", "1.5", "2", "3", "5"])
    axes.minorticks_off()
    axes.set_xlim(0.95, right)
    aside.set(xticks=[0], xlim=(-1, 1))
    aside.set_xticklabels(["digits"])
    aside.spines["left"].set_visible(False)
    aside.tick_params(axis="y", length=0)
    handles = [
        Line2D([], [], marker="o", linestyle="none", markersize=3, color=colour, label=f"{depth}")
        for depth, colour in colours.items()
    ]
    figure.legend(
        handles=handles,
        title="depth $L$",
        loc="outside upper center",
        ncols=len(handles),
        handletextpad=0.0,
        columnspacing=0.6,
    )
    return figure
