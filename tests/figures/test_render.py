"""The scripts that draw, run by hand with tables missing, empty, of another kind or in odd places."""

from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
import torch

from dmf_sharpness.artifacts import lineage
from dmf_sharpness.artifacts.headers import rule_of
from dmf_sharpness.artifacts.store import write_table, write_tensors
from dmf_sharpness.experiments import catalog
from tests.figures.tables import tables
from tests.scripts import SCRIPTS, run_script

FIGURES = list(catalog.figures())
MADE = tables()
OPTIONS = {
    "sharpness": MADE.sharpness, "bottleneck": MADE.bottleneck, "benchmark": MADE.benchmark,
    "trajectories": MADE.trajectories, "landscape": None, "escape": MADE.trajectories,
    **{f"studies/{name}": table for name, table in MADE.studies.items()},
}  # fmt: skip
NEEDS = {name: list(figure.tables) for name, figure in catalog.figures().items()}


def made(path: Path, name: str, rows: int | None = None) -> Path:
    """A table, or the map, as the stages write them; the first rows only."""
    kind = name.replace("studies/", "study_")
    roots = lineage.stage_sources(rule_of(kind), SCRIPTS, kind.removeprefix("study_"))
    header = {"experiment": "made", "code": lineage.code_digest(*roots), "made_from": {}}
    if name == "landscape":
        tensors = {key: torch.from_numpy(x) for key, x in MADE.landscape.items()}
        write_tensors(path, kind, tensors, header)
    else:
        write_table(
            path, kind, OPTIONS[name].drop(columns="experiment", errors="ignore")[:rows], header
        )
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each kind, in a folder with a space in its name; none is named after its study."""
    folder = tmp_path_factory.mktemp("some tables")
    return {name: made(folder / f"{k}.{suffix}", name) for k, (name, suffix) in enumerate(
        (name, "safetensors" if name == "landscape" else "parquet") for name in OPTIONS
    )}  # fmt: skip


def options(files, names):
    """The options that give these tables."""
    given = [["--studies" if "/" in name else f"--{name}", files[name]] for name in names]
    studies = [path for option, path in given if option == "--studies"]
    others = [part for option, path in given if option != "--studies" for part in (option, path)]
    return [*others, *(["--studies", *studies] if studies else [])]


def test_every_figure_is_known():
    assert sorted(NEEDS) == sorted(FIGURES)
    assert len(FIGURES) >= 15


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_is_drawn_from_its_tables_alone_and_needs_each_of_them(figure, files, tmp_path):
    output = tmp_path / "a figure.v2"
    needs = NEEDS[figure]
    for count in range(len(needs)):
        for given in combinations(needs, count):
            missing = next(name for name in needs if name not in given)
            message = run_script("render_figure", figure, output, *options(files, given)).error
            option = missing.partition("/")[0]
            assert message == f"--{option}: expected tables of {missing}, got none"
            assert list(tmp_path.iterdir()) == []
    said = run_script("render_figure", figure, output, *options(files, needs))
    assert said.status == 0, said.errors
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a figure.v2.pdf",
        "a figure.v2.png",
    ]


@pytest.mark.parametrize("figure", FIGURES)
def test_tables_of_another_figure_are_not_what_is_needed(figure, files, tmp_path):
    others = [name for name in OPTIONS if name not in NEEDS[figure]]
    message = run_script("render_figure", figure, tmp_path / "x", *options(files, others)).error
    assert message.startswith("--")
    assert message.endswith(f"expected tables of {NEEDS[figure][0]}, got none")


@pytest.mark.parametrize("figure", FIGURES)
def test_a_table_of_another_kind_is_refused(figure, files, tmp_path):
    for name in NEEDS[figure]:
        other = "escape" if name != "escape" else "sharpness"
        wrong = files["landscape"] if name != "landscape" else files["escape"]
        for path in (files[other], wrong):
            message = run_script(
                "render_figure", figure, tmp_path / "x", *options({name: path}, [name])
            ).error
            assert message.startswith(f"{path}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("figure", FIGURES)
def test_tables_without_rows_are_refused(figure, files, tmp_path):
    for name in NEEDS[figure]:
        if name == "landscape":
            continue
        empty = made(tmp_path / "empty.parquet", name, rows=0)
        arguments = options(files | {name: empty}, NEEDS[figure])
        message = run_script("render_figure", figure, tmp_path / "x", *arguments).error
        option = name.partition("/")[0]
        assert message == f"--{option}: expected tables of {name}, got tables without rows"


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.filterwarnings("ignore")
def test_a_table_of_one_row_is_drawn_or_refused_in_one_line(figure, files, tmp_path):
    for name in NEEDS[figure]:
        if name == "landscape":
            continue
        one = made(tmp_path / "one.parquet", name, rows=1)
        said = run_script(
            "render_figure", figure, tmp_path / "x", *options(files | {name: one}, NEEDS[figure])
        )
        assert said.status == 0 or "these tables cannot be drawn" in said.error


def test_a_study_is_known_by_its_header_and_not_by_its_path(tmp_path, files):
    """A table that is moved, or named after another study, is what it says it is."""
    (tmp_path / "phase").mkdir()
    table = made(tmp_path / "phase/digits.parquet", "studies/orbits")
    said = run_script("render_figure", "orbits", tmp_path / "x", "--studies", table)
    assert said.status == 0
    assert "got none" in run_script(
        "render_figure", "phase", tmp_path / "y", "--studies", table
    ).error  # fmt: skip
    path = files["sharpness"]
    message = run_script("render_figure", "phase", tmp_path / "z", "--studies", path).error
    assert message.startswith(f"{path}: expected a table of a study, got kind 'sharpness'")


@pytest.mark.parametrize(
    "damage", ["missing", "empty", "text", "folder", "cut off", "another program's"]
)
def test_a_damaged_table_is_named(damage, files, tmp_path):
    path = tmp_path / "t.parquet"
    match damage:
        case "empty":
            path.touch()
        case "text":
            path.write_text("sharpness,3")
        case "folder":
            path.mkdir()
        case "cut off":
            path.write_bytes(files["sharpness"].read_bytes()[:-200])
        case "another program's":
            pd.DataFrame({"sharpness": [1.0]}).to_parquet(path)
    for option in ("sharpness", "studies"):
        message = run_script("render_figure", "flatness", tmp_path / "x", f"--{option}", path).error
        assert message.startswith(f"{path}: ")
    assert not (tmp_path / "x.png").exists()


def test_the_animation_needs_runs_and_a_map(files, tmp_path):
    empty = made(tmp_path / "empty.parquet", "trajectories", rows=0)
    one = made(tmp_path / "one.parquet", "trajectories", rows=1)
    output = tmp_path / "x.gif"
    landscape = ["--landscape", files["landscape"]]
    said = run_script("render_animation", output, "--trajectories", empty, *landscape)
    assert said.error == "--trajectories: expected tables of trajectories, got tables without rows"
    said = run_script("render_animation", output, "--trajectories", files["escape"], *landscape)
    assert said.error.startswith(f"{files['escape']}: ")
    said = run_script(
        "render_animation", output, "--trajectories", files["trajectories"], "--landscape", one
    )
    assert said.error.startswith(f"{one}: ")
    assert not output.exists()


def test_a_figure_does_not_follow_the_settings_of_its_reader(files, tmp_path):
    """A matplotlibrc in the home or working folder, say."""
    settings = {
        "xtick.direction": "in",
        "axes.facecolor": "yellow",
        "axes.formatter.use_locale": True,
    }
    arguments = ["--sharpness", files["sharpness"], "--formats", "svg"]
    assert run_script("render_figure", "flatness", tmp_path / "a", *arguments).status == 0
    with mpl.rc_context(settings):
        assert run_script("render_figure", "flatness", tmp_path / "b", *arguments).status == 0
    for suffix in ("svg", "png"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_an_output_that_cannot_be_written_is_named(files, tmp_path):
    (tmp_path / "file").touch()
    output = tmp_path / "file/x"
    message = run_script(
        "render_figure", "flatness", output, "--sharpness", files["sharpness"]
    ).error
    assert message.startswith(f"{output}.png: expected to be able to write it, got: ")
