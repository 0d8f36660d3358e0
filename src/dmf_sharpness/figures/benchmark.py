"""Seconds for one sharpness against the number of parameters, a line per tool."""

from matplotlib.figure import Figure

from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

OURS = "dmf_sharpness"
ACCURATE = 1e-8


def draw(tables: Tables) -> Figure:
    """Medians; a hollow marker where the relative error is above 1e-8."""
    table = tables.benchmark
    table = table[(table.status == "ok") & ~table.widths.str.contains("×")]
    tools = [OURS, *sorted(set(table.tool) - {OURS})]
    figure = style.new_figure(ratio=0.85)
    axes = figure.subplots()
    for tool, colour in zip(tools, style.tool_colours(len(tools)), strict=True):
        part = table[table.tool == tool].sort_values("parameters")
        ours = tool == OURS
        label = "closed form (ours)" if ours else tool
        axes.plot(
            part.parameters, part.seconds, color=colour, label=label, zorder=3 if ours else 2,
            linewidth=1.8 if ours else 0.9,
        )  # fmt: skip
        faces = [colour if error <= ACCURATE else "white" for error in part.error]
        axes.scatter(
            part.parameters, part.seconds, s=12, edgecolors=[colour], facecolors=faces, zorder=4,
            linewidths=0.8,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel="seconds (median)")
    axes.legend(fontsize="x-small", loc="upper left")
    return figure
