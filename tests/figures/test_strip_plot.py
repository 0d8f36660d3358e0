"""Strip plots: where the numbers lie, and that nothing is outside of the plot."""

import itertools
import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmf_sharpness.claims.claim import sample_text
from dmf_sharpness.figures.strip_plot import axis_of, strip_plot

NUMBERS = st.lists(st.floats() | st.sampled_from([0.0, math.inf, -math.inf, math.nan]), max_size=30)


def row(values, control, tolerance):
    return {
        "sample": sample_text(values), "n": len(values), "tolerance": tolerance,
        "control": {"sample": sample_text(control), "n": len(control)},
    }  # fmt: skip


def dots(svg, name):
    (path,) = re.findall(rf'class="{name}">.*?<path d="([^"]*)"', svg)
    return [tuple(map(int, dot)) for dot in re.findall(r"M(-?\d+) (-?\d+)h0", path)]


@given(NUMBERS, NUMBERS, st.floats(-1e300, 1e300))
def test_every_number_has_a_dot_within_the_plot(values, control, tolerance):
    svg = strip_plot(row(values, control, tolerance))
    ElementTree.fromstring(svg)
    for name, numbers in (("measured", values), ("control", control)):
        found = dots(svg, name)
        assert len(found) == len(numbers)
        assert all(0 <= x <= 1000 and 0 <= y <= 100 for x, y in found)
    places = [float(place) for place in re.findall(r'<(?:text|line) x1?="([\d.]+)%"', svg)]
    assert all(0 <= place <= 100 for place in places)


@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=30))
def test_places_are_in_the_order_of_the_numbers(numbers):
    axis = axis_of(numbers)
    places = [axis.place(number) for number in sorted(numbers)]
    assert all(left <= right + 1e-9 for left, right in itertools.pairwise(places))


def test_a_decade_is_as_wide_on_both_sides_and_everywhere():
    axis = axis_of([-1e-3, -1e-1, 0.0, 1e-8, 1.0])
    steps = [axis.place(10.0 ** (k + 1)) - axis.place(10.0**k) for k in range(-8, 0)]
    steps += [axis.place(-(10.0**k)) - axis.place(-(10.0 ** (k + 1))) for k in (-3, -2)]
    assert steps == pytest.approx(len(steps) * [steps[0]])
    assert axis.place(-1e-3) < axis.place(0.0) < axis.place(1e-8)


def test_zeros_at_the_tolerance_zero_lie_below_its_line_and_what_is_beyond_above():
    svg = strip_plot(row([0.0] * 50, [1.0] * 20, 0.0))
    line = 10 * float(re.search(r'"tolerance"><line x1="([\d.]+)%', svg)[1])
    assert max(x for x, _ in dots(svg, "measured")) < line
    assert min(x for x, _ in dots(svg, "control")) > line


def test_a_large_sample_says_how_many_of_its_numbers_are_drawn():
    svg = strip_plot(row(range(1, 401), [1.0], 500.0))
    assert "measured: 400, of which 100 are drawn" in svg
    assert "control: 1<" in svg
