"""Strip plots of the samples of a claim, as SVG that takes its colours from the page around it.

The axis is logarithmic, and mirrored for negative numbers. Zero, infinity and NaN, which have no logarithm,
have places of their own on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARGIN, PLACE, LABEL = 5.0, 7.0, 11.0
"""The space on either side of a plot, the width of the place of zero or of another number without a
logarithm, and the least distance between two labels, in percent of the width of a plot."""
MOST_TICKS = 5
"""An axis has at most so many steps between labels at powers of ten."""
LANES = {"measured": 16, "control": 66}
"""The upper end of the title of each sample, in pixels; its dots are below."""
TITLE, DOTS, AXIS, HEIGHT = 19, 24, 116, 136
"""The heights of a title and of the dots below it, the place of the axis and the height of the plot."""
UP, ASIDE = (math.sqrt(5) - 1) / 2, math.sqrt(2)
"""The multiples of each modulo 1 are spread evenly, and independently of each other; they keep equal numbers
apart."""


PARTS = {-math.inf: "−∞", -1: "", 0: "0", 1: "", math.inf: "∞", math.nan: "NaN"}
"""The parts of an axis from left to right, with the labels of those that are the place of one number."""


@dataclass(frozen=True)
class Axis:
    """The places of numbers on an axis, in percent of its width.

    Attributes:
        left: The left end of every part that there is.
        decade: The width of a power of ten.
        negative: The first and the last exponent of the negative part; equal if there is none.
        positive: The same of the positive part.
    """

    left: Mapping[float, float]
    decade: float
    negative: tuple[int, int]
    positive: tuple[int, int]

    def place(self, number: float) -> float:
        """The place of a number."""
        part = _part(number)
        if part == 1:
            return self.left[part] + self.decade * (math.log10(number) - self.positive[0])
        if part == -1:
            return self.left[part] + self.decade * (self.negative[1] - math.log10(-number))
        return self.left[part] + PLACE / 2

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Places and labels of some powers of ten, and of the numbers with places of their own."""
        alone = {left + PLACE / 2: PARTS[part] for part, left in self.left.items() if PARTS[part]}
        yield from alone.items()
        decades = _length(self.negative) + _length(self.positive)
        step = next(
            step for step in (1, 2, 4, 5, 10, 20, 50, 100, 200) if decades <= MOST_TICKS * step
        )
        for sign in {-1, 1} & set(self.left):
            first, last = self.negative if sign < 0 else self.positive
            for exponent in range(math.ceil(first / step) * step, last + 1, step):
                tick = self.place(sign * 10.0**exponent)
                if all(abs(tick - other) >= LABEL for other in alone):
                    yield tick, _power(sign, exponent)


def axis_of(numbers: Sequence[float]) -> Axis:
    """The axis on which some numbers find their places."""
    found = set(map(_part, numbers))
    if -1 in found:
        found.add(0)  # the negative part and the positive one do not meet
    negative = _exponents([-x for x in numbers if _part(x) == -1])
    positive = _exponents([x for x in numbers if _part(x) == 1])
    decades = _length(negative) + _length(positive)
    alone = sum(bool(PARTS[part]) for part in found)
    decade = (100 - 2 * MARGIN - PLACE * alone) / max(decades, 1)
    width: dict[float, float] = {-1: decade * _length(negative), 1: decade * _length(positive)}
    left, end = {}, MARGIN
    for part in PARTS:
        if part in found:
            left[part] = end
            end += width.get(part, PLACE)
    return Axis(left, decade, negative, positive)


def _part(number: float) -> float:
    """The part of the axis that a number belongs to, as it is named in :data:`PARTS`."""
    if math.isnan(number):
        return math.nan  # this very object, because no two NaN are equal
    return number if number == 0 or math.isinf(number) else math.copysign(1, number)


