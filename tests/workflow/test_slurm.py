"""The pipeline on a real Slurm, through sbatch. Skipped where Slurm is not installed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.workflow.conftest import make_project
from tests.workflow.held import HeldRun, Moment
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


@contextmanager
def fresh_cluster(tmp_path: Path, silence: int) -> Iterator[Cluster]:
    """Three nodes, each of which is taken for dead after so many seconds of silence."""
    # Unix sockets have short paths; pytest's folders do not.
    folder = Path(f"/tmp/slurm-{os.getpid()}-{tmp_path.name[-8:]}")
    folder.mkdir()
    try:
        with cluster(folder, silence) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def submit(project: Path, slurm: Cluster, moment: Moment | None = None) -> HeldRun:
    profile = ["--workflow-profile", "profiles/slurm", *SMALL_CLUSTER]
    return HeldRun(project, moment, *profile, environment=slurm.environment)


def content(folder: Path) -> dict[str, bytes]:
    kinds = ("minimizers", "sharpness", "escape", "landscape")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for kind in kinds
        for path in sorted((folder / "results" / kind).iterdir())
    }


def test_results_are_those_of_a_local_run(tmp_path, finished):
    project = make_project(tmp_path / "project")
    # However busy the machine is, no node is taken for dead and its job submitted again.
    with fresh_cluster(tmp_path, silence=1800) as slurm:
        run = submit(project, slurm)
        assert run.ended() == 0, run.said
    # One job per experiment; what takes seconds ran where Snakemake runs.
    assert run.said.count("has been submitted with SLURM jobid") == 4, run.said
    local, _ = finished
    assert content(project) == content(local)
    assert (project / "results/verdict.txt").exists()


def test_a_node_that_dies_costs_a_retry_and_nothing_else(tmp_path, finished):
    project = make_project(tmp_path / "project")
    with fresh_cluster(tmp_path, silence=30) as slurm:
        run = submit(project, slurm, Moment("simulate_escape", "open .yaml"))
        assert run.reaches(), run.said
        busy = slurm.ask("squeue", "-h", "-t", "R", "-o", "%N").split()
        slurm.kill_node(busy[0])
        run.let_go()  # if it is on another node
        assert run.ended() == 0, run.said
    local, _ = finished
    assert content(project) == content(local)
