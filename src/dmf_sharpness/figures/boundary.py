"""The boundary of the flatness condition: equal products but not flat, and flat without equal products."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmf_sharpness.claims.tolerances import EXACT
from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables
from dmf_sharpness.network.least_excess import least_excess

FIGURE = FigureInputs(
    tables=("sharpness",),
    of="factorization",
    caption=(
        "Where the condition of equal spectral products stops; both are ours. Left, it is not "
        "sufficient without the right value: minimizers exist with all products x times that value "
        "and the sharpness x² λ_flat, the most that such products allow (C2.constant: to "
        "{C2.constant.value} over {C2.constant.n}). But a wrong value can be flat: crosses, all products "
        "1.05 to 1.2 times the right value (C2.another_value). Right, "
        "it is not necessary in general from three matrix factors on: flat minimizers (orange) with "
        "products far from equal (C2.necessity: flat to {C2.necessity.value} over {C2.necessity.n}, "
        "targets of unequal singular values); the star is three diagonal 2 × 2 factors. Grey, random "
        "minimizers of the same depths; the lines are the excess that such an imbalance would force in "
        "scalars."
    ),
)

FLOOR = 1e-16
"""Smaller excesses, which are rounding errors, are drawn at this value."""


def draw(tables: Tables) -> Figure:
    """Left, equal products are not sufficient without their value; right, they are not necessary."""
    table = tables.sharpness[tables.sharpness.flat_sharpness.notna()]
    figure, (left, right) = style.new_panels(2, ratio=0.72)
    palette = style.depth_colours(table.depth)

    equal = table[(table.product_spread <= style.ROUNDING) & (table.spectral_imbalance > 1e-6)]
    is_flat = equal.excess.abs() <= EXACT
    flat, equal = equal[is_flat], equal[~is_flat]
    x = np.geomspace(1, 4, 100)
    left.plot(x, x**2, color=style.THEORY, linewidth=0.7, zorder=0, label="$x^2$")
    for depth in sorted(int(depth) for depth in equal.depth.unique()):
        rows = equal[equal.depth == depth]
        left.scatter(
            # Deeper networks get smaller dots, so that dots at the same place are all visible.
            1 + rows.spectral_imbalance,
            1 + rows.excess,
            color=[palette[depth]],
            s=250 / depth**1.3,
            linewidths=0,
            label=f"$L={depth}$",
        )
    left.plot(1, 1, marker="o", markersize=5, color=style.STABLE, linestyle="none", label="flat")
    left.plot(
        1 + flat.spectral_imbalance,
        1 + flat.excess,
        marker="x",
        color=style.STABLE,
        linestyle="none",
        markersize=4,
        label="flat, $x \\neq 1$",
    )
    ticks = [1, 1.5, 2, 3, 4]
    left.set(
        xscale="log",
        yscale="log",
        xlim=(0.94, 4.2),
        ylim=(0.85, 18),
        title="not sufficient: equal products of another value",
        xlabel=r"$x$, all $\Vert L_i\Vert_2\Vert R_i\Vert_2 = x\, \Vert M\Vert_2^{1-1/L}$",
        ylabel=r"$\lambda_{\max}/\lambda_{\mathrm{flat}}$",
    )
    left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    left.set_yticks([1, 2, 4, 9, 16], ["1", "2", "4", "9", "16"])
    left.minorticks_off()
    left.legend(loc="upper left", handletextpad=0.4)
    _draw_unnecessary(right, tables)
    return figure


def _draw_unnecessary(axes: Axes, tables: Tables) -> None:
    table = tables.sharpness[tables.sharpness.flat_sharpness.notna()]
    table = table[(table.depth > 2) & ~table.widths.str.match(r"1-.*-1$")]
    random = table[table.kind == "random"]
    made = table[table.kind.isin(["flat_unbalanced", "unequal_flat"])]
    example = table[(table.kind == "explicit") & (table.product_spread > 1e-2)]
    x = np.geomspace(1e-3, 10, 200)
    for depth, style_of_line in ((3, "-"), (6, ":")):
        bound = least_excess(1 + x, depth)
        axes.plot(
            x,
            bound,
            color=style.THEORY,
            linewidth=0.7,
            linestyle=style_of_line,
            label=f"least for scalars, $L={depth}$",
        )
    dots: dict[str, Any] = {"linewidths": 0.2, "edgecolors": "white"}
    axes.scatter(
        random.spectral_imbalance, random.excess, color=style.OTHER, s=8, label="random", **dots
    )
    axes.scatter(
        made.spectral_imbalance,
        made.excess.abs().clip(lower=FLOOR),
        color=style.UNSTABLE,
        s=11,
        label="flat, products unequal",
        **dots,
    )
    axes.scatter(
        example.spectral_imbalance,
        example.excess.abs().clip(lower=FLOOR),
        marker="*",
        s=110,
        color=style.STABLE,
        linewidths=0.6,
        edgecolors="white",
        zorder=4,
        label="three diagonal factors",
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(2e-3, 10),
        ylim=(FLOOR / 5, 100),
        title="not necessary in general from depth 3 on",
        xlabel=r"spectral imbalance $\max_i |x_i - 1|$",
        ylabel=r"excess $\lambda_{\max}/\lambda_{\mathrm{flat}} - 1$",
    )
    style.decades(axes)
    axes.legend(loc=(0.02, 0.19), handletextpad=0.4)
