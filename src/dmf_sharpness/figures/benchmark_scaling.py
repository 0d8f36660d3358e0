"""Time and memory of one sharpness against width and depth, a line per method and tool."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.benchmark_tables import OURS
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("benchmark",),
)

FITTED = 3
"""The slope of a line is that of the largest networks, of this number of sizes."""
MARKERS = "os^vDP<>X*"
"""Each tool has one of these markers."""
DEPTHS = (2, 4, 8, 16, 32)
"""The depths that are named on the axis."""
LEAST_MEMORY = 1e6
"""Bytes below which the memory of a computation cannot be told from that of the process."""


def draw(tables: Tables) -> Figure:
    """Above the times, below the memory; a column per family, and slopes in a table of their own."""
    table = tables.benchmark
    table = table[table.status == "ok"]
    families = list(dict.fromkeys(table.family))
    tools = _tools(table)
    colours = style.tool_colours(len(tools))
    figure = style.new_figure(2, len(families), wide=True, ratio=1.0)
    panels = figure.subplots(
        2, len(families), sharex="col", sharey="row", height_ratios=(3, 2), squeeze=False
    )
    for column, family in zip(panels.T, families, strict=True):
        for tool, colour, marker in zip(tools, colours, MARKERS, strict=False):
            part = table[(table.family == family) & (table.tool == tool)].sort_values("size")
            ours = tool.startswith(OURS)
            look = {
                "color": colour,
                "marker": marker,
                "markersize": 3,
                "linewidth": 1.4 if ours else 0.7,
                "linestyle": "--" if "one thread" in tool else "-",
            }
            column[0].plot(part["size"], part.seconds, **look)
            seen = part[part.memory >= LEAST_MEMORY]
            column[1].plot(seen["size"], seen.memory / 1e6, **look)
            if family == families[0]:
                panels[0, 0].plot([], [], label=_label(tool), **look)
        column[0].set(xscale="log", yscale="log", title=family)
        column[1].set(
            xscale="log", yscale="log", xlabel="depth" if family.startswith("width") else "width"
        )
        for axes in column:
            style.decades(axes)
        if family.startswith("width"):  # few decades
            column[1].set_xticks(DEPTHS, map(str, DEPTHS))
            column[1].set_xticks([], minor=True)
    panels[0, 0].set_ylabel("seconds (median)")
    panels[1, 0].set_ylabel("memory, MB")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def slopes(table: pd.DataFrame) -> str:
    """A Markdown table: for each line the exponents of time and memory, and what the certificate takes.

    Args:
        table: A row per network and tool, with the columns ``family``, ``size``, ``tool``, ``status``,
            ``seconds``, ``memory`` (bytes) and ``certificate`` (seconds, NaN for other tools).
    """
    head = ["family", "tool", "largest", "time", "time grows as", "memory grows as", "certificate"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- | ---: | ---: | --- | --- | ---: |"]
    right = table[table.status == "ok"]
    for family in dict.fromkeys(right.family):
        name = "depth" if family.startswith("width") else "width"
        for tool in _tools(right):
            part = right[(right.family == family) & (right.tool == tool)].sort_values("size")
            if part.empty:
                continue
            last = part.iloc[-1]
            share = last.certificate / last.seconds
            cells = [
                family,
                _label(tool),
                f"{last['size']:,.0f}",
                f"{last.seconds:.3g} s",
                _power(name, part["size"], part.seconds),
                _power(name, part["size"], part.memory.where(part.memory >= LEAST_MEMORY)),
                f"{share:.0%}" if share >= 0 else "–",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _power(name: str, size: pd.Series, value: pd.Series) -> str:
    """Such as ``width^2.1``: the slope of the last points in logarithms."""
    known = value.notna() & (value > 0)
    if known.sum() < FITTED:
        return "–"
    x, y = np.log(size[known].tail(FITTED)), np.log(value[known].tail(FITTED))
    return f"{name}^{np.polyfit(x, y, 1)[0]:.1f}"


def _tools(table: pd.DataFrame) -> list[str]:
    """All tools, ours first."""
    return sorted(set(table.tool), key=lambda tool: (not tool.startswith(OURS), tool))


def _label(tool: str) -> str:
    return tool.replace(f"{OURS}: ", "closed form, ")
