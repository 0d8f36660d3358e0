"""One line that says how much of a run is done, what runs, and how long it may take."""

import io
import logging

import pytest

from dmf_sharpness.artifacts.progress_line import (
    PlannedJob,
    ProgressLine,
    in_words,
    planned_job,
    remaining_seconds,
)
from dmf_sharpness.artifacts.provenance import Account


class Terminal(io.StringIO):
    def isatty(self):
        return True


def said(handler, event, **details):
    record = logging.makeLogRecord({"levelno": logging.INFO, "event": event, **details})
    handler.handle(record)


JOBS = {
    1: PlannedJob("run_study", "phase a", 8.0),
    2: PlannedJob("run_study", "phase b", 4.0),
    3: PlannedJob("all", seconds=0.0),
}


def test_a_job_has_the_time_of_its_last_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "logs/run_study/phase/a.log"
    log.parent.mkdir(parents=True)
    relative = log.relative_to(tmp_path)
    assert planned_job("run_study", relative) == PlannedJob("run_study", "phase a", None)
    log.write_text(f"{Account(3.5, 2.0, 100)}; Python 3.11\n")
    assert planned_job("run_study", relative) == PlannedJob("run_study", "phase a", 3.5)
    assert str(planned_job("all", None)) == "all"


def test_what_runs_counts_for_the_rest_and_no_job_is_split():
    waiting, running = [JOBS[2]], {JOBS[1]: 5.0}
    assert remaining_seconds(waiting, running, cores=1) == 4 + 3
    assert remaining_seconds(waiting, running, cores=4) == 4
    assert remaining_seconds([], {JOBS[1]: 50.0}, cores=1) == 0


def test_an_unknown_time_is_the_median_of_the_rule_or_makes_the_sum_unknown():
    known = [PlannedJob("run_study", str(k), float(k)) for k in (1, 2, 6)]
    assert remaining_seconds([*known, PlannedJob("run_study", "new")], {}, cores=1) == 9 + 2
    assert remaining_seconds([*known, PlannedJob("render_figure", "new")], {}, cores=1) is None
    assert in_words(None) == "time left: unknown"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "a few seconds left"), (61, "about 60 s left"), (100, "about 2 min left")],
)
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words


def test_in_a_terminal_one_line_is_rewritten_and_errors_have_room():
    stream = Terminal()
    handler = ProgressLine(JOBS, 1, stream)
    said(handler, "job_started", jobs=[1])
    assert stream.getvalue().endswith(
        "\r\x1b[2K0 of 3 jobs done, about 10 s left; now: run_study phase a"
    )
    handler.handle(logging.makeLogRecord({"levelno": logging.ERROR}))
    assert stream.getvalue().endswith("\r\x1b[2K")
    said(handler, "job_finished", job_id=1)
    assert stream.getvalue().endswith("\r\x1b[2K1 of 3 jobs done, a few seconds left")
    for number in (2, 3):
        said(handler, "job_started", jobs=[number])
        said(handler, "job_finished", job_id=number)
    assert stream.getvalue().endswith("\r\x1b[2K")
    assert "\n" not in stream.getvalue()


def test_elsewhere_there_is_a_line_at_the_start_and_one_at_the_end():
    stream = io.StringIO()
    handler = ProgressLine(JOBS, 1, stream)
    for number in JOBS:
        said(handler, "job_started", jobs=[number])
        said(handler, "job_finished", job_id=number)
        said(handler, "progress", done=number)
    first, last = stream.getvalue().splitlines()
    assert first == "0 of 3 jobs done, about 10 s left; now: run_study phase a"
    assert last == "3 of 3 jobs done, a few seconds left"
