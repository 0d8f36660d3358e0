"""Seconds for one sharpness and its error against the number of parameters, a line per tool."""

from matplotlib.figure import Figure

from dmf_sharpness.benchmark_tables import ACCURATE, OURS
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

ROUNDING = 1e-16
"""Where an error of exactly zero is drawn."""


def draw(tables: Tables) -> Figure:
    """Medians above, relative errors below; hollow markers where that is above 1e-8."""
    table = tables.benchmark
    table = table[(table.status == "ok") & ~table.widths.str.contains("×")]
    tools = [OURS, *sorted(set(table.tool) - {OURS})]
    figure = style.new_figure(ratio=1.15)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for tool, colour in zip(tools, style.tool_colours(len(tools)), strict=True):
        part = table[table.tool == tool].sort_values("parameters")
        ours = tool == OURS
        width, order = (1.8, 3) if ours else (0.9, 2)
        label = "closed form (ours)" if ours else tool
        errors = part.error.clip(lower=ROUNDING)
        # Where nothing else could be run to compare with there is no error, and no marker.
        faces = [colour if error <= ACCURATE else "white" for error in part.error]
        for axes, values in ((above, part.seconds), (below, errors)):
            axes.plot(
                part.parameters, values, color=colour, label=label, zorder=order, linewidth=width
            )
            axes.scatter(
                part.parameters, values, s=12, edgecolors=[colour], facecolors=faces, zorder=4,
                linewidths=0.8,
            )  # fmt: skip
    below.axhline(ACCURATE, color="0.7", linewidth=0.8, zorder=1)
    above.set(xscale="log", yscale="log", ylabel="seconds (median)")
    below.set(xscale="log", yscale="log", xlabel="parameters", ylabel="relative error")
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure
