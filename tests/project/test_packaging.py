"""pyproject.toml, requirements.lock and environment.yml say the same."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LIBRARY = [Requirement(text) for text in PROJECT["dependencies"]]
DIRECT = LIBRARY + [Requirement(text) for text in [*EXTRAS["pipeline"], *EXTRAS["dev"]]]
# For pip only; the tests that need them are skipped where they are not there.
OPTIONAL = [Requirement(text) for text in [*EXTRAS["browser"], *EXTRAS["data"], *EXTRAS["docs"]]]
LOCK = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE
    )
}
# conda-forge's and bioconda's names, where they differ from PyPI's.
CONDA_NAMES = {
    "torch": "pytorch-cpu",
    "matplotlib": "matplotlib-base",
    "snakemake": "snakemake-minimal",
}


@pytest.mark.parametrize("requirement", [*DIRECT, *OPTIONAL], ids=lambda r: r.name)
def test_the_lock_has_what_the_project_asks_for(requirement):
    version = LOCK[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version)


def test_the_lowest_versions_are_those_that_the_project_asks_for():
    """Each is tried by ``make test-lowest`` or ``make test-wheel``."""
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    lowest = [Requirement(line) for line in lines if not line.startswith("#")]
    assert {r.name: {("==", Version(s.version)) for s in r.specifier} for r in lowest} == {
        r.name: {("==", Version(s.version)) for s in r.specifier if s.operator == ">="}
        for r in DIRECT
    }


def test_the_library_asks_for_nothing_of_the_pipeline():
    names = {r.name for r in LIBRARY}
    assert names == {"lazy-loader", "numpy", "safetensors", "scipy", "threadpoolctl", "torch"}


def test_lazy_names_cannot_turn_into_modules():
    """Up to version 0.5 of lazy-loader the module of the same name took the place of a function."""
    (lazy,) = [r for r in DIRECT if r.name == "lazy-loader"]
    assert not lazy.specifier.contains("0.5")
    assert lazy.specifier.contains("0.6")


def test_torch_is_pinned_without_a_build_label():
    assert LOCK["torch"] == "2.13.0"


def conda_packages(requirements: list[Requirement]) -> set[str]:
    """The same ranges by the names of conda-forge; type stubs come from PyPI alone."""
    return {
        f"{CONDA_NAMES.get(r.name, r.name)}{r.specifier}"
        for r in requirements
        if not r.name.startswith("types-") and not r.name.endswith("-stubs")
    }


@pytest.mark.parametrize(
    ("file", "root", "further"),
    [("environment.yml", ".", EXTRAS["dev"]), ("workflow/envs/replication.yaml", "../..", [])],
)
def test_conda_has_the_ranges_of_the_project(file, root, further):
    environment = yaml.safe_load((ROOT / file).read_text())
    *packages, pip, project = environment["dependencies"]
    run = [*PROJECT["dependencies"], *EXTRAS["pipeline"], *EXTRAS["data"], *further]
    expected = conda_packages([Requirement(text) for text in run])
    assert set(packages) == expected | {f"python{PROJECT['requires-python']}", "c-compiler"}
    assert (pip, project) == ("pip", {"pip": [f"-e {root}"]})
    assert environment["channels"] == ["conda-forge", "bioconda", "nodefaults"]


def test_lazy_names_are_all_there():
    import dmf_sharpness

    for name in dmf_sharpness.__all__:
        assert callable(getattr(dmf_sharpness, name))


def test_every_figure_has_a_module_and_a_caption():
    from dmf_sharpness.experiments.catalog import figures
    from dmf_sharpness.experiments.checks import config_schema

    offered = config_schema()["properties"]["figures"]["items"]["enum"]
    assert set(offered) == {name for name in figures() if not name.startswith("benchmark")}
    for figure in offered:
        assert len(figures()[figure].caption) > 100
