"""Killed at random moments, the same command finishes the work with the same result.

Two trials by default; DMF_KILLS=50 makes 50.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.workflow.conftest import make_project

pytestmark = pytest.mark.pipeline

KILLS = int(os.environ.get("DMF_KILLS", "2"))
RUN_SECONDS = 25.0
"""About what a run takes; kills fall anywhere in it."""


def start(project: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--conda-not-block-search-path-envvars"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


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
    process.stdout.close()


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
    for trial in range(KILLS):
        project = make_project(tmp_path / str(trial))
        # Two kills in a row on every third trial, the second one while recovering.
        for _ in range(2 if trial % 3 == 0 else 1):
            process = start(project)
            deadline = time.monotonic() + rng.uniform(0.5, RUN_SECONDS)
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            if process.poll() is None:
                kill(process, jobs_too=rng.random() < 0.7)
            else:
                process.communicate()
        again = start(project)
        said, _ = again.communicate(timeout=600)
        assert again.returncode == 0, f"trial {trial}:\n{said}"
        assert written(project) == undisturbed, f"trial {trial}"
