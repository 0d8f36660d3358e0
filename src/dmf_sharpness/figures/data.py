"""The sharpness on real data, over the share of the largest class and over the condition of the inputs."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from dmf_sharpness.claims.tolerances import NEAR_END
from dmf_sharpness.experiments.catalog import FigureInputs
from dmf_sharpness.figures import style
from dmf_sharpness.figures.tables import Tables

FIGURE = FigureInputs(
    tables=("studies/trained",),
    caption=(
        "The sharpness on real data. (a) The least one on whitened digits, as the loss gives one class the "
        "share p, at depth 2. With the means kept it is nearly √p (line; C2.class_share), with the means "
        "subtracted it falls beyond p = 1/2 (C2.class_means). (b) Sharpness over λ_flat on these data "
        "(C2.data_bound), on digits, MNIST and the diabetes data, over the ratio of the largest and the "
        "smallest singular value of the inputs. Diamonds, minimizers made to be flat (C2.data_attained). "
        "Crosses, balanced ones, which are flat on whitened data only. Dots, networks trained in single "
        "precision; hollow ones ended more than 1e-3 of their norm from the minimizer that is shown."
    ),
)


def draw(tables: Tables) -> Figure:
    """Two panels: the class shares, and the condition of the inputs."""
    table = tables.studies["trained"]
    table = table[table.data != "none"]
    figure, (left, right) = style.new_panels(2, ratio=0.8)
    _shares(left, table[table.largest_share.notna()])
    _condition(right, table)
    for axes, letter in zip((left, right), "ab", strict=True):
        axes.set_title(f"({letter})", loc="left")
    return figure


def _shares(axes: Axes, table: pd.DataFrame) -> None:
    p = np.linspace(table.largest_share.min(), 1, 100)
    axes.plot(p, p**0.5, color=style.THEORY, linewidth=0.8, label=r"$\sqrt{p}$")
    for centred, colour, marker in ((False, style.STABLE, "o"), (True, style.UNSTABLE, "s")):
        rows = table[table.centred == centred].sort_values("largest_share")
        unit = 2 * rows.depth * rows.samples
        label = "means subtracted" if centred else "means kept"
        axes.plot(
            rows.largest_share, rows.flat_sharpness / unit, color=colour, marker=marker,
            markersize=3.5, linewidth=0.6, label=label,
        )  # fmt: skip
    axes.set(
        xlabel="share $p$ of the largest class",
        ylabel=r"$\lambda_{\mathrm{flat}}\,/\,2Ln$",
        xlim=(0, 1.02),
        ylim=(0, 1.02),
    )
    axes.legend(loc="upper left")


def _condition(axes: Axes, table: pd.DataFrame) -> None:
    problems = table.drop_duplicates(["experiment", "network", "problem"])
    for column, marker, label in (
        ("made_sharpness", "x", "balanced"),
        ("flat_made", "D", "flat"),
    ):
        axes.plot(
            problems.condition, problems[column] / problems.flat_sharpness, marker, color=style.THEORY,
            markersize=3.5, markerfacecolor="none", markeredgewidth=0.7, label=label,
        )  # fmt: skip
    names = {"digits": "digits", "mnist": "MNIST", "diabetes": "diabetes"}
    colours = dict(zip(names, style.tool_colours(len(names)), strict=True))
    for kind, rows in table[table.sharpness.notna()].groupby("data"):
        colour, far = colours[str(kind)], rows.distance > NEAR_END
        for part, face in ((rows[~far], colour), (rows[far], "none")):
            axes.plot(
                part.condition, part.sharpness / part.flat_sharpness, "o", color=colour,
                markerfacecolor=face, markersize=3, markeredgewidth=0.6,
            )  # fmt: skip
        axes.plot([], [], "o", color=colour, markersize=3, label=f"trained, {names[str(kind)]}")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=r"$\sigma_{\max}/\sigma_{\min}$ of the inputs",
        ylabel=r"$\lambda_{\max}\,/\,\lambda_{\mathrm{flat}}$",
    )
    axes.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
