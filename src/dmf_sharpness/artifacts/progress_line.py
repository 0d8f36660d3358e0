"""One line about a run of the pipeline: how much is done, what runs, how long it may take.

In a terminal the line is rewritten in place. Elsewhere a new one comes now and then. The times are those
of earlier jobs, from the last lines of their logs; without these the time is said to be unknown.
"""

import logging
import shutil
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from dmf_sharpness.artifacts.provenance import read_account

SECONDS_BETWEEN_LINES = 30.0
"""Where lines are not rewritten, they come at most this often."""
LEAST_SHARE = 0.8
"""A time is given if so many of the jobs to do have a known or a likely time."""


@dataclass(frozen=True)
class PlannedJob:
    """A job that is to be run.

    Attributes:
        rule: The name of its rule.
        name: Its name among the jobs of the rule, such as an experiment; may be empty.
        seconds: The wall-clock time of the last one; None if it is unknown.
    """

    rule: str
    name: str = ""
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.rule} {self.name}".strip()


def planned_job(rule: str, log: Path | None) -> PlannedJob:
    """A job with the time of its last run.

    Args:
        rule: The name of its rule.
        log: Its log, ``logs/<rule>.log`` or ``logs/<rule>/…/<job>.log``; None for a job that runs nothing.
    """
    if log is None:
        return PlannedJob(rule, seconds=0.0)
    account = read_account(log)
    name = " ".join(log.with_suffix("").parts[2:])
    return PlannedJob(rule, name, account.seconds if account else None)


def remaining_seconds(
    waiting: Sequence[PlannedJob], running: Mapping[PlannedJob, float], cores: int
) -> float | None:
    """The time that jobs may still take; None if too many of their times are unknown.

    A job whose time is unknown is taken to last as long as the median of its rule.

    Args:
        waiting: The jobs that have not begun.
        running: The jobs that run, and for how many seconds each has run.
        cores: The number of jobs that run side by side.
    """
    jobs = [*waiting, *running]
    known: dict[str, list[float]] = {}
    for job in jobs:
        if job.seconds is not None:
            known.setdefault(job.rule, []).append(job.seconds)
    likely = {rule: statistics.median(seconds) for rule, seconds in known.items()}
    times = [likely.get(job.rule) if job.seconds is None else job.seconds for job in jobs]
    given = [seconds for seconds in times if seconds is not None]
    if len(given) < LEAST_SHARE * len(jobs):
        return None
    passed = [0.0] * len(waiting) + list(running.values())
    left = [
        max(0.0, seconds - gone)
        for seconds, gone in zip(times, passed, strict=True)
        if seconds is not None
    ]
    return max(sum(left) / cores, max(left, default=0.0))


def in_words(seconds: float | None) -> str:
    """A time that is left, in words as coarse as it is known."""
    if seconds is None:
        return "time left: unknown"
    if seconds < 5:
        return "a few seconds left"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} s left"
    return f"about {round(seconds / 60)} min left"


class ProgressLine(logging.Handler):
    """A handler of Snakemake's log records that keeps one line up to date.

    It writes nothing else: errors are for the handler that comes with Snakemake.

    Args:
        jobs: The jobs to run, by Snakemake's number of each.
        cores: The number of jobs that run side by side.
        stream: Where the line goes.
    """

    def __init__(self, jobs: Mapping[int, PlannedJob], cores: int, stream: TextIO) -> None:
        """See the class; a line is rewritten if the stream is a terminal."""
        super().__init__()
        self.stream, self.cores, self.total = stream, cores, len(jobs)
        self.rewrites = stream.isatty()
        self._waiting, self._running = dict(jobs), dict[int, tuple[PlannedJob, float]]()
        self._done, self._said = 0, -SECONDS_BETWEEN_LINES

    def emit(self, record: logging.LogRecord) -> None:
        """Take notice of jobs that begin and end; make room for an error."""
        event = str(getattr(record, "event", None))
        if event == "job_started":
            self._begin(getattr(record, "jobs", None) or ())
        elif event == "job_finished":
            self._done += self._running.pop(getattr(record, "job_id", -1), None) is not None
        elif record.levelno >= logging.WARNING:
            self.clear()
            return
        else:
            return
        self._show()

    def _begin(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            job = self._waiting.pop(number, None)
            if job is not None:
                self._running[number] = job, time.monotonic()

    def line(self) -> str:
        """The line as it is now."""
        now = time.monotonic()
        running = {job: now - began for job, began in self._running.values()}
        left = remaining_seconds(list(self._waiting.values()), running, self.cores)
        now_running = f"; now: {', '.join(map(str, running))}" if running else ""
        return f"{self._done} of {self.total} jobs done, {in_words(left)}{now_running}"

    def _show(self) -> None:
        finished = self._done == self.total
        if self.rewrites and finished:
            self.clear()
        elif self.rewrites:
            columns = shutil.get_terminal_size().columns
            self.stream.write(f"\r\x1b[2K{self.line()[: columns - 1]}")
        elif finished or time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self.stream.write(f"{self.line()}\n")
        self.stream.flush()

    def clear(self) -> None:
        """Make the line empty, for something else to be written there."""
        if self.rewrites:
            self.stream.write("\r\x1b[2K")
            self.stream.flush()
