"""A claim: a statistic, a tolerance, a verdict and a negative control.

Each minimizer or run gives one number, and the statistic is the largest of these numbers. A claim *holds* if
there is at least one number and the statistic is at most the tolerance. Each claim has a negative control:
the same numbers where the claim must be false. The control *fails* if at least nine tenths of its numbers
exceed the tolerance, so that a few bad cases are not enough. A claim *stands* if it holds and its control
fails. If the control does not fail, the judgement could not have failed, and the claim has not been tested.

A claim is one function. It takes the rows of a table, yields the results of :func:`judged`, and is decorated
with ``@judged_from("sharpness")``, which names the table. Nothing else has to be registered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    Judge = Callable[[pd.DataFrame], Iterator["Claim"]]

Verdict = Literal["holds", "fails"]
Origin = Literal["paper", "ours", "extension"]

CONTROL_SHARE = 0.9
"""A control fails if at least this share of its sample exceeds the tolerance."""

SAMPLE_SIZE = 100
"""The ledger keeps at most so many numbers of a sample, for the report to draw."""

PROBLEM = ("experiment", "network", "problem")
"""These columns identify the problem of a row: a target, or data, together with the widths of a network."""

JUDGES: list[tuple[str, Judge]] = []
"""This list holds every function that judges, with the name of its table, in the order of definition."""


@dataclass(frozen=True)
class Control:
    """A negative control: the same numbers where the claim must be false.

    Attributes:
        description: The place where the claim must be false, in words.
        value: The median of the numbers.
        share: The share of the numbers that exceed the tolerance.
        n: The sample size.
        verdict: ``fails`` if ``share`` is at least :data:`CONTROL_SHARE`, as it must be.
        sample: The numbers, see :func:`sample_text`.
    """

    description: str
    value: float
    share: float
    n: int
    verdict: Verdict
    sample: str = ""


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        id: ``C1`` to ``C6`` or ``E``, with a suffix if there are several rows.
        origin: Whose claim it is: ``paper``, ``ours``, or ``extension`` for one on another problem.
        claim: The claim in one sentence.
        statistic: The quantity whose largest value is ``value``.
        value: The statistic.
        tolerance: The largest value at which the claim holds.
        n: The sample size.
        problems: The number of different problems in the sample, of targets together with widths. Minimizers
            and runs of one problem have the target in common, those of different problems nothing.
        experiment: The experiments that the sample comes from.
        verdict: ``holds`` or ``fails``.
        control: The negative control, whose verdict must be ``fails``.
        artifacts: The files that the sample was read from.
        sample: The numbers themselves, see :func:`sample_text`.
    """

    id: str
    origin: Origin
    claim: str
    statistic: str
    value: float
    tolerance: float
    n: int
    problems: int
    experiment: str
    verdict: Verdict
    control: Control
    artifacts: tuple[str, ...] = ()
    sample: str = ""

    @property
    def stands(self) -> bool:
        """Whether the claim holds and its negative control fails."""
        return stands(asdict(self))


def stands(row: Mapping[str, Any]) -> bool:
    """Whether the claim of a row of the ledger holds and its negative control fails."""
    return row["verdict"] == "holds" and row["control"]["verdict"] == "fails"


def judged_from(table: str) -> Callable[[Judge], Judge]:
    """A decorator that registers a function which judges the rows of a table.

    Args:
        table: The name of the table: ``sharpness``, ``bottleneck``, ``escape``, or ``studies/<name>``.
    """

    def register(judge: Judge) -> Judge:
        JUDGES.append((table, judge))
        return judge

    return register


def judged(
    name: str,
    *,
    origin: Origin,
    claim: str,
    statistic: str,
    tolerance: float,
    rows: pd.DataFrame,
    values: pd.Series,
    control: str,
    control_values: pd.Series,
) -> Claim:
    """A row of the ledger: some values and those of the control, against the tolerance.

    Args:
        name: The row's ``id``.
        origin: ``paper``, ``ours`` or ``extension``, see :class:`Claim`.
        claim: The claim in one sentence.
        statistic: The quantity that ``values`` are, in words.
        tolerance: The largest value at which the claim holds.
        rows: The rows of the table that the sample was taken from.
        values: A number for each member of the sample.
        control: A description of the place where the claim must be false.
        control_values: The same quantity there.
    """
    return Claim(
        id=name,
        origin=origin,
        claim=claim,
        statistic=statistic,
        value=_largest(values),
        tolerance=tolerance,
        n=len(rows),
        problems=problems_of(rows),
        experiment=experiments_of(rows),
        verdict=verdict_on(values, tolerance),
        control=control_on(control, control_values, tolerance),
        artifacts=artifacts_of(rows),
        sample=sample_text(values),
    )


def control_on(description: str, values: pd.Series, tolerance: float) -> Control:
    """The control with some values. One without values has not failed; NaN does not exceed the tolerance."""
    share = float((values > tolerance).mean()) if len(values) else 0.0
    known = values.astype(float).dropna()
    return Control(
        description=description,
        value=float(known.median()) if len(known) else math.nan,
        share=share,
        n=len(values),
        verdict="fails" if share >= CONTROL_SHARE else "holds",
        sample=sample_text(values),
    )


def verdict_on(values: pd.Series, tolerance: float) -> Verdict:
    """``holds`` if there is a value, none is NaN, and the largest is at most the tolerance."""
    return "holds" if len(values) and bool((values <= tolerance).all()) else "fails"


def sample_text(values: Iterable[float]) -> str:
    """The numbers of a sample in ascending order, to three digits, NaN last, with spaces between them.

    Of more than :data:`SAMPLE_SIZE` numbers it has those at so many evenly spaced ranks. Each of them stands
    for equally many, and the smallest and the largest are among them.

    >>> sample_text([2, float("nan"), 1 / 3, float("inf"), -1])
    '-1 0.333 2 inf nan'
    """
    ordered = sorted(map(float, values), key=lambda value: (math.isnan(value), value))
    if len(ordered) > SAMPLE_SIZE:
        last = len(ordered) - 1
        ordered = [ordered[round(i * last / (SAMPLE_SIZE - 1))] for i in range(SAMPLE_SIZE)]
    return " ".join(f"{value + 0.0:.3g}" for value in ordered)  # no −0


def experiments_of(rows: pd.DataFrame) -> str:
    """The names of the experiments of a sample; a replica ``<name>.r<number>`` counts as ``<name>``."""
    return ", ".join(sorted({name.partition(".")[0] for name in rows.experiment.unique()}))


def problems_of(rows: pd.DataFrame) -> int:
    """The number of different problems of a sample."""
    return len(rows[list(PROBLEM)].drop_duplicates())


def artifacts_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """The files that the rows were read from; none for a table that was made in memory."""
    return tuple(sorted(rows.artifact.unique())) if "artifact" in rows else ()


def _largest(values: pd.Series) -> float:
    return float(values.max(skipna=False)) if len(values) else float("nan")
