"""The modules that read each column of each table, found by the names in their sources.

A module reads the tables that it declares: a judge by ``@judged_from("studies/landing")``, a figure by
``FIGURE``. It reads a column of them if the name of the column is in its source, or in that of a module of
the same room that it imports and that declares no table: as an attribute, as a text, or as an argument.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from dmf_sharpness.experiments import catalog

PACKAGE = catalog.PACKAGE
UNDECLARED = {
    "claims/landing_misses": ("studies/landing",),
    "figures/animation": ("trajectories",),
    "studies/landscape": ("trajectories",),
}
"""Modules that read tables and have no place to declare them."""

OF_ALL = ("figures/style", "figures/tables")
"""Modules that all figures import, and that read no column themselves."""


@cache
def readers() -> Mapping[str, tuple[str, ...]]:
    """The tables that every reading module declares, by its path in the package without a suffix."""
    found: dict[str, tuple[str, ...]] = {**UNDECLARED}
    for path in sorted((PACKAGE / "claims").glob("*.py")):
        declared = re.findall(r'^@judged_from\("(.+)"\)', path.read_text(), flags=re.MULTILINE)
        if declared:
            found[f"claims/{path.stem}"] = tuple(dict.fromkeys(declared))
    for name, figure in catalog.figures().items():
        found[f"figures/{name}"] = figure.tables
    return found


def readers_of(table: str, column: str) -> list[str]:
    """The modules that read a column of a table, as paths in the package without a suffix."""
    return [
        module
        for module, tables in readers().items()
        if table in tables and column in _names(module)
    ]


@cache
def _names(module: str) -> frozenset[str]:
    """The names in a module and in its helpers."""
    return frozenset(name for source in _sources(module) for name in _names_in(source))


def _sources(module: str) -> Iterator[Path]:
    """The file of a module, and those that it imports of its room if they declare no tables."""
    room = module.partition("/")[0]
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        path = PACKAGE / f"{name}.py"
        if name in seen or not path.is_file():
            continue
        seen.add(name)
        yield path
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                inside = [n.removeprefix("dmf_sharpness.").replace(".", "/") for n in names]
                waiting += [
                    n for n in inside if n.startswith(f"{room}/") and n not in {*readers(), *OF_ALL}
                ]


@cache
def _names_in(path: Path) -> frozenset[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                found.add(name)
            case ast.Constant(value=str(text)) if text.isidentifier():
                found.add(text)
    return frozenset(found)
