"""Killed at random moments, the same command finishes the work with the same result.

Four kills by default; DMF_KILLS=50 makes 50. Ctrl-C ends a run at once, in silence, and costs no more.
"""

import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.workflow.conftest import make_project

pytestmark = pytest.mark.pipeline

KILLS = int(os.environ.get("DMF_KILLS", "4"))


def start(project: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--conda-not-block-search-path-envvars"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def watched(process: subprocess.Popen) -> "queue.SimpleQueue[str | None]":
    """What a process says, line by line, and None at its end."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        with process.stdout as said:  # until the last of the orphans has ended, too
            for line in said:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def wait_for_jobs(lines: "queue.SimpleQueue[str | None]", count: int) -> str | None:
    """Wait until so many more jobs have finished; all that was said if the process ended before."""
    said = []
    while count > 0:
        line = lines.get(timeout=600)
        if line is None:
            return "".join(said)
        said.append(line)
        count -= line.startswith("Finished jobid")
    return None


def kill(process: subprocess.Popen, jobs_too: bool) -> None:
    """SIGKILL to the pipeline, and to its jobs or not: orphans then go on writing."""
    family = psutil.Process(process.pid).children(recursive=True) if jobs_too else []
    process.send_signal(signal.SIGKILL)
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def written(folder: Path) -> dict[str, bytes]:
    """What a run leaves, but for times and memory (benchmarks) and versions (report)."""
    skipped = {"benchmarks", "report.html"}
    files = [p for p in (folder / "results").rglob("*") if p.is_file()]
    kept = [p for p in files if not skipped & set(p.relative_to(folder / "results").parts)]
    kept += (folder / "figures").iterdir()
    # A killed job may leave a temporary file, which is hidden and which nothing reads.
    return {str(p.relative_to(folder)): p.read_bytes() for p in kept if p.name[0] != "."}


def test_killed_anywhere_the_same_command_finishes(finished, tmp_path):
    undisturbed = written(finished[0])
    rng = random.Random(20250930)
    killed, projects = 0, 0
    while killed < KILLS:
        project = make_project(tmp_path / str(projects))
        projects += 1
        said = None
        while said is None:
            process = start(project)
            lines = watched(process)
            if killed == KILLS:
                said = wait_for_jobs(lines, sys.maxsize)
                break
            # Anywhere in a job, in the plan of the next ones, or before the first of them.
            said = wait_for_jobs(lines, rng.randrange(4))
            if said is None:
                time.sleep(rng.uniform(0.0, 4.0))
                if process.poll() is None:
                    kill(process, jobs_too=rng.random() < 0.7)
                    killed += 1
        assert process.wait() == 0, f"project {projects}, {killed} kills:\n{said}"
        assert written(project) == undisturbed, f"project {projects}, {killed} kills"
        print(f"{killed} kills in {projects} projects: all recovered", flush=True)


def test_ctrl_c_ends_a_run_in_silence_and_the_same_command_finishes(finished, tmp_path):
    project = make_project(tmp_path / "project")
    for jobs in (0, 3):
        process = start(project)
        lines = watched(process)
        while "Execute" not in lines.get(timeout=60):
            continue
        assert wait_for_jobs(lines, jobs) is None
        time.sleep(1.0)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the pipeline and its jobs
        said = wait_for_jobs(lines, sys.maxsize)
        assert process.wait(timeout=60) != 0
        assert "Traceback" not in said
        assert not [log for log in project.glob("logs/**/*.log") if "Traceback" in log.read_text()]
    again = start(project)
    said, _ = again.communicate(timeout=600)
    assert again.returncode == 0, said
    assert written(project) == written(finished[0])
