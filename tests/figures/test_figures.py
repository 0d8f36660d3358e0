"""Every figure, drawn from small fixed tables, looks as it did.

After a change that is meant, `python -m tests.figures.test_figures` draws the baseline anew, of all figures
or of those that it is given; look at it.
"""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.testing.compare import compare_images

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import catalog
from dmf_sharpness.figures import style
from dmf_sharpness.figures.captions import caption
from tests.figures.tables import tables

BASELINE = Path(__file__).parent / "baseline"
FIGURES = list(catalog.figures())
RESOLUTION = 70
TOLERANCE = 4.0
"""Root mean square over pixels of 0 to 255: other versions of the font renderer stay below it."""


def draw(figure: str, path: Path, look: style.Style) -> tuple[float, float]:
    """Draw a figure in low resolution; its size in inches."""
    with style.applied(look):
        drawn = import_module(f"dmf_sharpness.figures.{figure}").draw(tables())
        drawn.savefig(path, dpi=RESOLUTION, metadata={"Software": None})
        width, height = drawn.get_size_inches()
        return float(width), float(height)


def difference(figure: str, tmp_path: Path, look: style.Style) -> str | None:
    drawn = tmp_path / f"{figure}.png"
    draw(figure, drawn, look)
    return compare_images(str(BASELINE / f"{figure}.png"), str(drawn), tol=TOLERANCE)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_looks_as_before(figure, tmp_path):
    assert difference(figure, tmp_path, style.Style()) is None


def test_another_look_is_seen(tmp_path):
    """The negative control: other colours are a difference."""
    assert difference("flatness", tmp_path, style.Style(palette="grey")) is not None


@pytest.mark.parametrize("width", ["column", "text"])
@pytest.mark.parametrize("figure", ["flatness", "phase", "growth", "exactness"])
def test_all_figures_take_the_width_that_is_asked_for(figure, width, tmp_path):
    size = draw(figure, tmp_path / "x.png", style.Style(width=width))
    assert size[0] == {"column": 3.25, "text": 6.75}[width]


def lightness(colour: object) -> float:
    """Of the grey that a printer makes of it (Rec. 601)."""
    return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114)))


@pytest.mark.parametrize("palette", style.PALETTES)
def test_what_lies_side_by_side_is_told_apart_in_grey(palette):
    outcomes = style.PALETTES[palette].outcomes
    order = ["returned", "landed", "period_two", "bounded", "diverged"]
    greys = [lightness(outcomes[name]) for name in order]
    assert np.abs(np.diff(greys)).min() > 0.15
    with style.applied(style.Style(palette=palette)):
        depths = [lightness(c[:3]) for c in style.depth_colours([2, 3, 5, 10, 20]).values()]
        assert np.diff(depths).min() > 0.05
        stable, unstable, other = (
            lightness(c) for c in (style.STABLE, style.UNSTABLE, style.OTHER)
        )
    assert other - max(stable, unstable) > 0.1
    assert unstable - stable > 0.1


def test_the_bytes_do_not_change_from_run_to_run(tmp_path):
    module = import_module("dmf_sharpness.figures.boundary")
    for run in ("one", "two"):
        style.render(lambda: module.draw(tables()), tmp_path / run, formats=["pdf", "svg"])
    for suffix in ("pdf", "svg", "png"):
        one, two = ((tmp_path / f"{run}.{suffix}").read_bytes() for run in ("one", "two"))
        assert one == two


def test_a_caption_takes_its_numbers_from_the_ledger():
    rows = [
        {"id": f"C6.{name}", "value": value, "n": n, "problems": 5}
        for name, value, n in (("law", 0.034, 7), ("second_order", 1, 8))
    ]
    assert "is predicted to 0.034 of (4/3)(1 + |ã|)δ² at 7 minimizers" in caption("landing", rows)
    without = caption("landing", rows[1:])
    assert "is predicted to – of (4/3)(1 + |ã|)δ² at – minimizers" in without


@pytest.mark.parametrize("number", ["C6.law", "C6.law.vaule", "C6.law.value ", "", "value"])
def test_a_caption_with_another_number_is_refused(monkeypatch, number):
    made = catalog.FigureInputs(("escape",), caption=f"‖M‖^{{1−1/L}} is {{{number}}}.")
    monkeypatch.setattr(catalog, "figures", lambda: {"mine": made})
    with pytest.raises(UserError) as refused:
        caption("mine", [{"id": "C6.law", "value": 0.5, "n": 3, "problems": 2}])
    assert str(refused.value).endswith(
        f"such as {{C1.any.value}} or {{C1.any.n}}, got {{{number}}}"
    )


if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        draw(name, BASELINE / f"{name}.png", style.Style())
