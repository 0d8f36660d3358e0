"""The style of all figures: sizes and fonts of an ICML page, and one colour for one quantity.

The module of a figure decides what is drawn. The user chooses the width, the palette and the formats in
``config/config.yaml``; inside of :func:`applied` they are in force.
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

# A fixed creation date and no random identifiers, so that the files are the same from run to run.
os.environ.setdefault("SOURCE_DATE_EPOCH", "0")

STABLE = "C0"
"""Flat minimizers and returning runs have this colour, the first of the palette in force when it is drawn."""
UNSTABLE = "C1"
"""Unbalanced minimizers, escaping runs and tolerances have this colour, the second of the palette."""
THEORY = "0.15"
"""Predictions have this colour."""
OTHER = "0.65"
"""Things that are drawn for comparison have this colour."""
ROUNDING = 1e-10
"""Minimizers with an imbalance up to this are drawn as balanced."""


@dataclass(frozen=True)
class Palette:
    """The colours of a palette, by their meaning.

    Attributes:
        cycle: Colours of categories, which colour-blind people can tell apart; the first is ``STABLE``, the
            second ``UNSTABLE``.
        depth: The colour map of depths.
        below: The colour map of step ratios below the limit of stability.
        above: The colour map of step ratios above it, and of the excess.
        radius: The colour map of starting radii.
        outcomes: The colour of each outcome of a run; neighbours in the phase diagram differ in lightness.
    """

    cycle: tuple[str, ...]
    depth: str
    below: str
    above: str
    radius: str
    outcomes: Mapping[str, str]


PALETTES = {
    # The colours of Okabe and Ito, in another order.
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
    """The settings that a user may change; the figures are then drawn again, but nothing is computed again.

    Attributes:
        width: ``own`` keeps the width of each figure; ``column`` and ``text`` make all figures as wide as a
            column or the text of a page. Panels that do not fit beside each other are stacked.
        palette: A name in ``PALETTES``.
    """

    width: Literal["own", "column", "text"] = "own"
    palette: str = "colorblind"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of Matplotlib."""
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
            "svg.hashsalt": "dmf-sharpness",  # without it element names are random
        }


_current: ContextVar[Style] = ContextVar("style", default=Style())  # noqa: B039, it is frozen


@contextmanager
def applied(style: Style) -> Iterator[None]:
    """A block in which everything is drawn in this style, whatever the user's own matplotlibrc says."""
    token = _current.set(style)
    try:
        with mpl.style.context(["default", style.settings]):
            yield
    finally:
        _current.reset(token)


def palette() -> Palette:
    """The palette of the style in force."""
    return PALETTES[_current.get().palette]


def is_wide(own: bool) -> bool:
    """Whether a figure is as wide as the text.

    Args:
        own: Whether it is so by its own layout, which the style may override.
    """
    width = _current.get().width
    return own if width == "own" else width == "text"


def new_figure(rows: int = 1, columns: int = 1, wide: bool = False, ratio: float = 0.72) -> Figure:
    """An empty figure, as wide as one column of an ICML page or, with ``wide``, as both.

    Args:
        rows: The number of rows of panels, which sets the height.
        columns: The number of columns of panels.
        wide: Whether it is as wide as both columns; the style may override this.
        ratio: The height of a panel over its width.
    """
    sizes = figsizes.icml2024_full if is_wide(wide) else figsizes.icml2024_half
    size = sizes(nrows=rows, ncols=columns, height_to_width_ratio=ratio)["figure.figsize"]
    return Figure(figsize=size, layout="constrained")


def new_panels(count: int, ratio: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with panels beside each other, as wide as the text; in one column they are stacked.

    Args:
        count: The number of panels.
        ratio: The height of a panel over its width.
        options: Options of ``Figure.subplots``, such as ``sharey``.
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
    """Put ticks on a logarithmic axis at powers of ten only, at most ``count`` of them."""
    for name in "xy" if which == "both" else which:
        axis = axes.xaxis if name == "x" else axes.yaxis
        axis.set_major_locator(LogLocator(numticks=count))
        axis.set_minor_locator(LogLocator(subs=[], numticks=count))


def ratio_colours(step_ratios: object) -> dict[float, Any]:
    """A colour for each step ratio: blue below 1, yellow to dark red above; they differ in grey, too."""
    ratios = sorted(float(c) for c in np.unique(np.asarray(step_ratios)))
    stable = [c for c in ratios if c < 1]
    unstable = [c for c in ratios if c >= 1]
    blues = _shades(palette().below, len(stable) + 2)[2:]
    reds = _shades(palette().above, len(unstable) + 2)[2:]
    return dict(zip([*stable, *unstable], [*blues, *reds], strict=True))


def excess_colours() -> Colormap:
    """The colour map of the excess of a step ratio above 1, without the lightest shades."""
    shades = mpl.colormaps[palette().above](np.linspace(0.25, 1, 256))
    return LinearSegmentedColormap.from_list("excess", shades)


def depth_colours(depths: object) -> Mapping[int, Any]:
    """A colour for each depth, the same in every figure: evenly over the logarithm of the depths 2 to 20."""
    values = sorted(int(depth) for depth in np.unique(np.asarray(depths)))
    shades = mpl.colormaps[palette().depth]
    return {depth: shades(0.9 * np.log10(depth / 2)) for depth in values}


def tool_colours(count: int) -> list[Any]:
    """A colour for each of ``count`` tools; the first is that of ``UNSTABLE``, to stand out."""
    return [UNSTABLE, *_shades("crest", max(count - 1, 0))]


def _shades(name: str, count: int) -> list[Any]:
    """Evenly spaced colours of a colour map, without its ends; as seaborn takes them."""
    if name not in mpl.colormaps:
        # Imported here, because it takes a second and brings the colour maps that few figures need.
        import seaborn  # noqa: F401

    shades = mpl.colormaps[name](np.linspace(0, 1, count + 2)[1:-1])
    return [tuple(shade[:3]) for shade in shades]


def power_of_ten(value: float) -> str:
    """A number in TeX: ``$10^{-9}$`` for ``1e-9``, and with a leading factor for other numbers."""
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
    """Draw a figure, and write ``stem.png`` and further formats, each file completely or not at all.

    Args:
        draw: A function that draws the figure.
        stem: The path without a suffix.
        style: The width and the palette; None for the defaults.
        formats: Further formats, ``pdf`` or ``svg``; PNG is always written.
        source: The names of the artifacts that are drawn, for the metadata of the files.
        lineage: The lineage of the figure (:mod:`dmf_sharpness.artifacts.lineage`), for the metadata, too.

    Returns:
        The files written.
    """
    # The metadata contain no time and no version, which would differ from run to run.
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
        for suffix in dict.fromkeys(["png", *formats]):
            path = stem.with_name(f"{stem.name}.{suffix}")
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format=suffix, metadata=metadata[suffix])
            written.append(path)
            # The layout is the same in every format, and finding it takes half of the time.
            figure.set_layout_engine("none")
    return written
