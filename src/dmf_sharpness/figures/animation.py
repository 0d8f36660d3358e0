"""The contour figure as an animation: gradient descent leaves the minimizer, oscillates, and settles."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.animation import FuncAnimation
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dmf_sharpness.figures import contour, style
from dmf_sharpness.figures.tables import Tables

FRAMES, HELD = 110, 20
"""The animation has this many frames, and then shows the last one for so many more."""
FRAME_RATE = 12
"""The animation shows this many frames per second."""


@dataclass(frozen=True)
class _Run:
    """One run: its steps, and the lines that show it in both panels."""

    steps: np.ndarray
    plane: np.ndarray
    distance: np.ndarray
    trail: Line2D
    swing: Line2D
    head: Line2D
    curve: Line2D

    def show(self, step: int) -> list[Artist]:
        count = int(np.searchsorted(self.steps, step, side="right"))
        self.trail.set_data(*self.plane[:count].T)
        self.swing.set_data(*self.plane[max(count - 2, 0) : count].T)
        self.head.set_data(*self.plane[count - 1 : count].T)
        self.curve.set_data(self.steps[1:count], self.distance[1:count])
        return [self.trail, self.swing, self.head, self.curve]


def animate(tables: Tables) -> FuncAnimation:
    """An animation with the iterates on the contour map (left) and their distance from the minimizer (right).

    The frames are evenly spaced in the logarithm of the number of steps, because the oscillation takes tens
    of steps, but settling takes thousands.
    """
    paths = contour.shown_paths(tables)
    figure = style.new_figure(columns=2, wide=True, ratio=0.85)
    left, right = figure.subplots(1, 2)
    contour.draw_landscape(left, tables)
    contour.mark_minimizer(left)
    colours = style.ratio_colours(paths.step_ratio)
    runs = [
        _run(paths[paths.step_ratio == c].sort_values("step"), colour, f"{c:g}", (left, right))
        for c, colour in reversed(colours.items())
    ]
    last = int(paths.step.max())
    left.set(xlabel="displacement along $v_1$", ylabel="displacement along $v_N$")
    right.set(
        xscale="log",
        yscale="log",
        xlim=(1, last),
        ylim=(paths.radius.min() / 10, 2),
        xlabel="iteration $t$",
        ylabel="distance from the minimizer",
    )
    handles, labels = right.get_legend_handles_labels()
    figure.legend(
        handles[::-1],
        labels[::-1],
        loc="outside upper center",
        ncols=len(runs) + 1,
        title=r"step ratio $\eta\lambda_{\max}/2$",
        handletextpad=0.3,
    )
    clock = right.text(0.04, 0.93, "", transform=right.transAxes, fontsize="medium")
    steps = np.unique(np.geomspace(1, last, FRAMES).round().astype(int))
    steps = np.concatenate([[0], steps, np.full(HELD, last)])

    def show(frame: int) -> list[Artist]:
        clock.set_text(f"$t = {steps[frame]:,}$".replace(",", r"\,"))
        return [clock, *(artist for run in runs for artist in run.show(int(steps[frame])))]

    return FuncAnimation(figure, show, frames=len(steps), interval=1000 / FRAME_RATE)


def _run(path: pd.DataFrame, colour: object, label: str, panels: tuple[Axes, Axes]) -> _Run:
    left, right = panels
    (trail,) = left.plot([], [], ".", markersize=1.6, markeredgewidth=0, color=colour)
    (swing,) = left.plot([], [], color=colour, linewidth=0.5, alpha=0.7)
    (head,) = left.plot(
        [],
        [],
        "o",
        markersize=4.5,
        color=colour,
        markeredgecolor="black",
        markeredgewidth=0.5,
        zorder=5,
    )
    (curve,) = right.plot([], [], color=colour, label=label)
    plane = path[["along_top", "along_flattening"]].to_numpy()
    return _Run(path.step.to_numpy(), plane, path.distance.to_numpy(), trail, swing, head, curve)


def add_comment(path: Path, text: str) -> None:
    """Write a comment of at most 255 characters into a GIF, as the last block before its end."""
    content = path.read_bytes()
    assert content.endswith(b"\x3b")
    block = text.encode("ascii")
    path.write_bytes(content[:-1] + b"\x21\xfe" + bytes([len(block)]) + block + b"\x00\x3b")
