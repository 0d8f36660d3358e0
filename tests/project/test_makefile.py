"""make and its Python: the version comes first, and a .venv that is half-made or another's is made anew.

The Pythons are shell scripts that answer as their version would, for nothing is installed here.
"""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAKE = """\
#!/bin/sh
echo "{version} $*" >> "{log}"
case "$*" in
"-c import sys"*) echo {version} ;;
"-c import ensurepip, venv") exit {without} ;;
"-m venv"*)
    for folder in "$@"; do :; done
    case "$*" in *--clear*) rm -rf "$folder" ;; esac
    mkdir -p "$folder/bin"
    [ -e "$folder/bin/python" ] || cp "$0" "$folder/bin/python"
    ;;
"-m pip"*) ! [ -e "{fails}" ] ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


class Project:
    """A folder with the Makefile, and Pythons to choose from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a project"
        self.folder.mkdir()
        for name in ("Makefile", "pyproject.toml", "setup.py", "requirements.lock"):
            shutil.copy(ROOT / name, self.folder)
        self.pythons = folder / "some pythons"
        self.pythons.mkdir()
        self.log = folder / "log"
        self.pip_fails = folder / "no network"
        self.python("3.11.7", name="python3")

    def python(self, version: str, name: str = "", without: bool = False) -> Path:
        path = self.pythons / (name or f"python{version}")
        text = FAKE.format(
            version=version, log=self.log, without=int(without), fails=self.pip_fails
        )
        path.write_text(text)
        path.chmod(0o755)
        return path

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        self.log.write_text("")
        kept = {
            name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS")
        }
        path = f"{self.pythons}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["make", ".venv/ready", *arguments], cwd=self.folder,
            env=kept | {"PATH": path} | environment, capture_output=True, text=True,
        )  # fmt: skip

    @property
    def version(self) -> str | None:
        """Of the Python in a .venv that is whole."""
        if not (self.folder / ".venv/ready").exists():
            return None
        found = re.search(r"echo (3\.\d+\.\d+) ;;", (self.folder / ".venv/bin/python").read_text())
        return found and found[1]

    @property
    def installed(self) -> int:
        """How often pip was called in the last run."""
        return len(re.findall(r"-m pip install", self.log.read_text()))


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def complaint(run: subprocess.CompletedProcess) -> str:
    """The one line that is not make's own."""
    assert run.returncode != 0
    (line,) = [line for line in run.stderr.splitlines() if not line.startswith("make")]
    return line


def test_an_environment_is_made_and_kept(project):
    assert project.make().returncode == 0
    assert (project.version, project.installed) == ("3.11.7", 2)
    again = project.make()
    assert "is up to date" in again.stdout
    assert project.installed == 0


@pytest.mark.parametrize("version", ["3.10.13", "3.9.18", "3.6.15", "2.7.18"])
def test_an_old_python_is_refused_first_by_its_version(project, version):
    old = project.python(version)
    message = complaint(project.make(f"PYTHON={old}"))
    assert message == (
        f"PYTHON: expected Python 3.11 or newer, got {version}; choose another: make PYTHON=python3.12"
    )
    assert not (project.folder / ".venv").exists()
    assert project.installed == 0


def test_the_version_that_is_asked_for_is_the_one_of_the_package(project):
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = wanted["requires-python"].removeprefix(">=")
    message = complaint(project.make(f"PYTHON={project.python('3.10.13')}"))
    assert f"expected Python {oldest} or newer" in message
    assert project.make(f"PYTHON={project.python(f'{oldest}.0')}").returncode == 0


@pytest.mark.parametrize("version", ["3.11.0", "3.12.1", "3.13.0", "3.20.1"])
def test_every_newer_python_will_do(project, version):
    assert project.make(PYTHON=str(project.python(version))).returncode == 0
    assert project.version == version


def test_a_python_that_is_not_there_is_named(project):
    message = complaint(project.make("PYTHON=python-of-nowhere"))
    assert message.startswith("PYTHON: expected Python 3.11 or newer, got ")
    assert "python-of-nowhere: not found" in message or "No such file" in message


def test_a_python_without_venv_is_told_so(project):
    bare = project.python("3.11.2", without=True)
    message = complaint(project.make(f"PYTHON={bare}"))
    assert message.startswith("PYTHON: expected one with the modules venv and ensurepip, got ")
    assert not (project.folder / ".venv").exists()


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_an_environment_that_another_python_left_half_made_is_made_anew(project, by):
    """An earlier version installed first and failed; the .venv that it left was kept for good."""
    old = project.python("3.10.13")
    subprocess.run([old, "-m", "venv", project.folder / ".venv"], check=True)
    new = str(project.python("3.12.1"))
    chosen = {"PYTHON": new} if by == "environment" else {}
    run = project.make(*([f"PYTHON={new}"] if by == "argument" else []), **chosen)
    assert run.returncode == 0, run.stderr
    assert project.version == "3.12.1"


def test_an_interrupted_installation_is_made_anew(project):
    project.pip_fails.touch()
    assert project.make().returncode != 0
    assert project.version is None
    (project.folder / ".venv/rubbish").touch()
    project.pip_fails.unlink()
    assert project.make().returncode == 0
    assert project.version == "3.11.7"
    assert not (project.folder / ".venv/rubbish").exists()


def test_another_python_takes_the_place_of_the_first_one_and_then_stays(project):
    assert project.make().returncode == 0
    assert project.make(f"PYTHON={project.python('3.12.1')}").returncode == 0
    assert (project.version, project.installed) == ("3.12.1", 2)
    # Without a choice it stays, whatever python3 is by now.
    project.python("3.10.13", name="python3")
    assert project.make().returncode == 0
    assert (project.version, project.installed) == ("3.12.1", 0)
    assert project.make(f"PYTHON={project.pythons / 'python3'}").returncode != 0
    assert project.version == "3.12.1"


def test_new_requirements_are_installed_into_the_environment_that_is_there(project):
    assert project.make().returncode == 0
    lock, ready = project.folder / "requirements.lock", project.folder / ".venv/ready"
    os.utime(ready, (1, 1))
    project.python("3.10.13", name="python3")
    assert project.make().returncode == 0
    assert (project.version, project.installed) == ("3.11.7", 2)
    assert ready.stat().st_mtime >= lock.stat().st_mtime


def test_an_environment_whose_python_is_gone_is_made_anew(project):
    assert project.make().returncode == 0
    (project.folder / ".venv/bin/python").unlink()
    assert project.make().returncode == 0
    assert (project.version, project.installed) == ("3.11.7", 2)


def test_every_file_that_it_names_is_there():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:tools|benchmarks|workflow|config|tests)/[\w/.]+", text))
    assert {"tools/plan.py", "benchmarks/pipeline.py"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []
