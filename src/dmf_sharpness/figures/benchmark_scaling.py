"""Time and memory of one sharpness against width and depth, a line per method and tool."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
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
MARKERS = "os^vDP<>X*ph"
"""Each tool has one of these markers."""
CERTIFIED = f"{OURS}: auto"
"""Of this tool the certificate is drawn."""
ONE_THREAD = ", one thread"
"""The name of a tool of ours on one thread ends with this."""
DEPTHS = (2, 4, 8, 16, 32)
"""The depths that are named on the axis."""
LEAST_MEMORY = 1e6
"""Bytes below which the memory of a computation cannot be told from that of the process."""
CERTIFICATE = {"color": style.UNSTABLE, "linestyle": ":", "linewidth": 1.0}
"""The style of the time of the certificate."""


def draw(tables: Tables) -> Figure:
    """Above the times, below the memory; a column per family, and at the end of our lines their slopes."""
    table = tables.benchmark
    table = table[table.status == "ok"]
    families = list(dict.fromkeys(table.family))
    looks = _looks(_tools(table))
    figure = style.new_figure(2, len(families), wide=True, ratio=1.0)
    panels = figure.subplots(
        2, len(families), sharex="col", sharey="row", height_ratios=(3, 2), squeeze=False
    )
    for column, family in zip(panels.T, families, strict=True):
        for axes in column:
            axes.set(xscale="log", yscale="log")
            axes.margins(x=0.12)
        ends = []
        for tool, look in looks.items():
            part = table[(table.family == family) & (table.tool == tool)].sort_values("size")
            column[0].plot(part["size"], part.seconds, **look)
            if tool.startswith(OURS) and not tool.endswith(ONE_THREAD):  # the others are many
                ends.append((part["size"], part.seconds, look["color"]))
            seen = part[part.memory >= LEAST_MEMORY]
            column[1].plot(seen["size"], seen.memory / 1e6, **look)
            if tool == CERTIFIED:
                column[0].plot(part["size"], part.certificate, **CERTIFICATE)
        _write_slopes(column[0], ends)
        column[0].set_title(family)
        column[1].set_xlabel("depth" if family.startswith("width") else "width")
        for axes in column:
            style.decades(axes)
        if family.startswith("width"):  # few decades
            column[1].set_xticks(DEPTHS, map(str, DEPTHS))
            column[1].set_xticks([], minor=True)
    panels[0, 0].set_ylabel("seconds (median)")
    panels[1, 0].set_ylabel("memory, MB")
    for tool, look in looks.items():
        panels[0, 0].plot([], [], label=_label(tool), **look)
        if tool == CERTIFIED:
            panels[0, 0].plot([], [], label="its certificate alone", **CERTIFICATE)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def _looks(tools: list[str]) -> Mapping[str, dict[str, Any]]:
    """The style of each line: ours thick and in colours of the palette, other tools thin and in shades."""
    ours = [tool for tool in tools if tool.startswith(OURS) and not tool.endswith(ONE_THREAD)]
    others = [tool for tool in tools if not tool.startswith(OURS)]
    colours = dict(zip(others, style.tool_colours(len(others) + 1)[1:], strict=True))
    cycle = [style.UNSTABLE, *(f"C{k}" for k in range(2, 8))]
    colours |= dict(zip(ours, cycle, strict=False))
    looks = {}
    for tool, marker in zip(tools, MARKERS, strict=False):
        thin = tool in others
        looks[tool] = {
            "color": colours[tool.removesuffix(ONE_THREAD)],
            "marker": marker,
            "markersize": 2 if thin else 3,
            "linewidth": 0.6 if thin else 1.3,
            "linestyle": "--" if tool.endswith(ONE_THREAD) else "-",
            "zorder": 2 if thin else 3,
        }
    return looks


def _write_slopes(axes: Axes, lines: list[tuple[pd.Series, pd.Series, Any]]) -> None:
    """Write the slope of each line beside its end, from the lowest one up, so that none covers another."""
    known = [(x, y, colour, slope(x, y)) for x, y, colour in lines]
    ends = [(x.iloc[-1], y.iloc[-1], s, colour) for x, y, colour, s in known if s is not None]
    height = np.ptp(np.log(axes.get_ylim()))
    lowest: dict[float, float] = {}
    for x, y, s, colour in sorted(ends, key=lambda end: end[1]):
        place = max(np.log(y), lowest.get(x, -np.inf))
        lowest[x] = place + 0.035 * height
        axes.annotate(
            f"{s:.1f}",
            (x, np.exp(place)),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=5.5,
            color=colour,
        )


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
    """Such as ``width^2.1``."""
    exponent = slope(size, value)
    return "–" if exponent is None else f"{name}^{exponent:.1f}"


def slope(size: pd.Series, value: pd.Series) -> float | None:
    """The slope of the last :data:`FITTED` points in logarithms; None if there are fewer."""
    known = value.notna() & (value > 0)
    if known.sum() < FITTED:
        return None
    x, y = np.log(size[known].tail(FITTED)), np.log(value[known].tail(FITTED))
    return float(np.polyfit(x, y, 1)[0])


def _tools(table: pd.DataFrame) -> list[str]:
    """All tools, ours first."""
    return sorted(set(table.tool), key=lambda tool: (not tool.startswith(OURS), tool))


def _label(tool: str) -> str:
    return tool.replace(f"{OURS}: ", "closed form, ")
