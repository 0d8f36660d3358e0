"""A full disk, a read-only folder, no permission: one line that says so, and what was there stays."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, jobs_of, run_in
from tests.workflow.held import LIMIT

pytestmark = pytest.mark.pipeline

GENERATE = "workflow/scripts/generate_minimizers.py"
MATRIX = "config/experiments/matrix.yaml"


def mount(*arguments: str) -> None:
    """Mount, or skip the test where that is not allowed."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A disk of so many kilobytes at ``folder``."""
    folder.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """``folder`` mounted on itself, read-only."""
    folder.mkdir(exist_ok=True)
    mount("--bind", str(folder), str(folder))
    try:
        mount("-o", "remount,ro,bind", str(folder))
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def complaint(run: subprocess.CompletedProcess) -> str:
    """The one line that says what is wrong."""
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    (line,) = [line for line in run.stderr.splitlines() if "expected to be able to write" in line]
    return line


def test_a_stage_on_a_full_disk_keeps_the_earlier_result(project):
    run = run_in(project)
    disk = project / "disk"
    with small_disk(disk, 64):
        run(GENERATE, MATRIX, "disk/m.safetensors")
        before = (disk / "m.safetensors").read_bytes()
        with suppress(OSError), (disk / "fill").open("wb", buffering=0) as fill:
            while True:
                fill.write(bytes(512))
        path = project / MATRIX
        path.write_text(path.read_text().replace("seed: 3", "seed: 4"))
        again = run(GENERATE, MATRIX, "disk/m.safetensors", check=False)
        assert complaint(again).startswith("error: disk/m.safetensors: ")
        assert "No space left on device" in complaint(again)
        assert (disk / "m.safetensors").read_bytes() == before
        # Nor does half a file lie about.
        assert sorted(path.name for path in disk.iterdir()) == ["fill", "m.safetensors"]


def test_the_pipeline_does_not_start_on_a_full_disk(project):
    with small_disk(project / "results", 64):
        run = run_in(project)("snakemake", check=False)
        assert run.returncode != 0
        assert "results: expected at least 50 MB free on the disk, got 0.1 MB" in run.stderr
        assert "Traceback" not in run.stderr
        assert jobs_of(run) == []


def test_the_pipeline_does_not_start_with_read_only_results(project):
    with read_only(project / "results"):
        run = run_in(project)("snakemake", check=False)
        assert complaint(run) == (
            "results: expected to be able to write there, got: Read-only file system"
        )
        assert jobs_of(run) == []


def test_without_permission_to_write_nothing_starts(project):
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0 and setpriv is None:
        pytest.skip("root may write anywhere, and there is no setpriv to take that away")
    # Root without the capability to override permissions is a user like others.
    alone = [setpriv, "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}

    def run(*command: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*alone, sys.executable, *command],
            cwd=project, env=environment, capture_output=True, text=True, timeout=LIMIT,
        )  # fmt: skip

    closed = project / "closed"
    closed.mkdir(mode=0o555)
    by_hand = run(GENERATE, MATRIX, "closed/m.safetensors")
    assert complaint(by_hand).endswith("Permission denied")
    project.chmod(0o555)
    try:
        whole = run("-m", "snakemake", "results/minimizers/matrix.safetensors")
    finally:
        project.chmod(0o755)
    assert whole.returncode != 0
    assert f"{project}: expected a folder that can be written to" in whole.stderr
    assert "Traceback" not in whole.stderr
