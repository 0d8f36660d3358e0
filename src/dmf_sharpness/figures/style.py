"""How all figures look: sizes and fonts of an ICML page, one colour for one quantity.

A figure's module says what it draws; the width, the palette and the formats are the user's, from
``config/config.yaml``, and hold inside :func:`applied`.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib import rcsetup
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from tueplots import bundles, figsizes

from dmf_sharpness.artifacts.lineage import marker
from dmf_sharpness.artifacts.store import atomic_path

# Same bytes from run to run: no creation date, no random identifiers.
os.environ.setdefault("SOURCE_DATE_EPOCH", "0")

STABLE = "C0"
"""Flat, stable, returning. The colours are those of the palette at the time of drawing."""
UNSTABLE = "C1"
"""Unbalanced, unstable, tolerances."""
THEORY = "0.15"
"""Colour of what is predicted."""
OTHER = "0.65"
"""Colour of what is there for comparison."""
ROUNDING = 1e-10
"""Imbalance up to which minimizers are drawn as balanced."""


@dataclass(frozen=True)
class Palette:
    """Colours by what they stand for.

    Attributes:
        cycle: Categories, apart for the colour-blind; the first is ``STABLE``, the second ``UNSTABLE``.
        depth: Colour map of depths.
        below: Colour map of step ratios below the stability limit.
        above: Colour map of step ratios above it, and of the excess.
        radius: Colour map of starting radii.
        outcomes: What becomes of a run, from order to chaos: lightness tells neighbours apart.
    """

    cycle: tuple[str, ...]
    depth: str
    below: str
    above: str
    radius: str
    outcomes: Mapping[str, str]


PALETTES = {
    # Okabe and Ito's colours, in an order of ours.
    "colorblind": Palette(
        ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#7A5230"),
        "viridis",
        "Blues",
        "YlOrRd",
        "plasma",
        {
            "returned": "#0072B2",
            "landed": "#56B4E9",
            "period_two": "#F0E442",
            "bounded": "#E07B1A",
            "diverged": "#5A1010",
            "undecided": "#FFFFFF",
        },
    ),
    "grey": Palette(
        ("0.05", "0.4", "0.25", "0.62", "0.5", "0.7", "0.15"),
        "gray",
        "Greys",
        "Greys",
        "gray",
        {
            "returned": "0.45",
            "landed": "0.75",
            "period_two": "0.92",
            "bounded": "0.6",
            "diverged": "0.15",
            "undecided": "1.0",
        },
    ),
}


@dataclass(frozen=True)
class Style:
    """What a user may choose without anything being computed again.

    Attributes:
        width: ``own``: each figure as wide as it was laid out; ``column``, ``text``: all as wide as
            a column or the text of a page. Panels that no longer fit beside each other are stacked.
        palette: A name in ``PALETTES``.
    """

    width: Literal["own", "column", "text"] = "own"
    palette: str = "colorblind"

    @property
    def settings(self) -> dict[str, Any]:
        """Matplotlib's settings."""
        return {
            **bundles.icml2024(usetex=False),
            "font.family": "serif",
            "font.serif": ["STIXGeneral"],
            "mathtext.fontset": "stix",
            "legend.fontsize": 7,
            "legend.title_fontsize": 7,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "axes.prop_cycle": rcsetup.cycler(color=PALETTES[self.palette].cycle),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "lines.linewidth": 1.0,
            "legend.frameon": False,
            "legend.handlelength": 1.4,
            "legend.columnspacing": 1.0,
            "savefig.dpi": 300,
            "pdf.fonttype": 42,
            "svg.hashsalt": "dmf-sharpness",  # else element names are random
        }


_current: ContextVar[Style] = ContextVar("style", default=Style())  # noqa: B039, it is frozen


@contextmanager
def applied(style: Style) -> Iterator[None]:
    """Draw in this style inside the block, whatever the reader's own matplotlibrc says."""
    token = _current.set(style)
    try:
        with mpl.style.context(["default", style.settings]):
            yield
    finally:
        _current.reset(token)


def palette() -> Palette:
    """The colours of the present style."""
    return PALETTES[_current.get().palette]


def is_wide(own: bool) -> bool:
    """Whether a figure goes across the text, given whether it would of its own."""
    width = _current.get().width
    return own if width == "own" else width == "text"


def new_figure(rows: int = 1, columns: int = 1, wide: bool = False, ratio: float = 0.72) -> Figure:
    """An empty figure, one column of an ICML page across or (``wide``) both.

    Args:
        rows: Rows of panels, which set the height.
        columns: Columns of panels.
        wide: Across both columns, if the style leaves it to the figure.
        ratio: Height of a panel over its width.
    """
    sizes = figsizes.icml2024_full if is_wide(wide) else figsizes.icml2024_half
    size = sizes(nrows=rows, ncols=columns, height_to_width_ratio=ratio)["figure.figsize"]
    return Figure(figsize=size, layout="constrained")


