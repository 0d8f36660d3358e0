"""What a result carries of its origin: the digest of the code, and when it is that of the files at hand."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from dmf_sharpness.artifacts import lineage
from dmf_sharpness.artifacts.headers import ArtifactError, read_header
from dmf_sharpness.artifacts.store import read_table, write_table, write_text

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow/scripts"
STAGES = (
    "generate_minimizers", "evaluate_sharpness", "measure_bottleneck", "simulate_escape",
    "map_landscape", "run_study", "judge_claims", "render_figure", "render_report",
    "render_animation", "check_verdict",
)  # fmt: skip
IMPORTED = """
import json, runpy, sys
runpy.run_path(sys.argv[1], run_name="imported")
for name in sys.argv[2:]:
    __import__(name)
modules = [m for name, m in sys.modules.items() if name.split(".")[0] == "dmf_sharpness"]
print(json.dumps([m.__file__ for m in modules]))
"""


@pytest.mark.parametrize("rule", STAGES)
def test_the_digest_of_a_stage_covers_all_that_its_script_imports(rule):
    detail = {"run_study": "landing", "render_figure": "flatness"}.get(rule, "")
    more = {
        "run_study": ["dmf_sharpness.studies.landing"],
        "render_figure": ["dmf_sharpness.figures.flatness"],
    }
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, SCRIPTS / f"{rule}.py", *more.get(rule, [])],
        capture_output=True, text=True, check=True, env=os.environ | {"EAGER_IMPORT": ""},
    )  # fmt: skip
    imported = {Path(path) for path in json.loads(done.stdout)}
    covered = set(lineage._sources(lineage.stage_sources(rule, SCRIPTS, detail)))
    assert len(imported) > 3
    assert imported <= covered, imported - covered


def test_imports_are_found_as_python_finds_them():
    for source in lineage._sources_of(lineage.PACKAGE):
        if source.suffix != ".py":
            continue
        names = set()
        for node in ast.walk(ast.parse(source.read_bytes())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                assert node.level == 0, "relative imports are not looked for"
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
        expected = {
            path for name in names for path in lineage._module_files(name) if path.is_file()
        }
        assert expected <= lineage._imported(source), source


def test_the_digest_of_code_follows_its_content_and_not_its_place(tmp_path):
    one, two = tmp_path / "a" / "script.py", tmp_path / "b" / "script.py"
    for path in (one, two):
        path.parent.mkdir()
        path.write_text("from dmf_sharpness import errors\n")
    assert lineage.code_digest(one) == lineage.code_digest(two)
    other = tmp_path / "c" / "script.py"
    other.parent.mkdir()
    other.write_text("from dmf_sharpness import factors\n")
    assert lineage.code_digest(one) != lineage.code_digest(other)


def test_a_source_that_was_edited_since_the_start_is_refused(tmp_path):
    path = tmp_path / "script.py"
    path.write_text("x = 1\n")
    lineage.check_unchanged(path)
    path.write_text("x = 2\n")
    with pytest.raises(ValueError, match="expected the file as it was at the start"):
        lineage.check_unchanged(path)


def test_a_table_is_current_while_it_has_the_lineage_that_it_would_get(tmp_path):
    source, path = tmp_path / "source.txt", tmp_path / "t.parquet"
    source.write_text("one")
    made = lineage.expected_lineage((), [source])
    write_table(path, "sharpness", pd.DataFrame({"x": [1.0]}), {"experiment": "e", **made})
    assert lineage.is_current(path, made)
    source.write_text("two")
    assert not lineage.is_current(path, lineage.expected_lineage((), [source]))
    assert lineage.expected_lineage((), [tmp_path / "none"]) is None
    path.write_bytes(path.read_bytes()[:-20])
    assert not lineage.is_current(path, made)


@pytest.mark.parametrize("suffix", [".html", ".json", ".md", ".svg"])
def test_half_a_file_carries_no_fingerprint(tmp_path, suffix):
    made = lineage.lineage("code", {"a": "b"})
    path = tmp_path / f"file{suffix}"
    write_text(path, f"{lineage.marker(made)} and more{lineage.ENDS[suffix].decode()}\n")
    assert lineage.is_current(path, made)
    assert not lineage.is_current(path, lineage.lineage("code", {"a": "c"}))
    path.write_bytes(path.read_bytes()[:76])
    assert lineage.fingerprint_in(path) is None


def test_artifacts_of_different_versions_of_one_file_do_not_go_together(tmp_path):
    headers = {}
    for name, digest in (("one", "a" * 64), ("two", "b" * 64)):
        path = tmp_path / f"{name}.parquet"
        origin = {"experiment": name, "made_from": {"gone.safetensors": digest}}
        write_table(path, "sharpness", pd.DataFrame({"x": [1.0]}), origin)
        headers[str(path)] = read_header(path)
        assert read_header(path) == read_table(path, "sharpness")[1]
    lineage.check_consistent(
        tmp_path, {str(tmp_path / "one.parquet"): headers[str(tmp_path / "one.parquet")]}
    )
    with pytest.raises(
        ArtifactError, match=r"two\.parquet: made from gone\.safetensors of digest bbb"
    ):
        lineage.check_consistent(tmp_path, headers)


def test_setting_back_leaves_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_text("content")
    lineage.set_back(path)
    assert path.read_text() == "content"
    assert path.stat().st_mtime == 1
    lineage.set_back(tmp_path / "none")


DIGESTS = """
import json, sys
from pathlib import Path
from dmf_sharpness.artifacts import lineage
stages = json.loads(sys.argv[2])
roots = [lineage.stage_sources(rule, Path(sys.argv[1]), detail) for rule, detail in stages]
print(json.dumps([lineage.code_digest(*files) for files in roots]))
"""
DETAILED = [
    (rule, {"run_study": "landing", "render_figure": "landing"}.get(rule, "")) for rule in STAGES
]
"""Every stage, with a study and a figure for those that are of one."""
ROOMS = sorted(path.parent.name for path in lineage.PACKAGE.glob("*/__init__.py"))
# Stages that use what lies in a room, and others that have nothing to do with it. Everything imports cli.py,
# which names the engine and knows experiments.
USED = {
    "artifacts": (STAGES, ()),
    "claims": (("judge_claims", "render_report"), ("generate_minimizers", "run_study", "map_landscape")),
    "compiled": (("evaluate_sharpness", "run_study"), ()),
    "descent": (("run_study", "simulate_escape", "render_figure"), ("judge_claims", "generate_minimizers")),
    "experiments": (("generate_minimizers", "run_study", "render_figure"), ()),
    "figures": (("render_figure", "render_animation", "render_report"), ("run_study", "judge_claims")),
    "hessian": (("evaluate_sharpness", "run_study"), ("judge_claims", "render_figure")),
    "minimizers": (("generate_minimizers",), ("judge_claims", "render_figure", "render_report")),
    "network": (("generate_minimizers", "evaluate_sharpness", "run_study"), ("judge_claims",)),
    "studies": (("run_study", "evaluate_sharpness"), ("judge_claims", "render_figure", "render_report")),
}  # fmt: skip


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package, to be edited, and the digests of all stages with it."""
    folder = tmp_path_factory.mktemp("edited")
    without = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(lineage.PACKAGE, folder / "dmf_sharpness", ignore=without)

    def digests():
        done = subprocess.run(
            [sys.executable, "-c", DIGESTS, SCRIPTS, json.dumps(DETAILED)],
            capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(folder)},
        )  # fmt: skip
        return dict(zip(STAGES, json.loads(done.stdout), strict=True))

    return folder / "dmf_sharpness", digests, digests()


def test_every_room_is_among_those_that_are_edited():
    assert sorted(USED) == ROOMS


@pytest.mark.parametrize("room", ROOMS)
def test_an_edit_of_a_package_itself_changes_the_digest_of_what_imports_from_it(package, room):
    """Of ``studies/__init__.py``, say, which no stage imports by name: Python runs it all the same."""
    folder, digests, before = package
    source = folder / room / "__init__.py"
    text = source.read_text(encoding="utf-8")
    source.write_text(f"{text}\nEDITED = True\n", encoding="utf-8")
    after = digests()
    source.write_text(text, encoding="utf-8")
    changed = {rule for rule in STAGES if after[rule] != before[rule]}
    users, others = USED[room]
    assert set(users) <= changed
    assert changed.isdisjoint(others)


def test_without_an_edit_the_digests_stay(package):
    _, digests, before = package
    assert digests() == before
