"""config/README.md: every key of the configuration and of an experiment, and none that does not exist."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any

import pytest

from dmf_sharpness.experiments import catalog
from dmf_sharpness.experiments.checks import _OPTIONS, config_schema, experiment_schema
from dmf_sharpness.experiments.experiment import MinimizerSpec, Network, StudySpec, TargetSpec
from tests.workflow.conftest import ROOT

PAGE = (ROOT / "config/README.md").read_text(encoding="utf-8")
Row = Mapping[str, str]


def tables() -> Iterator[tuple[str, list[Row]]]:
    """The heading that each table stands under, and its rows, by the names of their columns."""
    heading, lines = "", []
    for line in [*PAGE.splitlines(), ""]:
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("|"):
            lines.append([cell.strip() for cell in line.strip("|").split("|")])
        elif lines:
            names, _, *rows = lines
            yield heading, [dict(zip(names, row, strict=True)) for row in rows]
            lines = []


TABLES = list(tables())
CONFIG, EXPERIMENT, TARGETS, MINIMIZERS, STUDIES, OPTIONS = (rows for _, rows in TABLES)


def codes(cell: str) -> list[str]:
    """What a cell names as code."""
    return re.findall(r"`([^`]+)`", cell)


def by_name(rows: list[Row]) -> dict[str, Row]:
    """Rows by the one name in their first column."""
    result = {}
    for row in rows:
        (name,) = codes(next(iter(row.values())))
        assert name not in result
        result[name] = row
    return result


def keys_of(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The keys that a schema allows, with dots, and what it says of each."""
    for key, value in schema.get("properties", {}).items():
        yield f"{path}{key}", value
        yield from keys_of(value, f"{path}{key}.")
        yield from keys_of(value.get("items", {}), f"{path}{key}[].")


KEYS = [
    *((key, said, by_name(CONFIG)) for key, said in keys_of(config_schema())),
    *(
        (key, said, by_name(EXPERIMENT))
        for key, said in keys_of(experiment_schema())
        if not key.startswith("studies.")
    ),
    *(
        (key, said, by_name(OPTIONS))
        for key, said in keys_of(experiment_schema()["$defs"]["study"])
    ),
]


@pytest.mark.parametrize("rows", [CONFIG, EXPERIMENT, OPTIONS])
def test_every_key_is_on_the_page_and_no_other(rows):
    named = by_name(rows)
    assert set(named) == {key for key, _, table in KEYS if table == named}


def numbers_in(cell: str) -> set[float]:
    """The numbers of a cell, with and without commas between thousands."""
    return {
        float(text.replace(",", ""))
        for text in re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", cell)
    }


def bounds_of(said: Mapping[str, Any]) -> set[float]:
    """The bounds that a schema sets, of a number or of the numbers in a list."""
    while "items" in said or "additionalProperties" in said:
        said = said.get("items") or said["additionalProperties"] or {}
    names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    return {float(said[name]) for name in names if name in said}


@pytest.mark.parametrize(("key", "said", "rows"), KEYS, ids=[key for key, _, _ in KEYS])
def test_the_values_that_a_key_may_have_are_those_of_the_schema(key, said, rows):
    values = rows[key]["values"]
    assert bounds_of(said) <= numbers_in(values)
    allowed = said.get("enum") or said.get("items", {}).get("enum")
    if allowed and "see" not in values and key != "figures":
        assert codes(values) == allowed


@pytest.mark.parametrize(
    ("schema", "rows"), [(config_schema(), CONFIG), (experiment_schema(), EXPERIMENT)]
)
def test_required_keys_are_marked_so(schema, rows):
    def required(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
        yield from (f"{path}{key}" for key in schema.get("required", []))
        for key, value in schema.get("properties", {}).items():
            yield from required(value, f"{path}{key}.")
            yield from required(value.get("items", {}), f"{path}{key}[].")

    marked = {name for name, row in by_name(rows).items() if row["default"] == "required"}
    assert marked == set(required(schema))


def test_defaults_are_those_of_the_code():
    places = {"target.": TargetSpec, "networks[].": Network, "minimizers[].": MinimizerSpec}
    described = by_name(EXPERIMENT)
    for place, spec in places.items():
        for field in fields(spec):
            if isinstance(field.default, int | float):  # a flag, too
                said = described[f"{place}{field.name}"]["default"]
                assert said.strip("`") == str(field.default).lower()
    options = by_name(OPTIONS)
    for field in fields(StudySpec):
        given = field.default if field.default is not MISSING else field.default_factory()
        said = options[field.name]["default"]
        is_needed = any(field.name in study.needs for study in catalog.studies().values())
        assert (said == "required") == is_needed
        if not is_needed:
            assert numbers_in(said) == set(given if isinstance(given, tuple) else [given])


@pytest.mark.parametrize("kind", ["target", "minimizers"])
def test_every_kind_is_on_the_page(kind):
    section = experiment_schema()["properties"][kind]
    kinds = (section if kind == "target" else section["items"])["properties"]["kind"]["enum"]
    assert set(by_name(TARGETS if kind == "target" else MINIMIZERS)) == set(kinds)


def test_every_study_is_on_the_page_with_its_options():
    described = by_name(STUDIES)
    assert set(described) == set(catalog.studies())
    for name, study in catalog.studies().items():
        row = described[name]
        assert codes(row["needs"]) == list(study.needs), name
        assert codes(row["takes"]) == list(study.takes), name
        assert codes(row["remarks"]) == list(study.one_value), name
        assert ("on data" in row["remarks"]) == study.on_data, name
        assert ("leaves" in row["remarks"]) == study.leaves, name


def test_own_keys_of_a_kind_of_minimizer_are_those_that_are_accepted():
    for kind, row in by_name(MINIMIZERS).items():
        own = [option for option, kinds in _OPTIONS.items() if kind in kinds]
        assert codes(row["own keys"]) == own, kind
