"""Sharpness along paths through the set of minimizers, with the value at flat ones and the bounds."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/paths",),
    caption=(
        "Sharpness along random paths through the set of minimizers, each from a flat one (t = "
        "0), a panel per network. Lines, the exact expression; dots, the dense Hessian (C1.paths: "
        "to {C1.paths.value} over {C1.paths.n} points). Dotted, the value at flat minimizers, "
        "which Mulayoff and Michaeli (2020) have; shaded, what the spectral norms of the "
        "intermediate factors allow on one of the paths, 2 max p_i² to 2 Σ p_i². At depth 2 and "
        "for scalars the upper bound is the value."
    ),
)


def draw(tables: Tables) -> Figure:
    """A panel per network with all paths and the bounds of one of them."""
    table = tables.studies["paths"]
    networks = table.drop_duplicates(["experiment", "network"])[["experiment", "network"]]
    figure, panels = style.new_panels(len(networks), ratio=1.15, sharey=True)
    for axes, (experiment, network) in zip(panels, networks.to_numpy(), strict=True):
        rows = table[(table.experiment == experiment) & (table.network == network)]
        _draw_panel(axes, rows)
    style.label_rows(panels, r"$\lambda_{\max} / \lambda_{\mathrm{flat}}$")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels) if style.is_wide(True) else 2
    )
    return figure


def _draw_panel(axes: Axes, table: pd.DataFrame) -> None:
    colour = style.depth_colours(table.depth)[int(table.depth.iloc[0])]
    paths = [rows for _, rows in table.groupby(["minimizer", "path"])]
    for k, rows in enumerate(paths):
        ratio = rows.sharpness / rows.flat_sharpness
        axes.plot(rows.t, ratio, color=colour, linewidth=0.8, label=None if k else "closed form")
        axes.scatter(
            rows.t[::2],
            (rows.oracle_sharpness / rows.flat_sharpness)[::2],
            color=[colour],
            s=7,
            linewidths=0.2,
            edgecolors="white",
            zorder=3,
            label=None if k else "dense Hessian",
        )
    # The bounds are drawn for the path on which the upper bound is farthest from the sharpness.
    widest = max(paths, key=lambda rows: float((rows.upper / rows.sharpness).max()))
    axes.fill_between(
        widest.t,
        widest.lower / widest.flat_sharpness,
        widest.upper / widest.flat_sharpness,
        color=style.UNSTABLE,
        alpha=0.3,
        linewidth=0,
        label="bounds from norms, one path",
    )
    axes.axhline(
        1, color=style.THEORY, linestyle=":", linewidth=0.9, label=r"$\lambda_{\mathrm{flat}}$"
    )
    axes.set(
        yscale="log",
        title=f"$L={table.depth.iloc[0]}$, {table.widths.iloc[0]}",
        xlabel="$t$ along the gauge path",
        xlim=(0, float(table.t.max())),
    )
    axes.set_yticks([0.3, 1, 3, 10, 30], ["0.3", "1", "3", "10", "30"])
    axes.minorticks_off()
