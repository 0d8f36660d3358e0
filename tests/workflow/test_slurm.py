"""The pipeline on a real Slurm, through sbatch. Skipped where Slurm is not installed."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workflow.conftest import make_project
from tests.workflow.slurm_cluster import Cluster, cluster

DAEMONS = ("slurmctld", "slurmd", "munged", "sbatch")
MISSING = [name for name in DAEMONS if shutil.which(name) is None]

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING), reason=f"needs a Slurm on this machine: no {MISSING}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to start Slurm's daemons"),
]

# What a cluster of one machine without accounting needs on top of the shipped profile.
SMALL_CLUSTER = [
    "--slurm-status-command", "squeue",
    "--slurm-init-seconds-before-status-checks", "5",
    "--latency-wait", "10",
]  # fmt: skip


@pytest.fixture
def slurm(tmp_path):
    """A fresh cluster of three nodes."""
    # Unix sockets have short paths; pytest's folders do not.
    folder = Path(f"/tmp/slurm-{os.getpid()}-{tmp_path.name[-8:]}")
    folder.mkdir()
    try:
        with cluster(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def submit(project: Path, slurm: Cluster) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm",
            *SMALL_CLUSTER, "--conda-not-block-search-path-envvars",
        ],
        cwd=project,
        env=slurm.environment | {"PYTHONPATH": str(project / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    kinds = ("minimizers", "sharpness", "escape", "landscape")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for kind in kinds
        for path in sorted((folder / "results" / kind).iterdir())
    }


def test_results_are_those_of_a_local_run(slurm, tmp_path, finished):
    project = make_project(tmp_path / "project")
    run = submit(project, slurm)
    said, _ = run.communicate(timeout=280)
    assert run.returncode == 0, said
    # One job per experiment; what takes seconds ran where Snakemake runs.
    assert said.count("has been submitted with SLURM jobid") == 4, said
    local, _ = finished
    assert content(project) == content(local)
    assert (project / "results/verdict.txt").exists()


def test_a_node_that_dies_costs_a_retry_and_nothing_else(slurm, tmp_path, finished):
    project = make_project(tmp_path / "project")
    run = submit(project, slurm)
    for _ in range(100):
        busy = slurm.ask("squeue", "-h", "-t", "R", "-o", "%N").split()
        if busy:
            break
        time.sleep(0.3)
    time.sleep(1)
    slurm.kill_node(busy[0])
    said, _ = run.communicate(timeout=280)
    assert run.returncode == 0, said
    local, _ = finished
    assert content(project) == content(local)
