"""Spectral against Frobenius balance of flat minimizers, with random ones behind them."""

from matplotlib.figure import Figure

from dmf_sharpness.claims.tolerances import EXACT
from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("sharpness",),
    of="factorization",
    caption=(
        "Spectral against Frobenius balance. Minimizers whose spectral products are equal are "
        "flat (blue; C2: to {C2.value} over {C2.n}) and can have Frobenius norms far apart "
        "(C5.frobenius: flat to {C5.frobenius.value} over {C5.frobenius.n} with a factor of 1.2 and "
        "more). A factor of 100 comes from a block of one layer that no other layer writes to or reads "
        "(C5.hundred), or, rings, from a single weak singular value of the target, with every hidden unit "
        "written and read (C5.live). From three matrix factors on minimizers can be "
        "flat, for most targets and widths, though their spectral products are not equal (orange, ours; "
        "C2.necessity: {C2.necessity.n} of them). Grey, random minimizers, which are not flat."
    ),
)

FLOOR = 1e-16
"""Smaller imbalances, which are rounding errors, are drawn at this value."""


def draw(tables: Tables) -> Figure:
    """Spectral imbalance against Frobenius imbalance; flat minimizers above may be unbalanced in both."""
    table = tables.sharpness[tables.sharpness.flat_sharpness.notna()]
    flat = table.excess.abs() <= EXACT
    equal = table.spectral_imbalance <= style.ROUNDING
    live = table.kind == "flat_live"
    figure = style.new_figure(ratio=0.85)
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [2.2, 1]})
    layers = (
        (above, table[~flat & (table.kind == "random")], style.OTHER, "o", "random, not flat"),
        (above, table[flat & ~equal], style.UNSTABLE, "D", r"flat, not balanced ($L \geq 3$)"),
        (below, table[flat & equal & ~live], style.STABLE, "o", "flat, balanced"),
    )
    for axes, rows, colour, marker, label in layers:
        axes.scatter(
            rows.frobenius_imbalance,
            rows.spectral_imbalance.clip(lower=FLOOR),
            color=colour,
            marker=marker,
            s=8,
            linewidths=0.15,
            edgecolors="white",
            label=label,
        )
    below.scatter(
        table[live].frobenius_imbalance,
        table[live].spectral_imbalance.clip(lower=FLOOR),
        facecolors="none",
        edgecolors=style.THEORY,
        s=12,
        linewidths=0.6,
        label="the same, every hidden unit used",
    )
    drawn = table[flat | (table.kind == "random")]
    right, top = 1.5 * drawn.frobenius_imbalance.max(), 2 * drawn.spectral_imbalance.max()
    above.set(yscale="log", xscale="log", xlim=(0.9, max(500, right)), ylim=(4e-3, max(10, top)))
    below.set(
        yscale="log",
        ylim=(FLOOR / 3, 1e-12),
        xlabel=r"Frobenius imbalance $\max_i \Vert W_i\Vert_F \, / \, \min_i \Vert W_i\Vert_F$",
    )
    figure.supylabel(r"spectral imbalance $\max_i\, |x_i - 1|$", fontsize="medium")
    style.decades(above)
    style.decades(below, "y", 3)
    below.set_xticks([1, 10, 100], ["1", "10", "100"])
    above.legend(loc="lower right", handletextpad=0.1)
    below.legend(loc="upper left", handletextpad=0.1)
    return figure
