"""The exact sharpness against the dense autograd Hessian, over all minimizers."""

import numpy as np
from matplotlib.figure import Figure

from dmf_sharpness.claims.tolerances import EXACT
from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("sharpness",),
    caption=(
        "The closed form against the dense autograd Hessian at every minimizer, with the relative "
        "difference beneath; the two share no code (C1.sharpness: at most {C1.sharpness.value} "
        "over {C1.sharpness.n} minimizers; C1.data: at most {C1.data.value} over {C1.data.n})."
    ),
)

SMALLEST = float(np.finfo(np.float64).eps) / 4
"""A relative difference of zero is drawn at this value."""


def draw(tables: Tables) -> Figure:
    """Above, both values at all minimizers; below, their relative difference and the tolerance."""
    table = tables.sharpness.sort_values("depth")
    palette = style.depth_colours(table.depth)
    colours = [palette[depth] for depth in table.depth]
    x, dots = table.oracle_sharpness, {"s": 7, "linewidths": 0.15, "edgecolors": "white"}
    limits = (x.min() / 2, x.max() * 2)

    figure = style.new_figure(ratio=1.0)
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [1.6, 1]})
    above.plot(limits, limits, color=style.THEORY, linewidth=0.6, zorder=0)
    above.scatter(x, table.sharpness, c=colours, **dots)
    above.set(
        xscale="log",
        yscale="log",
        ylim=limits,
        xlim=limits,
        ylabel=r"closed form $\lambda_{\max}$",
    )
    for depth, colour in palette.items():
        above.scatter([], [], color=colour, s=12, label=str(depth))
    above.legend(title="depth $L$", ncols=2, loc="upper left", handletextpad=0.1)

    below.scatter(x, table.relative_difference.clip(lower=SMALLEST), c=colours, **dots)
    below.axhline(EXACT, color=style.UNSTABLE, linestyle="--", linewidth=0.8)
    below.annotate(
        f"tolerance {style.power_of_ten(EXACT)}",
        (limits[1], EXACT),
        ha="right",
        va="bottom",
        xytext=(0, 1),
        textcoords="offset points",
        fontsize="small",
        color=style.UNSTABLE,
    )
    below.set(
        yscale="log",
        ylim=(SMALLEST / 2, EXACT * 30),
        ylabel="relative difference",
        xlabel=rf"$\lambda_{{\max}}$ of the dense autograd Hessian ({len(table)} minimizers)",
    )
    style.decades(above)
    style.decades(below)
    figure.align_ylabels()
    return figure
