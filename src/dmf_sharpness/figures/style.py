"""How all figures look: sizes and fonts of an ICML page, one colour for one quantity."""

import os
from collections.abc import Callable, Mapping
from math import floor, log10
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from tueplots import bundles, figsizes

from dmf_sharpness.artifacts import atomic_path

# Same bytes from run to run: no creation date, no random identifiers.
os.environ.setdefault("SOURCE_DATE_EPOCH", "0")

THEORY = "0.15"
"""Colour of what is predicted."""
STABLE = "#0072B2"
UNSTABLE = "#D55E00"
OTHER = "0.65"
"""Colour of what is there for comparison."""
ROUNDING = 1e-10
"""Imbalance up to which minimizers are drawn as balanced."""
FORMATS = ("pdf", "png")

SETTINGS: dict[str, Any] = {
    **bundles.icml2024(usetex=False),
    "font.family": "serif",
    "font.serif": ["STIXGeneral"],
    "mathtext.fontset": "stix",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.0,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
}


def new_figure(rows: int = 1, columns: int = 1, wide: bool = False, ratio: float = 0.72) -> Figure:
    """An empty figure, one column of an ICML page across or (``wide``) both.

    Args:
        rows: Rows of panels, which set the height.
        columns: Columns of panels.
        wide: Across both columns.
        ratio: Height of a panel over its width.
    """
    sizes = figsizes.icml2024_full if wide else figsizes.icml2024_half
    size = sizes(nrows=rows, ncols=columns, height_to_width_ratio=ratio)["figure.figsize"]
    return Figure(figsize=size, layout="constrained")


def ratio_colours(step_ratios: object) -> dict[float, Any]:
    """A colour for each step ratio: blues below 1, yellow to dark red above, apart in grey too."""
    ratios = sorted(float(c) for c in np.unique(np.asarray(step_ratios)))
    stable = [c for c in ratios if c < 1]
    unstable = [c for c in ratios if c >= 1]
    blues = sns.color_palette("Blues", len(stable) + 2)[2:]
    reds = sns.color_palette("YlOrRd", len(unstable) + 2)[2:]
    return dict(zip([*stable, *unstable], [*blues, *reds], strict=True))


def depth_colours(depths: object) -> Mapping[int, Any]:
    """A colour for each depth, the same in every figure: viridis over the logarithm, 2 to 20."""
    values = sorted(int(depth) for depth in np.unique(np.asarray(depths)))
    return {depth: mpl.colormaps["viridis"](0.9 * np.log10(depth / 2)) for depth in values}


def tool_colours(count: int) -> list[Any]:
    """As many colours as there are tools to compare, dark for the first."""
    return [UNSTABLE, *sns.color_palette("crest", max(count - 1, 0))]


def power_of_ten(value: float) -> str:
    """``1e-9`` as ``$10^{-9}$``, other numbers with the leading factor."""
    exponent = floor(log10(value) + 1e-9)
    factor = value / 10**exponent
    lead = "" if abs(factor - 1) < 1e-6 else rf"{factor:.2g} \cdot "
    return rf"${lead}10^{{{exponent}}}$"


def render(draw: Callable[[], Figure], stem: Path) -> list[Path]:
    """Draw in the common style, and write ``stem.pdf`` and ``stem.png``, each whole or not at all."""
    written = []
    with mpl.rc_context(SETTINGS):  # type: ignore[arg-type]
        figure = draw()
        for suffix in FORMATS:
            path = stem.with_suffix(f".{suffix}")
            metadata = {"CreationDate": None} if suffix == "pdf" else {"Software": None}
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format=suffix, metadata=metadata)
            written.append(path)
    return written
