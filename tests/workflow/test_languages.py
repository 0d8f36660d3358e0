"""Locales that lack the characters we write: the same results, words and exit status as in any other.

Where the system has no such locale, Python reads and writes as in the one named C: what counts is that
a place cannot encode ``≤``, and PYTHONIOENCODING and PYTHONUTF8 make such places everywhere.
"""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, SMOKE

pytestmark = pytest.mark.pipeline

PLACES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1", "LC_ALL": "en_US.ISO-8859-1"},
}
ELSEWHERE = ("LC_", "LANG", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONCOERCECLOCALE")


def environment(project: Path, place: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ELSEWHERE)}
    return kept | {"LANG": "C.UTF-8", "PYTHONPATH": str(project / "src")} | place


def ended(project: Path, place: dict[str, str], *command: str) -> subprocess.CompletedProcess:
    """What came of a Python command in a place, both outputs as bytes."""
    return subprocess.run(
        [sys.executable, *command], cwd=project, env=environment(project, place), capture_output=True
    )  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_the_pipeline_ends_with_the_same_verdict(replica, place):
    verdict = replica / "results/verdict.txt"
    expected = verdict.read_bytes()
    assert "≤" in expected.decode()
    verdict.unlink()
    run = ended(replica, PLACES[place], "-m", "snakemake")
    assert run.returncode == 0, run.stderr
    assert verdict.read_bytes() == expected


@pytest.mark.parametrize("place", PLACES)
def test_scripts_say_the_same(finished, place):
    project, _ = finished
    for command in (
        ["workflow/scripts/check_verdict.py", "results/claims.json"],
        ["tools/plan.py", "config/config.yaml", "--left"],
        ["tools/plan.py", "config/config.yaml"],
    ):
        here, there = ended(project, {}, *command), ended(project, PLACES[place], *command)
        assert (there.returncode, b"Traceback" in there.stderr) == (0, False), there.stderr
        said, again = (run.stdout.decode("utf-8").splitlines() for run in (here, there))
        # A plan says in how many seconds it was made.
        assert again[1:] == said[1:]
        assert not "".join(said).isascii()


@pytest.mark.parametrize("place", PLACES)
def test_an_error_is_one_line(project, place):
    path = project / "config/experiments/matrix.yaml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("seed: 3", "seed: λ≤"), encoding="utf-8"
    )
    run = ended(
        project,
        PLACES[place],
        "workflow/scripts/generate_minimizers.py",
        str(path),
        "m.safetensors",
    )
    assert run.returncode == 2
    (line,) = run.stderr.decode("utf-8").splitlines()
    assert line.startswith(f"error: {path}: seed: expected a value of type integer, got 'λ≤'")


@pytest.mark.parametrize("place", PLACES)
def test_files_in_a_folder_with_another_name_are_read_and_written_or_refused(
    finished, place, tmp_path
):
    project, _ = finished
    folder = tmp_path / "Größe λ"
    folder.mkdir()
    shutil.copy(SMOKE / "experiments/matrix.yaml", folder)
    experiment, made, table, ledger, figure = (
        str(folder / name) for name in ("matrix.yaml", "m.safetensors", "s.parquet", "c.json", "f")
    )
    for script, *arguments in (
        ("generate_minimizers", experiment, made),
        ("evaluate_sharpness", experiment, made, table),
        ("judge_claims", ledger, "--sharpness", table),
        ("render_figure", "exactness", figure, "--sharpness", table, "--formats", "pdf", "svg"),
    ):
        run = ended(project, PLACES[place], f"workflow/scripts/{script}.py", *arguments)
        assert b"Traceback" not in run.stderr, run.stderr.decode()
        if place != "C":
            assert run.returncode == 0, run.stderr.decode()
        elif run.returncode:
            (line,) = [line for line in run.stderr.decode().splitlines() if "error: " in line]
            assert "UTF-8" in line or "utf-8" in line


def test_a_terminal_shows_a_question_mark_for_what_it_does_not_have(finished):
    project, _ = finished
    ours, theirs = pty.openpty()
    command = [sys.executable, "workflow/scripts/check_verdict.py", "results/claims.json"]
    with subprocess.Popen(
        command, cwd=project, env=environment(project, PLACES["ASCII"]), stdout=theirs,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # of a terminal that nobody writes to any more
            pass
    os.close(ours)
    assert process.returncode == 0
    heading = said.decode("ascii").splitlines()[0]
    assert heading.split() == ["claim", "value", "?", "n", "of", "control", "what", "is", "claimed"]


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_standard_output_is_one_line(finished, buffered):
    project, _ = finished
    options = [] if buffered else ["-u"]
    command = [sys.executable, *options, "workflow/scripts/check_verdict.py", "results/claims.json"]
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(
            command,
            cwd=project,
            env=environment(project, {"PYTHONUNBUFFERED": ""}),
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert run.returncode == 2
    assert run.stderr.decode().splitlines() == [
        "error: standard output: expected to be able to write it, got: No space left on device"
    ]


def test_a_reader_who_leaves_early_is_no_traceback(finished):
    project, _ = finished
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-u", "workflow/scripts/check_verdict.py", "results/claims.json"]
    run = subprocess.run(
        command, cwd=project, env=environment(project, {}), stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert run.returncode == 2
    assert b"Traceback" not in run.stderr
    assert b"Exception ignored" not in run.stderr


def test_no_file_is_opened_in_the_encoding_of_the_place():
    """Whoever reads or writes a text says in which encoding."""
    folders = ("workflow/scripts", "tools", "benchmarks")
    scripts = [path for folder in folders for path in sorted((ROOT / folder).glob("*.py"))]
    offenders = []
    for path in [*sorted((ROOT / "src/dmf_sharpness").rglob("*.py")), *scripts]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            reads = any(word in line for word in (".read_text(", ".write_text(", "text=True"))
            if reads and "encoding=" not in line:
                offenders.append(f"{path.name}:{number}")
    assert offenders == []
