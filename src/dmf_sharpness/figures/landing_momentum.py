"""The landings of the heavy ball: the term of the landing law that depends on the momentum, as measured."""

from matplotlib.figure import Figure

from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/landing_momentum",),
    caption=(
        "How far momentum moves the landing of gradient descent. A dot is a minimizer: the measured "
        "¾ (1 − c_end − δ)/δ², less the terms a − b of the minimizer that plain descent has, too. The "
        "landing law says that (3/2)((1 + β)/(1 − β))² is left (lines), the same for all minimizers, and "
        "3/2 without momentum (dotted). Full dots for the smallest δ, hollow ones for the larger: next "
        "to flat minimizers, where |a − b| is large, and for large β the next order shows "
        "(C6.law_momentum: off by at most {C6.law_momentum.value} of the sizes of the terms, "
        "{C6.law_momentum.n} runs from minimizers of {C6.law_momentum.problems} problems)."
    ),
)


def draw(tables: Tables) -> Figure:
    """The measured term against the size of the other terms, a line per momentum."""
    table = tables.studies["landing_momentum"]
    rows = table[(table.outcome == "landed") & (table.momentum > 0)]
    figure = style.new_figure(ratio=0.85)
    axes = figure.subplots()
    colours = style.depth_colours(rows.depth)
    size = rows.coefficient.abs()
    measured = 0.75 * (1 - rows.end_ratio - rows.excess) / rows.excess**2 - rows.coefficient
    full = rows.excess == rows.excess.min()
    for depth, colour in colours.items():
        for chosen, face in ((full, colour), (~full, "none")):
            these = chosen & (rows.depth == depth)
            axes.scatter(
                size[these],
                measured[these],
                s=9,
                facecolors=face,
                edgecolors=colour,
                linewidths=0.4,
                label=f"{depth}" if face == colour else None,
                zorder=2,
            )
    limits = float(size.min()) * 0.7, float(size.max()) * 1.4
    for momentum in sorted(rows.momentum.unique()):
        predicted = 1.5 * ((1 + momentum) / (1 - momentum)) ** 2
        axes.axhline(predicted, color=style.THEORY, linewidth=0.8, zorder=1)
        axes.annotate(
            rf"$\beta = {momentum:g}$",
            (limits[0], predicted),
            xytext=(3, -3),
            textcoords="offset points",
            va="top",
            fontsize="small",
        )
    axes.axhline(1.5, color=style.THEORY, linestyle=":", linewidth=0.8, zorder=1)
    axes.annotate(
        "gradient descent", (limits[0], 1.5), xytext=(3, 3), textcoords="offset points",
        fontsize="small",
    )  # fmt: skip
    axes.set(
        xscale="log",
        yscale="log",
        xlim=limits,
        ylim=(1, 400),
        xlabel=r"$|a - b|$ of the minimizer",
        ylabel=r"$\frac{3}{4}(1 - c_{\mathrm{end}} - \delta)/\delta^2 - (a - b)$",
    )
    excesses = sorted(rows.excess.unique())
    for excess, face in zip((excesses[0], excesses[-1]), (style.OTHER, "none"), strict=True):
        axes.scatter(
            [], [], s=9, facecolors=face, edgecolors=style.OTHER, linewidths=0.4,
            label=rf"$\delta = $ {style.power_of_ten(excess)}",
        )  # fmt: skip
    figure.legend(
        title="depth $L$ (full and hollow dots: excess $\\delta$ at the start)",
        loc="outside upper center",
        ncols=len(colours) + 2,
        handletextpad=0.0,
        columnspacing=0.6,
    )
    return figure
