"""The time for one sharpness and its error against the number of parameters, a line per tool."""

from typing import Any

from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.benchmark_tables import ACCURATE, OURS
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("benchmark",),
)

ROUNDING = 1e-16
"""An error of exactly zero is drawn at this value."""
MARKERS = "os^vDP<>"
"""Each tool has one of these markers."""


def draw(tables: Tables) -> Figure:
    """Median times above, relative errors below; markers are hollow where the error is above 1e-8.

    Networks with narrow ends are on the left and square ones on the right, because different methods compute
    their sharpness, and the times differ widely at the same number of parameters.
    """
    table = tables.benchmark
    table = table[(table.status == "ok") & ~table.widths.str.contains("×")]
    # A network on data is another problem than one of these widths without, and is in the table only.
    table = table[~table.widths.str.contains("MNIST")]
    square = table.widths.map(_is_square)
    tools = [OURS, *sorted(set(table.tool) - {OURS})]
    colours = style.tool_colours(len(tools))
    wide = style.is_wide(True)
    figure = style.new_figure(2, 2, wide=True, ratio=0.62 if wide else 1.5)
    panels = figure.subplots(2, 2, sharex="col", sharey="row", height_ratios=(3, 2))
    for (above, below), title, shown in (
        (panels[:, 0], "narrow ends", table[~square]),
        (panels[:, 1], "square networks", table[square]),
    ):
        for tool, colour, marker in zip(tools, colours, MARKERS, strict=False):
            part = shown[shown.tool == tool].sort_values("parameters")
            width, order = (1.8, 5) if tool == OURS else (0.7, 2)
            errors = part.error.clip(lower=ROUNDING)
            # The error is NaN, and the marker is filled, if no other tool could be run to compare with.
            faces = ["white" if error > ACCURATE else colour for error in part.error]
            for axes, values in ((above, part.seconds), (below, errors)):
                axes.plot(part.parameters, values, color=colour, zorder=order, linewidth=width)
                axes.scatter(
                    part.parameters,
                    values,
                    s=13,
                    marker=marker,
                    edgecolors=[colour],
                    facecolors=faces,
                    linewidths=0.7,
                    zorder=order + 1,
                )
        below.axhline(ACCURATE, color="0.7", linewidth=0.8, zorder=1)
        above.set(xscale="log", yscale="log", title=title)
        below.set(xscale="log", yscale="log", xlabel="parameters")
        style.decades(above)
        style.decades(below)
    panels[0, 0].set_ylabel("seconds (median)")
    panels[1, 0].set_ylabel("relative error")
    for tool, colour, marker in zip(tools, colours, MARKERS, strict=False):
        label = "closed form (ours)" if tool == OURS else tool
        width = 1.8 if tool == OURS else 0.7
        panels[0, 0].plot(
            [], [], marker=marker, color=colour, label=label, linewidth=width, markersize=3.5
        )
    place: dict[str, Any] = (
        {"loc": "outside right upper"} if wide else {"loc": "outside upper center", "ncols": 2}
    )
    figure.legend(*panels[0, 0].get_legend_handles_labels(), **place)
    return figure


def _is_square(widths: str) -> bool:
    """Whether ``8-8-8``, or ``8192, 15 layers``, has layers of one width only."""
    return "," in widths or len(set(widths.split("-"))) == 1
