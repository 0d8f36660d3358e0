"""Killed anywhere, the same command finishes the work with the same result.

Four kills by default; DMF_KILLS=50 makes 50. Ctrl-C ends a run at once, in silence, and costs no more.
"""

import os
import random
import shutil
from pathlib import Path

import pytest

from tests.workflow.conftest import make_project
from tests.workflow.held import HeldRun, Moment, has_ended, wait_until

pytestmark = pytest.mark.pipeline

KILLS = int(os.environ.get("DMF_KILLS", "4"))
OUTPUTS = {
    "generate_minimizers": "results/minimizers/scalar.safetensors",
    "evaluate_sharpness": "results/sharpness/scalar.parquet",
    "simulate_escape": "results/escape/scalar.parquet",
    "map_landscape": "results/landscape/scalar.safetensors",
    "judge_claims": "results/claims.json",
    "render_figure": "figures/exactness.png",
    "render_report": "results/report.html",
    "check_verdict": "results/verdict.txt",
}
"""The scripts, and a file that each writes."""
EVENTS = (
    "shell",  # the shell of the job has started
    'before "$@"',  # it is about to start the script
    "start",  # Python starts, and has not read its command line yet
    "import argparse",  # the first import of our own
    "import pandas.core",  # in the middle of a long import, which most scripts need for their last words
    "open .yaml",  # the first input of a stage
    "open .json",  # the first input of the others
)
"""Moments in a job, in their order."""


def written(folder: Path) -> dict[str, bytes]:
    """What a run leaves, but for the report, which has times and versions."""
    files = [p for p in (folder / "results").rglob("*") if p.is_file()]
    kept = [p for p in files if p.name != "report.html"]
    kept += (folder / "figures").iterdir()
    # A killed job may leave a temporary file, which is hidden and which nothing reads.
    return {str(p.relative_to(folder)): p.read_bytes() for p in kept if p.name[0] != "."}


def test_killed_anywhere_the_same_command_finishes(finished, tmp_path):
    undisturbed = written(finished[0])
    rng = random.Random(20250930)
    # In a job, or in the plan of the first ones.
    moments = [Moment(script, event) for script in OUTPUTS for event in EVENTS]
    moments += [Moment("snakemake", "import dmf_sharpness.experiments.experiment")] * len(EVENTS)
    killed, projects = 0, 0
    while killed < KILLS:
        moment = rng.choice(moments)
        # From nothing, or from where the job that is killed is the first one to do.
        if projects % 4 == 3 or moment.word not in OUTPUTS:
            project = make_project(tmp_path / str(projects))
        else:
            project = tmp_path / str(projects)
            shutil.copytree(finished[0], project, copy_function=shutil.copy2)
            (project / OUTPUTS[moment.word]).unlink()
        projects += 1
        orphaned = []
        while True:
            run = HeldRun(project, moment if killed < KILLS else None)
            if not run.reaches():  # the moment did not come in what was left to do
                break
            orphaned.append(run.held_process())
            run.kill(jobs_too=rng.random() < 0.7)
            killed += 1
            run.let_go()
            moment = rng.choice(moments)
        assert run.ended() == 0, f"project {projects}, {killed} kills:\n{run.said}"
        for orphan in orphaned:
            wait_until(lambda orphan=orphan: has_ended(orphan), "the end of an orphan")
        assert written(project) == undisturbed, f"project {projects}, {killed} kills"
        print(f"{killed} kills in {projects} projects: all recovered", flush=True)


INTERRUPTED = [
    *(Moment("evaluate_sharpness", event) for event in EVENTS[:-1]),
    Moment("evaluate_sharpness", "import torch"),
    Moment("generate_minimizers", "open .yaml"),
    Moment("simulate_escape", "import numpy"),
    Moment("map_landscape", "start"),
    Moment("judge_claims", "import pandas.core"),
    Moment("render_figure", "import matplotlib.figure"),
    Moment("render_report", "open claims.json"),
    Moment("check_verdict", "start"),
    Moment("check_verdict", "open claims.json"),
]


@pytest.mark.parametrize("moment", INTERRUPTED, ids=str)
def test_ctrl_c_ends_a_job_in_silence_at_any_moment_and_the_same_command_finishes(
    finished, replica, moment
):
    output = OUTPUTS[moment.word]
    expected = (replica / output).read_bytes()
    (replica / output).unlink()
    for log in replica.glob("logs/**/*.log"):
        log.unlink()
    run = HeldRun(replica, moment, output)
    assert run.reaches(), run.said
    job = run.held_process()
    run.interrupt()
    assert run.ended() != 0
    wait_until(lambda: has_ended(job), "the end of the job")
    assert "Traceback" not in run.said
    logs = [log.read_text(encoding="utf-8") for log in replica.glob("logs/**/*.log")]
    assert "".join(logs) == "" or moment.event.startswith(("open", "import pandas"))
    assert not any(word in log for log in logs for word in ("Traceback", "Error", "unbound"))
    again = HeldRun(replica, None, output)
    assert again.ended() == 0, again.said
    if output != "results/report.html":  # which says when it was written
        assert (replica / output).read_bytes() == expected
    assert written(replica) == written(finished[0]) or output == "results/verdict.txt"


def test_ctrl_c_before_the_first_job_costs_nothing(finished, tmp_path):
    project = make_project(tmp_path / "project")
    run = HeldRun(project, Moment("generate_minimizers", "start"))
    assert run.reaches(), run.said
    run.interrupt()
    assert run.ended() != 0
    assert "Traceback" not in run.said
    again = HeldRun(project)
    assert again.ended() == 0, again.said
    assert written(project) == written(finished[0])
