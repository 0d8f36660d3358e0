"""The rooms of the package: how many, on how many floors, and which may import which.

The arrows are computed from the sources themselves, so that a mistake in the contracts of import-linter
(pyproject.toml) shows: both have to say the same.
"""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/dmf_sharpness"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
LIBRARY = {"network", "hessian", "descent", "minimizers"}
# Every arrow that there may be. Two rooms are open to figures for one formula each.
ALLOWED = {
    "errors": set(),
    "arguments": set(),
    "oracles": set(),
    "compiled": set(),
    "artifacts": {"errors"},
    "network": {"arguments"},
    "claims": {"artifacts", "errors"},
    "hessian": {"arguments", "compiled", "network"},
    "descent": {"arguments", "compiled", "network"},
    "minimizers": {"arguments", "hessian", "network"},
    "experiments": {"artifacts", "errors", "minimizers", "network"},
    "studies": {"errors", "experiments", "oracles"} | LIBRARY,
    "figures": {
        "artifacts", "claims", "errors", "experiments", "descent.landing_curve", "network.least_excess",
    },
    "command_line": {"errors", "hessian", "network"},
    "cli": {"artifacts", "compiled", "errors", "experiments"},
}  # fmt: skip


def imported(source: Path) -> Iterator[str]:
    """What a file imports of the package, without the package's own name: ``network.loss.gradient``."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: expected no relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("dmf_sharpness."):
                yield name.removeprefix("dmf_sharpness.")


def rooms(package: Path = PACKAGE) -> dict[str, list[Path]]:
    """The files of every room: a folder, or a module at the top."""
    found = {path.stem: [path] for path in package.glob("*.py") if path.stem != "__init__"}
    folders = [path.parent for path in package.glob("*/__init__.py")]
    return found | {folder.name: sorted(folder.rglob("*.py")) for folder in folders}


def arrows() -> dict[str, set[str]]:
    """The rooms that every room imports from."""
    found = {}
    for room, files in rooms().items():
        names = {name.partition(".")[0] for path in files for name in imported(path)}
        found[room] = (names & set(rooms())) - {room}
    return found


def floors(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """The floor of every node, 1 for those that import nothing.

    Raises:
        ValueError: There is a circle.
    """
    found: dict[str, int] = {}
    while len(found) < len(graph):
        ready = [node for node in graph if node not in found and graph[node] <= set(found)]
        if not ready:
            raise ValueError(f"a circle among {sorted(set(graph) - set(found))}")
        found |= {
            node: 1 + max((found[below] for below in graph[node]), default=0) for node in ready
        }
    return found


def test_the_package_has_few_entries_at_the_top():
    entries = [
        path.name
        for path in PACKAGE.iterdir()
        if path.name != "__pycache__" and path.suffix not in (".so", ".pyd")
    ]
    assert len(entries) <= 18, sorted(entries)


def test_the_rooms_lie_on_six_floors_without_a_circle():
    assert max(floors(arrows()).values()) <= 6


def test_a_circle_of_rooms_would_be_found():
    """The negative control."""
    with pytest.raises(ValueError, match=r"a circle among \['descent', 'network'\]"):
        floors({"errors": set(), "network": {"descent"}, "descent": {"network", "errors"}})


def test_the_modules_of_the_package_import_each_other_without_a_circle():
    """Within a room, too. A package's ``__init__`` counts where something is imported from it by name."""
    names = {}
    for files in rooms().values():
        for path in files:
            parts = path.relative_to(PACKAGE).with_suffix("").parts
            names[".".join(part for part in parts if part != "__init__")] = path
    graph = {}
    for name, path in names.items():
        modules = {
            target if target in names else target.rpartition(".")[0] for target in imported(path)
        }
        graph[name] = (modules & set(names)) - {name}
    assert len(graph) > 60
    floors(graph)


@pytest.mark.parametrize("room", sorted(rooms()))
def test_a_room_imports_from_where_it_may(room):
    def may(name: str) -> bool:
        first, module, *_ = f"{name}.".split(".")
        return first == room or not {first, f"{first}.{module}"}.isdisjoint(ALLOWED[room])

    taken = {name for path in rooms()[room] for name in imported(path)}
    assert {name for name in taken if not may(name)} == set()


def test_every_arrow_that_is_allowed_goes_down():
    graph = {
        room: {name.partition(".")[0] for name in allowed} for room, allowed in ALLOWED.items()
    }
    assert max(floors(graph).values()) <= 6


def test_packages_import_nothing_in_their_own_names():
    """So that reading an experiment, or drawing a figure, imports no more than it uses."""
    for path in PACKAGE.glob("*/__init__.py"):
        (docstring,) = ast.parse(path.read_bytes()).body
        assert isinstance(docstring, ast.Expr), path


def test_no_module_bears_the_name_of_a_public_function():
    """With lazy names ``dmf.sharpness`` would turn into a module as soon as that one is imported."""
    import dmf_sharpness

    assert set(dmf_sharpness.__all__).isdisjoint(rooms())


def forbidden(contract: dict) -> tuple[str, str]:
    """A file to add and the import in it that the contract is against."""
    match contract["type"]:
        case "layers":
            return "errors", "from dmf_sharpness.network import loss"
        case "acyclic_siblings":
            return "network/factors", "from dmf_sharpness.network import loss"
    (protected,) = contract["protected_modules"]
    may = (protected, *contract["allowed_importers"])
    other = next(room for room in reversed(ALLOWED) if f"dmf_sharpness.{room}" not in may)
    path = f"{other}/extra" if (PACKAGE / other).is_dir() else other
    return path, f"import {protected}"


def test_every_contract_of_import_linter_can_break(tmp_path):
    """Each has a negative control: a copy of the package with an import that it is against."""
    pytest.importorskip("importlinter")
    shutil.copytree(
        ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for contract in CONTRACTS:
        module, statement = forbidden(contract)
        path = tmp_path / "src/dmf_sharpness" / f"{module}.py"
        text = path.read_text() if path.exists() else '"""An import too many."""\n'
        path.write_text(f"{text}\n{statement}\n")
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--no-logo"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "src"), "COLUMNS": "400"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    verdicts = dict(re.findall(r"^(\w+): .*?(KEPT|BROKEN)", done.stdout, flags=re.MULTILINE))
    assert verdicts == {contract["name"].partition(":")[0]: "BROKEN" for contract in CONTRACTS}