def new_panels(count: int, ratio: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of panels beside each other across the text, or as many as fit into a column.

    Args:
        count: How many panels.
        ratio: Height of a panel over its width.
        options: For ``Figure.subplots``, such as ``sharey``.
    """
    across = count if is_wide(True) else max(1, count // 2)
    rows = ceil(count / across)
    figure = new_figure(rows, across, wide=True, ratio=ratio)
    panels = list(figure.subplots(rows, across, squeeze=False, **options).flat)
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def label_rows(panels: Sequence[Axes], text: str) -> None:
    """Label the vertical axis of the panels at the left edge."""
    for axes in panels:
        spec = axes.get_subplotspec()
        if spec is None or spec.is_first_col():
            axes.set_ylabel(text)


def decades(axes: Axes, which: Literal["x", "y", "both"] = "both", count: int = 6) -> None:
    """Ticks at powers of ten only, at most ``count`` on a logarithmic axis."""
    for name in "xy" if which == "both" else which:
        axis = axes.xaxis if name == "x" else axes.yaxis
        axis.set_major_locator(LogLocator(numticks=count))
        axis.set_minor_locator(LogLocator(subs=[], numticks=count))


def ratio_colours(step_ratios: object) -> dict[float, Any]:
    """A colour for each step ratio: blues below 1, yellow to dark red above, apart in grey too."""
    ratios = sorted(float(c) for c in np.unique(np.asarray(step_ratios)))
    stable = [c for c in ratios if c < 1]
    unstable = [c for c in ratios if c >= 1]
    blues = _shades(palette().below, len(stable) + 2)[2:]
    reds = _shades(palette().above, len(unstable) + 2)[2:]
    return dict(zip([*stable, *unstable], [*blues, *reds], strict=True))


def excess_colours() -> Colormap:
    """The colour map of how far a step ratio is above 1, without the lightest shades."""
    shades = mpl.colormaps[palette().above](np.linspace(0.25, 1, 256))
    return LinearSegmentedColormap.from_list("excess", shades)


def depth_colours(depths: object) -> Mapping[int, Any]:
    """A colour for each depth, the same in every figure: over the logarithm, 2 to 20."""
    values = sorted(int(depth) for depth in np.unique(np.asarray(depths)))
    shades = mpl.colormaps[palette().depth]
    return {depth: shades(0.9 * np.log10(depth / 2)) for depth in values}


def tool_colours(count: int) -> list[Any]:
    """As many colours as there are tools to compare, dark for the first."""
    return [UNSTABLE, *_shades("crest", max(count - 1, 0))]


def _shades(name: str, count: int) -> list[Any]:
    import seaborn as sns  # here, for it takes a second, which not every figure needs to wait

    return list(sns.color_palette(name, count))


def power_of_ten(value: float) -> str:
    """``1e-9`` as ``$10^{-9}$``, other numbers with the leading factor."""
    exponent = floor(log10(value) + 1e-9)
    factor = value / 10**exponent
    lead = "" if abs(factor - 1) < 1e-6 else rf"{factor:.2g} \cdot "
    return rf"${lead}10^{{{exponent}}}$"


def render(
    draw: Callable[[], Figure],
    stem: Path,
    style: Style | None = None,
    formats: Sequence[str] = ("pdf",),
    source: str = "",
    lineage: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Draw, and write ``stem.png`` and the further formats, each file whole or not at all.

    Args:
        draw: Makes the figure, in the style.
        stem: The path without a suffix.
        style: Width and palette.
        formats: ``pdf``, ``svg``; PNG is always written.
        source: The artifacts that are drawn; it goes into the metadata of the files.
        lineage: What the figure was made from (:mod:`dmf_sharpness.artifacts.lineage`); it goes there, too.

    Returns:
        The files written.
    """
    # Without what would differ from run to run.
    mark = "" if lineage is None else marker(lineage)
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None, "Subject": source, "Keywords": mark},
        "png": {
            "Software": None,
            "Source": source,
            "Comment": mark,
            "Lineage": json.dumps(lineage),
        },
        "svg": {"Date": None, "Source": source, "Keywords": [mark]},
    }
    written = []
    with applied(style or Style()):
        figure = draw()
        for suffix in dict.fromkeys([*formats, "png"]):
            path = stem.with_name(f"{stem.name}.{suffix}")
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format=suffix, metadata=metadata[suffix])
            written.append(path)
    return written
