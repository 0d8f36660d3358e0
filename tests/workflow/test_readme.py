"""What the README tells a reader to type is typed here, on the configuration of a few seconds."""

import doctest
import os
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import yaml

from dmf_sharpness.experiments import catalog
from tests.workflow.conftest import ROOT, SMOKE
from tests.workflow.held import LIMIT

pytestmark = pytest.mark.pipeline

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)

# What cannot be run here as it stands, and what is run for it. All else runs as it is written; that it takes
# seconds is the doing of the project's configuration, tests/workflow/smoke.
INSTEAD = {
    "make test": "make --dry-run test",  # it is what is running
    "snakemake --workflow-profile profiles/slurm": (
        # test_slurm.py has a Slurm to submit to.
        "snakemake --workflow-profile profiles/slurm --dry-run --forceall"
    ),
    "conda env create -f environment.yml && conda activate dmf-sharpness && snakemake": (
        "test -f environment.yml"  # test_packaging.py compares its versions with the lock
    ),
}


def command_of(block: str) -> str:
    """A block as a script, with the lines of ``INSTEAD`` replaced."""
    return "\n".join(INSTEAD.get(line, line) for line in block.splitlines())


@pytest.fixture
def reader(replica: Path) -> Path:
    """A finished project as a reader has it, its environment in .venv."""
    for name in ("README.md", "Makefile", "environment.yml", "pyproject.toml", "requirements.lock"):
        shutil.copy2(ROOT / name, replica)
    shutil.copy2(ROOT / "setup.py", replica)
    environment = replica / ".venv"
    environment.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        if (Path(sys.prefix) / name).exists():
            (environment / name).symlink_to(Path(sys.prefix) / name)
    (environment / "ready").touch()  # newer than the files it is made from: nothing to install
    # The smoke configuration names few experiments; those of the README are there to be asked for.
    for path in (ROOT / "config/experiments").glob("*.yaml"):
        if not (replica / "config/experiments" / path.name).exists():
            shutil.copy2(path, replica / "config/experiments")
    return replica


def test_every_command_runs(reader):
    assert len(BLOCKS) >= 7
    assert [line for line in INSTEAD if line not in README] == []
    for block in BLOCKS:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command_of(block)],
            cwd=reader,
            env=os.environ
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(reader / "src"),
            },
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert (reader / "figures/contour.svg").exists()
    assert (reader / "sharpness.parquet").exists()
    assert (reader / "results/escape/mine.parquet").exists()


def test_the_quick_start_says_what_it_says():
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert (result.failed, result.attempted > 5) == (0, True)


def test_links_and_pictures_are_there():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        targets = re.findall(r"\]\(([^)]+)\)", page.read_text())
        targets += re.findall(r'src="([^"]+)"', page.read_text())
        local = [target for target in targets if not target.startswith("http")]
        headings = {
            re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in page.read_text().splitlines()
            if line.startswith("#")
        }
        for target in local:
            path, _, anchor = target.partition("#")
            assert (page.parent / path).exists(), f"{page.name}: {target}"
            assert path or anchor in headings, f"{page.name}: {target}"


def test_all_figures_are_shown():
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for figure in config["figures"]:
        assert f"figures/{figure}.png" in README
        assert catalog.figures()[figure].caption


def edges(mermaid: str) -> set[tuple[str, str]]:
    """The arrows of a Mermaid graph, from rule to rule."""
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", mermaid))
    found: set[tuple[str, str]] = set()
    for line in mermaid.splitlines():
        first, *others = (
            [names.get(name, name) for name in part.split(" & ")]
            for part in line.strip().split(" --> ")
        )
        for second in others:
            found |= set(product(first, second))
    return found


def test_the_picture_of_the_pipeline_is_its_rule_graph():
    drawn = re.findall(r"```mermaid\n(.*?)```", README, flags=re.DOTALL)[0]
    graph = subprocess.run(
        [sys.executable, "-m", "snakemake", "--rulegraph", "mermaid-js", "all"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert edges(drawn) == edges(graph.stdout)


def test_the_smoke_configuration_is_a_small_one_of_the_same_schema():
    smoke = yaml.safe_load((SMOKE / "config.yaml").read_text())
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    assert set(smoke) <= set(config)
    assert set(smoke["figures"]) <= set(config["figures"])
