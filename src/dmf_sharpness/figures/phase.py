"""The phase diagram of the escape: one panel per depth."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/phase",),
    caption=(
        "What becomes of a run: the commonest outcome of the starts of each cell. Between the two "
        "predicted borders, 2/λ_max < η < 2/λ_flat, runs land at flatter minimizers, or diverge where "
        "further directions are unstable; beyond, none lands (C6.nowhere: {C6.nowhere.value} of "
        "{C6.nowhere.n} runs). Dots, the measured divergence border."
    ),
)

OUTCOMES = {
    "returned": "returned",
    "landed": "landed, flatter",
    "period_two": "period two",
    "bounded": "higher period, chaos",
    "diverged": "diverged",
    "undecided": "undecided",
}


def draw(tables: Tables) -> Figure:
    """A panel per depth with the commonest outcome in each cell and the two predicted borders."""
    runs = tables.studies["phase"]
    depths = sorted(runs.depth.unique())
    figure, panels = style.new_panels(len(depths), ratio=0.9, sharex=True, sharey=True)
    for axes, depth in zip(panels, depths, strict=True):
        _draw_panel(axes, runs[runs.depth == depth])
        axes.set_title(f"depth {depth}")
        axes.set_xlabel(r"sharpness $\lambda_{\max}/\lambda_{\mathrm{flat}}$")
        axes.label_outer()
    style.label_rows(panels, r"step ratio $c = \eta\lambda_{\max}/2$")
    colours = style.palette().outcomes
    handles = [
        Patch(facecolor=colours[name], edgecolor="0.4", linewidth=0.4, label=label)
        for name, label in OUTCOMES.items()
    ]
    columns = 5 if style.is_wide(True) else 2
    figure.legend(
        handles=[*handles, *panels[0].get_lines()],
        loc="outside upper center",
        ncols=columns,
        handlelength=1.6,
    )
    return figure


def _draw_panel(axes: Axes, runs: pd.DataFrame) -> None:
    codes = runs.outcome.map({name: k for k, name in enumerate(OUTCOMES)})
    cells = (
        codes.groupby([runs.step_ratio, runs.minimizer]).agg(lambda c: c.mode().iloc[0]).unstack()
    )
    sharp = runs.groupby("minimizer").sharpness_ratio.first().reindex(cells.columns)
    colours = ListedColormap([style.palette().outcomes[name] for name in OUTCOMES])
    axes.pcolormesh(
        _edges(sharp.to_numpy()),
        _edges(cells.index.to_numpy()),
        cells.to_numpy(),
        cmap=colours,
        norm=BoundaryNorm(np.arange(len(OUTCOMES) + 1) - 0.5, len(OUTCOMES)),
        rasterized=True,
    )
    x = np.geomspace(sharp.min(), sharp.max(), 50)
    axes.plot(
        x,
        np.ones_like(x),
        color="white",
        linewidth=1.2,
        linestyle="--",
        path_effects=_outline(),
        label=r"$\eta\lambda_{\max} = 2$",
    )
    axes.plot(
        x,
        x,
        color="white",
        linewidth=1.2,
        path_effects=_outline(),
        label=r"$\eta\lambda_{\mathrm{flat}} = 2$",
    )
    divergence = _divergence_border(runs)
    axes.plot(
        divergence.index,
        divergence,
        ".",
        color="black",
        markersize=2.5,
        label="half of the starts diverge",
    )
    axes.set(xscale="log", yscale="log", xlim=(x[0], x[-1]))
    axes.set_ylim(runs.step_ratio.min(), runs.step_ratio.max())
    axes.set_xticks([1, 2, 4], ["1", "2", "4"])
    axes.set_yticks([0.7, 1, 2, 4], ["0.7", "1", "2", "4"])
    axes.minorticks_off()


def _divergence_border(runs: pd.DataFrame) -> pd.Series:
    """The least step ratio at which at least half of the starts diverge, for each sharpness."""
    share = (runs.outcome == "diverged").groupby([runs.sharpness_ratio, runs.step_ratio]).mean()
    often = share[share >= 0.5].reset_index()
    return often.groupby("sharpness_ratio").step_ratio.min()


def _edges(centres: np.ndarray) -> np.ndarray:
    """The borders of the cells, halfway between their centres in the logarithm."""
    logs = np.log(centres)
    inner = (logs[1:] + logs[:-1]) / 2
    return np.exp(np.concatenate([[2 * logs[0] - inner[0]], inner, [2 * logs[-1] - inner[-1]]]))


def _outline() -> list[object]:
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=2.2, foreground="black"), Normal()]
