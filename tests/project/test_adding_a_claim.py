"""``docs/adding_a_claim.md``, taken word by word in a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import yaml

from tests.workflow.conftest import ROOT, make_project
from tests.workflow.held import LIMIT

PAGE = (ROOT / "docs/adding_a_claim.md").read_text(encoding="utf-8")
NAME = "change_of_basis"


class Step(NamedTuple):
    """A block of code, and the line above it, which says where the code goes."""

    says: str
    language: str
    code: str


def steps() -> Iterator[Step]:
    blocks = re.findall(r"(\S[^\n]*)\n\n```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)
    return (Step(*block) for block in blocks)


def lists_with_more(text: str, more: str) -> str:
    """A configuration whose lists have further lines."""
    content = yaml.safe_load(text)
    for key, items in yaml.safe_load(more).items():
        content[key] += items
    return yaml.safe_dump(content)


def take(step: Step, project: Path) -> list[Path]:
    """Do what a step says; the files that it wrote."""
    if step.language == "sh":
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step.code],
            cwd=project, env=os.environ | {"PYTHONPATH": str(project / "src")},
            capture_output=True, text=True, timeout=LIMIT,
        )  # fmt: skip
        assert done.returncode == 0, f"{step.code}\n{done.stdout}\n{done.stderr}"
        return []
    *before, name = re.findall("`([^`]+)`", step.says.partition(", where")[0])
    path = project / name
    match step.says.split(maxsplit=1)[0]:
        case "A":
            assert not path.exists(), f"{name} is no new file"
            path.write_text(step.code, encoding="utf-8")
        case "At":
            path.write_text(f"{path.read_text(encoding='utf-8')}\n\n{step.code}", encoding="utf-8")
        case "Above":
            text = path.read_text(encoding="utf-8")
            assert text.count(f"\n{before[0]}") == 1
            path.write_text(text.replace(f"\n{before[0]}", f"\n{step.code}{before[0]}"))
        case "Further":
            path.write_text(lists_with_more(path.read_text(encoding="utf-8"), step.code))
        case other:
            raise AssertionError(f"the page says {other!r}, which this test does not know")
    return [path] if path.suffix == ".py" else []


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project on the smoke configuration, with the environment that the tests run in."""
    folder = make_project(tmp_path_factory.mktemp("page") / "project")
    for name in ("README.md", "Makefile", "pyproject.toml", "requirements.lock", "setup.py"):
        shutil.copy2(ROOT / name, folder)
    without = shutil.ignore_patterns("__pycache__")
    for name in ("tests/figures", "tests/experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=without)
    for path in (ROOT / "tests").glob("*.py"):
        shutil.copy2(path, folder / "tests")
    environment = folder / ".venv"
    environment.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        if (Path(sys.prefix) / name).exists():
            (environment / name).symlink_to(Path(sys.prefix) / name)
    (environment / "ready").touch()  # newer than the files it is made from: nothing to install
    return folder


@pytest.fixture(scope="module")
def written(project: Path) -> list[Path]:
    """The Python files that the page has one write, after all of its steps."""
    return [path for step in steps() for path in take(step, project)]


def test_the_page_says_where_every_block_goes():
    assert len(list(steps())) == PAGE.count("```") / 2 >= 9


def run(project: Path, *command: str | Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:]],
        cwd=project, env=os.environ | {"PYTHONPATH": str(project / "src")},
        capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.pipeline
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
class TestTaken:
    """What is there after the last step."""

    @pytest.fixture(autouse=True)
    def done(self, written: list[Path]) -> None:
        """The steps of the page are taken once."""

    def test_the_study_has_its_table(self, project):
        table = pd.read_parquet(project / f"results/studies/{NAME}/bases.parquet")
        assert len(table) == 2 * 2 * 6
        assert {"kind", "depth", "sharpness", "rotated", "stretched"} <= set(table.columns)

    def test_the_claim_is_in_the_ledger_and_stands(self, project):
        rows = {row["id"]: row for row in json.loads((project / "results/claims.json").read_text())}
        claim = rows["C1.rotated"]
        assert (claim["verdict"], claim["control"]["verdict"], claim["n"]) == ("holds", "fails", 24)
        assert claim["experiment"] == "bases"
        assert "C1.rotated" in (project / "results/claims.md").read_text(encoding="utf-8")
        assert "C1.sharpness" in rows  # with those that there were

    def test_the_claim_is_in_the_table_of_the_readme_with_its_figure(self, project):
        (row,) = [
            line
            for line in (project / "README.md").read_text(encoding="utf-8").splitlines()
            if line.startswith("| **C1.rotated**")
        ]
        assert f"[{NAME}](figures/{NAME}.png)" in row

    def test_the_figure_is_drawn_in_every_format(self, project):
        for suffix in ("png", "pdf"):
            assert (project / f"figures/{NAME}.{suffix}").stat().st_size > 1000

    def test_the_report_has_the_claim_and_the_figure_with_the_numbers(self, project):
        report = (project / "results/report.html").read_text(encoding="utf-8")
        assert "does not depend on the orthonormal bases" in report
        assert f'<figure id="figure-{NAME}">' in report
        (row,) = [
            row for row in json.loads((project / "results/claims.json").read_text())
            if row["id"] == "C1.rotated"
        ]  # fmt: skip
        assert re.search(rf"over {row['n']} minimizers\)\. Crosses", report)

    def test_the_new_files_pass_the_linters(self, project, written):
        for linter in (["ruff", "check"], ["ruff", "format", "--check"], ["lint-imports"]):
            run(project, *linter, *([] if linter[0] == "lint-imports" else written))

    def test_the_tests_of_figures_and_of_options_pass(self, project):
        run(
            project, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider",
            "-k", f"{NAME} or every_option or every_figure", "tests/figures", "tests/experiments",
        )  # fmt: skip
