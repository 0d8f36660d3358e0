import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.workflow.warm.running import warm_server

ROOT = Path(__file__).parents[2]
SMOKE = Path(__file__).parent / "smoke"

Run = Callable[..., subprocess.CompletedProcess]


def run_in(folder: Path, project: Path | None = None) -> Run:
    """A function that runs a command in ``folder``, of a project there or elsewhere.

    It and the jobs of a pipeline run in processes that start in milliseconds (:mod:`tests.workflow.warm`).
    """
    source = (project or folder) / "src"  # the copy's own package, so that a test may break it

    def run(*command: str, check: bool = True) -> subprocess.CompletedProcess:
        done = warm_server().run(folder, source, *command)
        if check and done.returncode:
            message = f"{command} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
            raise AssertionError(message)
        return done

    return run


def make_project(folder: Path) -> Path:
    """A copy of the workflow with the smoke configuration."""
    for name in ("workflow", "tools", "benchmarks", "profiles", "src"):
        shutil.copytree(ROOT / name, folder / name)  # with the compiled modules, which spare time
    shutil.copy(ROOT / "Snakefile", folder)
    shutil.copytree(SMOKE, folder / "config")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that has not run yet."""
    return make_project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """A project that has run once, and what the run said. Tests must not change it."""
    folder = make_project(tmp_path_factory.mktemp("finished") / "project")
    return folder, run_in(folder)("snakemake")


@pytest.fixture
def replica(finished, tmp_path: Path) -> Path:
    """A copy of the finished project, times of files kept, to be damaged at will."""
    folder, _ = finished
    shutil.copytree(folder, tmp_path / "project", copy_function=shutil.copy2)
    return tmp_path / "project"


def jobs_of(run: subprocess.CompletedProcess) -> Sequence[str]:
    """The rules of the jobs that a run of Snakemake executed."""
    lines = run.stderr.splitlines()
    return [
        line.split()[1].rstrip(":") for line in lines if line.startswith(("rule ", "localrule "))
    ]
