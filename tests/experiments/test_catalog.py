"""What studies and figures declare of themselves, and what is said where they do it wrongly."""

import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import jsonschema
import pytest

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import catalog, experiment, options
from dmf_sharpness.experiments.checks import experiment_schema
from dmf_sharpness.experiments.experiment import StudySpec, load_experiment

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted((ROOT / "config/experiments").glob("*.yaml"))


def test_what_is_read_is_what_the_modules_say():
    for name, declared in catalog.studies().items():
        module = import_module(f"dmf_sharpness.studies.{name}")
        assert declared == module.STUDY
        assert callable(module.study)
    for name, declared in catalog.figures().items():
        module = import_module(f"dmf_sharpness.figures.{name}")
        assert declared == module.FIGURE
        assert callable(module.draw)


def test_what_figures_may_ask_for_is_what_experiments_can_tell():
    assert {*experiment.TABLES, "benchmark"} == set(catalog.TABLES)
    assert set(experiment.PROPERTIES) == set(catalog.PROPERTIES)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package without studies and figures; they are read anew after each edit."""
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path)
    for name in ("studies", "figures"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(catalog, name, getattr(catalog, name).__wrapped__)
    return tmp_path


def declare(package: Path, statement: str) -> Path:
    folder = "studies" if "STUDY" in statement else "figures"
    path = package / folder / "mine.py"
    # An import, which nobody is to follow, and brackets at the start of a line after the statement.
    path.write_text(
        f'"""Mine."""\n\nimport torch_of_nowhere\n\n{statement}\n\nMORE = (\n    1,\n)\n'
    )
    return path


@pytest.mark.parametrize(
    "statement",
    [
        "STUDY = StudyOptions()",
        "STUDY = StudyOptions()  # nothing to set",
        "STUDY = StudyOptions(\n)",
        'STUDY = StudyOptions(needs=("steps",), takes=("seed",))',
        'STUDY = StudyOptions(\n    needs=("radii",), one_value=("radii",), on_data=True,\n)',
        'STUDY = StudyOptions(needs=("step_ratios",), leaves=True)',
        'FIGURE = FigureInputs(tables=("sharpness",))',
        'FIGURE = FigureInputs(\n    tables=("escape",), of="factorization",\n    caption=(\n"a"\n"b"\n),\n)',
    ],
)
def test_a_declaration_is_read_without_its_module(package, statement):
    declare(package, statement)
    found = catalog.studies() if "STUDY" in statement else catalog.figures()
    namespace = {"StudyOptions": catalog.StudyOptions, "FigureInputs": catalog.FigureInputs}
    exec(statement, namespace)
    assert found == {"mine": namespace.get("STUDY", namespace.get("FIGURE"))}


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ('STUDY = StudyOptions(needs=("angle",))', "STUDY.needs: expected one of ['steps', "),
        ('STUDY = StudyOptions(takes=("angle",))', "STUDY.takes: expected one of ['steps', "),
        ('STUDY = StudyOptions(needs=("steps"))', "STUDY.needs: expected a tuple of texts, got 'steps'"),
        ("STUDY = StudyOptions(needs=(1,))", "STUDY.needs: expected a tuple of texts, got (1,)"),
        ('STUDY = StudyOptions(needs=["steps"])', "STUDY.needs: expected a tuple of texts, got ['steps']"),
        ('STUDY = StudyOptions(on_data="no")', "STUDY.on_data: expected True or False, got 'no'"),
        ("STUDY = StudyOptions(need=())", "STUDY.need: expected one of the keys ['needs', "),
        (
            'STUDY = StudyOptions(needs=("radii",), one_value=("step_ratios",))',
            "STUDY.one_value: expected one of ['radii'], got 'step_ratios'",
        ),
        (
            "STUDY = StudyOptions(leaves=True)",
            "STUDY.leaves: expected with the option 'step_ratios' only, got True",
        ),
        ('STUDY = StudyOptions(("steps",))', "STUDY: expected STUDY = StudyOptions(needs=…) with literals"),
        ("STUDY = StudyOptions(needs=NEEDS)", "STUDY: expected STUDY = StudyOptions("),
        ('STUDY = StudyOptions(**{"needs": ()})', "STUDY: expected STUDY = StudyOptions("),
        ("STUDY: StudyOptions = StudyOptions()", "STUDY: expected STUDY = StudyOptions("),
        ("STUDY = catalog.StudyOptions()", "STUDY: expected STUDY = StudyOptions("),
        ("STUDY = FigureInputs()", "STUDY: expected STUDY = StudyOptions("),
        ("STUDY = None", "STUDY: expected STUDY = StudyOptions("),
        ("STUDY = StudyOptions(needs=(", "STUDY: expected STUDY = StudyOptions("),
        ("FIGURE = FigureInputs()", "FIGURE.tables: missing, expected a tuple of texts"),
        ("FIGURE = FigureInputs(tables=())", "FIGURE.tables: expected at least one, got none"),
        ('FIGURE = FigureInputs(tables=("sharpness"))', "FIGURE.tables: expected a tuple of texts, got"),
        ('FIGURE = FigureInputs(tables=("sharp",))', "FIGURE.tables: expected one of ['sharpness', "),
        ('FIGURE = FigureInputs(tables=("studies/x",))', "FIGURE.tables: expected one of ['sharpness', "),
        (
            'FIGURE = FigureInputs(tables=("escape",), of="digits")',
            "FIGURE.of: expected one of ['factorization', 'several radii'], got 'digits'",
        ),
        (
            'FIGURE = FigureInputs(tables=("escape",), caption=1)',
            "FIGURE.caption: expected a text, got 1",
        ),
        ('FIGURE = FigureInputs(tables=("escape",), caption=f"{1}")', "FIGURE: expected FIGURE = FigureI"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_named_in_one_line(package, statement, problem):
    path = declare(package, statement)
    with pytest.raises(UserError) as refused:
        (catalog.studies if "STUDY" in statement else catalog.figures)()
    assert str(refused.value).startswith(f"{path}: {problem}")
    assert "\n" not in str(refused.value)


def test_names_that_only_look_like_a_declaration_are_none(package):
    declare(package, "# A STUDY\nSTUDY_NAMES = ()\nstudies = STUDYING = 1\n")
    assert catalog.studies() == {}


def test_the_catalog_needs_neither_torch_nor_matplotlib():
    code = (
        "import sys; from dmf_sharpness.experiments import catalog; catalog.figures(); "
        "assert not {'torch', 'matplotlib', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_option_is_in_the_schema_with_its_type():
    properties = experiment_schema()["$defs"]["study"]["properties"]
    assert list(properties) == [option.name for option in fields(StudySpec)]
    for option in fields(StudySpec):
        schema, valid = properties[option.name], jsonschema.Draft202012Validator
        limits = {"minimum", "maximum", "exclusiveMinimum", "enum"}
        assert limits & set(schema.get("items", schema))
        value = [0.5] if option.name in options.LISTS else 2 if option.type is int else 0.5
        if option.name in options.NAME_LISTS:
            value = schema["items"]["enum"][:1]
        assert valid(schema).is_valid(value), option.name
        for wrong in ("2", None, [], [0.5, 0.5], [-1.0], -1, 1e300):
            assert not valid(schema).is_valid(wrong), (option.name, wrong)


def test_every_option_is_one_that_a_study_takes():
    taken = {option for study in catalog.studies().values() for option in study.options}
    assert taken == set(options.NAMES)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_lists_reach_a_study_as_tuples(path):
    for spec in load_experiment(path).studies.values():
        for name in options.LISTS:
            assert isinstance(getattr(spec, name), tuple)
