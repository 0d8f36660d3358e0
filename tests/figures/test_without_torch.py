"""Drawing, and reading the configuration, do without PyTorch: importing it takes longer than most figures.

Each test looks at the modules that a fresh process has at its end.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.figures.test_render import FIGURES, NEEDS, files, options  # noqa: F401  (a fixture)

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "src/dmf_sharpness/figures").glob("[!_]*.py"))


def modules_after(code: str, *arguments: object, folder: Path = ROOT) -> set[str]:
    """The names of all modules that a process has imported after some code."""
    ended = "\nimport sys, json; print('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + ended, *map(str, arguments)],
        cwd=folder, capture_output=True, text=True,
        env=os.environ | {"EAGER_IMPORT": "", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_what_computes_has_it():
    """The negative control."""
    assert "torch" in modules_after("import dmf_sharpness; dmf_sharpness.sharpness")


@pytest.mark.parametrize("name", MODULES)
def test_no_module_of_a_figure_imports_it(name):
    modules = modules_after(f"import dmf_sharpness.figures.{name}")
    assert f"dmf_sharpness.figures.{name}" in modules
    assert "torch" not in modules


DRAW = """
import json, sys
from tests.scripts import run_script
for figure, *arguments in json.loads(sys.argv[1]):
    ended = run_script("render_figure", figure, *arguments)
    assert ended.status == 0, ended.errors
    assert "torch" not in sys.modules, figure
"""


def test_no_figure_is_drawn_with_it(files, tmp_path):  # noqa: F811
    calls = [
        [figure, *map(str, (tmp_path / figure, *options(files, NEEDS[figure])))]
        for figure in FIGURES
    ]
    modules = modules_after(DRAW, json.dumps(calls))
    assert {f"dmf_sharpness.figures.{figure}" for figure in FIGURES} <= modules
    assert "torch" not in modules
    assert {path.stem for path in tmp_path.glob("*.png")} == set(FIGURES)


PARSE = """
import sys
from snakemake.cli import main
try:
    main([*sys.argv[1:], "--dry-run", "--quiet", "all"])
except SystemExit as ended:
    assert not ended.code
"""


def test_the_workflow_is_read_without_it(tmp_path):
    """All of its files and the experiments of the configuration, by Snakemake itself."""
    modules = modules_after(PARSE, "--snakefile", ROOT / "Snakefile", folder=tmp_path)
    assert {"dmf_sharpness.experiments.experiment", "dmf_sharpness.artifacts.lineage"} <= modules
    assert "torch" not in modules


READ = """
from pathlib import Path
from dmf_sharpness.artifacts.yaml_files import read_mapping
from dmf_sharpness.experiments.experiment import load_config
path = Path("config/config.yaml")
assert len(load_config(read_mapping(path), path)) > 20
"""


def test_the_configuration_is_read_without_it():
    assert "torch" not in modules_after(READ)
