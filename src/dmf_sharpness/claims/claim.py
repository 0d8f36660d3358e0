"""A claim: a statistic, a tolerance, a verdict and a negative control.

Each minimizer or run gives one number, and the statistic is the largest of these numbers. A claim *holds* if
there is at least one number and the statistic is at most the tolerance. Each claim has a negative control:
the same judgement where the claim must be false. A claim *stands* if it holds and its control fails. If the
control holds too, the judgement could not have failed, and the claim has not been tested.

A claim is one function. It takes the rows of a table, yields the results of :func:`judged`, and is decorated
with ``@judged_from("sharpness")``, which names the table. Nothing else has to be registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    Judge = Callable[[pd.DataFrame], Iterator["Claim"]]

Verdict = Literal["holds", "fails"]
Origin = Literal["paper", "ours", "extension"]

JUDGES: list[tuple[str, Judge]] = []
"""This list holds every function that judges, with the name of its table, in the order of definition."""


@dataclass(frozen=True)
class Control:
    """A negative control: the same judgement where the claim must be false."""

    description: str
    value: float
    verdict: Verdict


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
        experiment: The experiments that the sample comes from.
        verdict: ``holds`` or ``fails``.
        control: The negative control, whose verdict must be ``fails``.
        artifacts: The files that the sample was read from.
    """

    id: str
    origin: Origin
    claim: str
    statistic: str
    value: float
    tolerance: float
    n: int
    experiment: str
    verdict: Verdict
    control: Control
    artifacts: tuple[str, ...] = ()

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
    """A row of the ledger: the largest of some values and of the control's, against the tolerance.

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
        experiment=experiments_of(rows),
        verdict=verdict_on(values, tolerance),
        control=Control(
            control,
            _largest(control_values),
            # A control without values counts as held, because it has not failed and tests nothing.
            verdict_on(control_values, tolerance) if len(control_values) else "holds",
        ),
        artifacts=artifacts_of(rows),
    )


def verdict_on(values: pd.Series, tolerance: float) -> Verdict:
    """``holds`` if there is a value, none is NaN, and the largest is at most the tolerance."""
    return "holds" if len(values) and bool((values <= tolerance).all()) else "fails"


def experiments_of(rows: pd.DataFrame) -> str:
    """The names of the experiments of a sample; a replica ``<name>.r<number>`` counts as ``<name>``."""
    return ", ".join(sorted({name.partition(".")[0] for name in rows.experiment.unique()}))


def artifacts_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """The files that the rows were read from; none for a table that was made in memory."""
    return tuple(sorted(rows.artifact.unique())) if "artifact" in rows else ()


def _largest(values: pd.Series) -> float:
    return float(values.max(skipna=False)) if len(values) else float("nan")
