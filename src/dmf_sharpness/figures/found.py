"""The imbalance of flat minimizers that a search found, by the kind of the network."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from dmf_sharpness.claims.tolerances import FLAT_BALANCE
from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/flattest",),
    caption=(
        "Flat minimizers that were found and not built: from random minimizers (grey) the sharpness is "
        "minimized with no condition on balance, and ends at λ_flat (C2.attained: to "
        "{C2.attained.value} over {C2.attained.n} searches). Where balance is necessary, at depth 2 and "
        "for scalars, all ends are balanced (C5.spectral: to {C5.spectral.value} over {C5.spectral.n}; "
        "the deviation of a balanced minimizer is the root of the rounding of the sharpness). With three "
        "and more matrix factors many are not. The line is the tolerance of C5.spectral."
    ),
)

LEAST, MOST = 1e-15, 10_000
"""Imbalances are drawn from the first of these numbers to the second; smaller ones at the first."""


def draw(tables: Tables) -> Figure:
    """Imbalance at the start and at the end of every search, a column per kind of network."""
    table = tables.studies["flattest"]
    groups = _groups(table)
    figure = style.new_figure(ratio=0.75)
    axes = figure.subplots()
    for k, (settled, rows) in enumerate(groups.values()):
        # The searches of a column stand side by side, network by network.
        place = k + np.linspace(-0.3, 0.3, max(len(rows), 2))[: len(rows)]
        end = (
            (style.STABLE, "flat, balance necessary")
            if settled
            else (style.UNSTABLE, "flat, not necessary")
        )
        for column, (colour, label) in (
            ("start_imbalance", (style.OTHER, "start of a search")),
            ("imbalance", end),
        ):
            axes.scatter(
                place,
                rows[column].clip(lower=LEAST),
                s=6,
                color=colour,
                linewidths=0.15,
                edgecolors="white",
                label=label,
                zorder=2 if column == "imbalance" else 1,
            )
    axes.axhline(FLAT_BALANCE, color=style.THEORY, linewidth=0.7, linestyle="--", zorder=0)
    axes.text(-0.45, 1.6 * FLAT_BALANCE, "counts as balanced below", fontsize=6, color=style.THEORY)
    axes.set(
        yscale="log",
        ylim=(LEAST / 3, MOST),
        xlim=(-0.5, len(groups) - 0.5),
        ylabel=r"imbalance $\max_i\, |x_i - 1|$",
    )
    axes.set_xticks(range(len(groups)), list(groups))
    ticks = [10.0**k for k in (-15, -10, -5, 0)]
    axes.set_yticks(ticks, [style.power_of_ten(tick) for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    axes.legend(
        named.values(),
        named.keys(),
        loc="lower right",
        handletextpad=0.1,
        labelspacing=0.3,
    )
    return figure


def _groups(table: pd.DataFrame) -> dict[str, tuple[bool, pd.DataFrame]]:
    """The rows of each kind of network, and whether balance is necessary there."""
    scalar, depth_2 = table.widths.str.match(r"1-.*-1$"), table.depth == 2
    groups = {
        "depth 2,\nany shape": (True, table[depth_2]),
        "scalars,\ndeeper": (True, table[scalar & ~depth_2]),
    }
    deep = table[~scalar & ~depth_2]
    for depth, rows in deep.groupby("depth"):
        groups[f"{depth} matrix\nfactors"] = (False, rows)
    return {name: group for name, group in groups.items() if len(group[1])}