def strip_plot(row: Mapping[str, Any]) -> str:
    """The sample of a row of the ledger and that of its control, against the tolerance.

    Args:
        row: A row of the ledger.

    Returns:
        An SVG element as wide as the place that it is put in. Its parts have the classes ``measured``,
        ``control``, ``tolerance`` and ``axis``, by which the page colours them.
    """
    samples = {"measured": row, "control": row["control"]}
    numbers = {name: [float(text) for text in of["sample"].split()] for name, of in samples.items()}
    tolerance = float(row["tolerance"])
    axis = axis_of([tolerance, *numbers["measured"], *numbers["control"]])
    # A sample of zeros is at the tolerance 0, and not beyond it.
    limit = axis.place(tolerance) + (PLACE / 2 if tolerance == 0 else 0)
    titles = {name: _title(name, of["n"], len(numbers[name])) for name, of in samples.items()}
    label = f"{titles['measured']}; {titles['control']}; tolerance {tolerance:.2g}"
    return "".join(
        [
            f'<svg class="strip" role="img" aria-label="{label}" width="100%" height="{HEIGHT}">',
            *_axis_marks(axis),
            f'<g class="tolerance"><line x1="{limit:.1f}%" x2="{limit:.1f}%" y1="14" y2="{AXIS}"/>',
            f'<text x="{limit:.1f}%" y="10" text-anchor="{_anchor(limit)}">tolerance</text></g>',
            *(_lane(name, titles[name], numbers[name], axis) for name in samples),
            "</svg>",
        ]
    )


def _lane(name: str, title: str, numbers: Sequence[float], axis: Axis) -> str:
    """The title and the dots of a sample; each dot is a line of no length with round ends.

    The inner SVG is stretched to the width of the plot, which leaves the dots round.
    """
    top = LANES[name]
    spread = [(i * UP) % 1 for i in range(len(numbers))]
    # In a place of its own a number may be spread sideways, too: its distance from the axis means nothing.
    aside = [
        0.0 if x and math.isfinite(x) else 0.8 * PLACE * ((i * ASIDE) % 1 - 0.5)
        for i, x in enumerate(numbers)
    ]
    dots = "".join(
        f"M{10 * (axis.place(number) + shift):.0f} {100 * height:.0f}h0"
        for number, shift, height in zip(numbers, aside, spread, strict=True)
    )
    return (
        f'<g class="{name}"><text x="0" y="{top + 10}">{title}</text>'
        f'<svg y="{top + TITLE}" width="100%" height="{DOTS}" viewBox="0 0 1000 100" '
        f'preserveAspectRatio="none"><path d="{dots}"/></svg></g>'
    )


def _axis_marks(axis: Axis) -> Iterator[str]:
    """The line of the axis, its ticks and labels."""
    yield '<g class="axis">'
    yield f'<line x1="0" x2="100%" y1="{AXIS}" y2="{AXIS}"/>'
    for place, label in axis.ticks():
        yield f'<line x1="{place:.1f}%" x2="{place:.1f}%" y1="{AXIS}" y2="{AXIS + 4}"/>'
        yield f'<text x="{place:.1f}%" y="{HEIGHT - 4}" text-anchor="middle">{label}</text>'
    yield "</g>"


def _title(name: str, n: int, drawn: int) -> str:
    return f"{name}: {n}" if n == drawn else f"{name}: {n}, of which {drawn} are drawn"


def _anchor(place: float) -> str:
    """The side of a place on which there is room for a text."""
    return "start" if place < 20 else "end" if place > 80 else "middle"


def _exponents(magnitudes: Sequence[float]) -> tuple[int, int]:
    """The powers of ten that some positive numbers lie between."""
    if not magnitudes:
        return 0, 0
    first = math.floor(math.log10(min(magnitudes)))
    last = math.ceil(math.log10(max(magnitudes)))
    return (first, last) if first < last else (first - 1, last + 1)


def _length(exponents: tuple[int, int]) -> int:
    return exponents[1] - exponents[0]


def _power(sign: int, exponent: int) -> str:
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{'−' if sign < 0 else ''}{'1' if exponent == 0 else f'10{digits}'}"
