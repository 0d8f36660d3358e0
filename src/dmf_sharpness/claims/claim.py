"""A claim: a statistic, a tolerance, a verdict and a negative control.

Every statistic is the largest of one number per minimizer or run, and a claim holds when it is at most the
tolerance and at least one was looked at. With each claim goes a negative control: the same judgement where
it must be false. A claim *stands* if it holds and its control fails; one whose control holds has not been
tested.

A claim is one function: it takes the rows of a table and yields what :func:`judged` makes of them, under
``@judged_from("sharpness")``, which says which table that is. There is nothing else to register.
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
"""The functions that judge, each with the name of its table, in the order of their modules."""


@dataclass(frozen=True)
class Control:
    """The same judgement where it must be false."""

    description: str
    value: float
    verdict: Verdict


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        id: ``C1`` … ``C6``, suffixed where a claim has several rows.
        origin: Who says so, the ``paper`` or we (``ours``); an ``extension`` is of another problem.
        claim: One sentence.
        statistic: The quantity of which ``value`` is the largest.
        value: The statistic.
        tolerance: The most that it may be.
        n: Sample size.
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
        """As :func:`stands`."""
        return stands(asdict(self))


def stands(row: Mapping[str, Any]) -> bool:
    """Whether the claim of a row of the ledger holds and its negative control fails."""
    return row["verdict"] == "holds" and row["control"]["verdict"] == "fails"


def judged_from(table: str) -> Callable[[Judge], Judge]:
    """Have a function judge the rows of a table.

    Args:
        table: ``sharpness``, ``bottleneck``, ``escape``, or ``studies/<name>``.
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
    """A row of the ledger: the largest of the values, and of the control's, against the tolerance.

    Args:
        name: The row's ``id``.
        origin: As in :class:`Claim`, and so are ``claim``, ``statistic`` and ``tolerance``.
        claim: One sentence.
        statistic: The quantity that ``values`` are of.
        tolerance: The most that they may be.
        rows: The rows of the table that the sample was taken from.
        values: A number for each member of the sample.
        control: The place where the claim must be false, in words.
        control_values: The same numbers there.
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
            # An empty control has not failed: then the claim has not been tested.
            verdict_on(control_values, tolerance) if len(control_values) else "holds",
        ),
        artifacts=artifacts_of(rows),
    )


def verdict_on(values: pd.Series, tolerance: float) -> Verdict:
    """``holds`` if there are values, none is NaN, and the largest is within tolerance."""
    return "holds" if len(values) and bool((values <= tolerance).all()) else "fails"


def experiments_of(rows: pd.DataFrame) -> str:
    """The experiments of a sample, replicas (``<name>.r<number>``) under the name they share."""
    return ", ".join(sorted({name.partition(".")[0] for name in rows.experiment.unique()}))


def artifacts_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """The files that rows of tables were read from; none for tables made in memory."""
    return tuple(sorted(rows.artifact.unique())) if "artifact" in rows else ()


def _largest(values: pd.Series) -> float:
    return float(values.max(skipna=False)) if len(values) else float("nan")
