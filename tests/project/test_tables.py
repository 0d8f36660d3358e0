"""docs/tables.md: every column of every table that the code makes, who reads it, or what it is kept for."""

import re
from pathlib import Path

import pandas as pd
import pytest

from dmf_sharpness.artifacts.yaml_files import read_mapping
from dmf_sharpness.experiments import catalog
from dmf_sharpness.experiments.experiment import EscapeSpec, StudySpec
from dmf_sharpness.minimizers.basic import bottlenecked_minimizer, random_minimizer
from dmf_sharpness.studies import bottleneck, escape, exactness
from dmf_sharpness.studies.run import run
from tests.helpers import ensemble_of

ROOT = Path(__file__).parents[2]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "tools")
    import describe_tables
    import readers

TABLES = describe_tables.register()
WHOLE = ensemble_of(0, (2, 3, 2), [random_minimizer] * 2)
NARROW = ensemble_of(0, (2, 1, 2), [bottlenecked_minimizer] * 2)
OPTIONS = {
    "steps": 30,
    "points": 3,
    "path_length": 0.5,
    "step_ratios": (1.1,),
    "radii": (1e-6,),
    "momenta": (0.0, 0.5),
    "product_ratios": (1.2,),
    "regularizations": (0.5,),
    "starts": ("fan_in",),
    "repeats": 1,
    "samples": 2,
    "observed_share": 0.75,
    "observations": ("mask",),
    "observed_shares": (0.75,),
    "seed": 0,
}


def measured(name: str) -> pd.DataFrame:
    """A table of two minimizers, by the code that makes it."""
    if name == "sharpness":
        return exactness.evaluate(WHOLE, None)
    if name == "bottleneck":
        return bottleneck.measure(NARROW)
    if name in ("escape", "trajectories"):
        spec = EscapeSpec(minimizers=1, step_ratios=(1.1,), radii=(1e-6,), steps=20)
        escapes = escape.study(WHOLE, spec)
        return escapes.table if name == "escape" else escape.recorded_paths(escapes, "random")
    study = name.removeprefix("studies/")
    declared = catalog.studies()[study]
    ensemble = NARROW if declared.behind_bottleneck else WHOLE
    spec = StudySpec(**{option: OPTIONS[option] for option in declared.options})
    return run(study, [ensemble], spec)


def test_every_table_is_on_the_page():
    kinds = {*catalog.TABLES} - {
        "landscape",
        "benchmark",
    }  # one is no table, one none of the pipeline
    assert set(TABLES) == kinds | {f"studies/{study}" for study in catalog.studies()}


@pytest.mark.parametrize("name", TABLES)
def test_the_columns_of_a_table_are_those_that_the_code_makes(name):
    found = set(measured(name).columns)
    # The stages add the experiment; the steps of a run stand in a file of their own.
    assert found | ({"experiment"} if name != "trajectories" else set()) == set(TABLES[name].names)


@pytest.mark.parametrize("name", TABLES)
def test_every_column_is_read_or_says_what_it_is_kept_for(name):
    for column in TABLES[name].columns:
        is_read = bool(readers.readers_of(name, column.name))
        assert is_read != (column.kept is not None), column


def test_every_column_has_a_unit_and_all_that_the_register_says_is_used():
    given = read_mapping(describe_tables.REGISTER)
    columns = [column for table in TABLES.values() for column in table.columns]
    assert {column.unit for column in columns} | {
        unit for _, unit in given["identity"].values()
    } == {*given["units"]}
    plain = {
        name
        for table in given["tables"].values()
        for name, own in table["columns"].items()
        if not own
    }
    assert plain == set(given["columns"])
    for name, table in given["tables"].items():
        assert set(table.get("kept", {})) <= set(table["columns"]), name


def test_the_page_is_the_one_that_the_tool_writes():
    assert describe_tables.PAGE.read_text(encoding="utf-8") == describe_tables.page()


def test_readers_are_found_by_the_names_in_their_sources():
    assert "claims/landing" in readers.readers_of("studies/landing", "refined")
    assert readers.readers_of("studies/landing", "no_such_column") == []
    assert "figures/contour" in readers.readers_of("trajectories", "along_top")


def test_the_files_that_the_kept_columns_name_exist():
    text = describe_tables.REGISTER.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:docs|tests)/[\w/]+\.(?:md|py)", text))
    assert {name for name in named if not (ROOT / name).exists()} == set()
