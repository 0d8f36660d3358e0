"""The modules that read each column of each table, found by the names in their sources.

A module reads the tables that it declares: a judge by ``@judged_from("studies/landing")``, a figure by
``FIGURE``. It reads a column of them if the name of the column, as an attribute, a text or an argument, is in
the function that judges this table or in one that it calls, or for a figure anywhere in the module.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from dmf_sharpness.experiments import catalog

PACKAGE = catalog.PACKAGE
UNDECLARED = {
    "claims/landing_misses": ("studies/landing",),
    "figures/animation": ("trajectories",),
    "studies/landscape": ("trajectories",),
}
"""Modules that read tables and have no place to declare them."""


@cache
def readers() -> Mapping[str, Mapping[str, frozenset[str]]]:
    """The names that every reading module uses of each of its tables.

    The keys are the paths of the modules in the package, without a suffix, and the names of the tables.
    """
    found: dict[str, dict[str, frozenset[str]]] = {}
    for path in sorted((PACKAGE / "claims").glob("*.py")):
        module = f"claims/{path.stem}"
        for table, functions in _judges(module).items():
            found.setdefault(module, {})[table] = frozenset(_names(module, functions))
    figures = {f"figures/{name}": figure.tables for name, figure in catalog.figures().items()}
    for module, tables in (figures | UNDECLARED).items():
        names = frozenset(_names(module, _definitions(module)))
        found[module] = dict.fromkeys(tables, names)
    return found


def readers_of(table: str, column: str) -> list[str]:
    """The modules that read a column of a table, as paths in the package without a suffix."""
    return [module for module, tables in readers().items() if column in tables.get(table, ())]


def _judges(module: str) -> dict[str, list[str]]:
    """The functions of a module that judge each table."""
    found: dict[str, list[str]] = {}
    for name, node in _definitions(module).items():
        for decorator in getattr(node, "decorator_list", []):
            match decorator:
                case ast.Call(func=ast.Name(id="judged_from"), args=[ast.Constant(value=table)]):
                    found.setdefault(str(table), []).append(name)
    return found


def _names(module: str, functions: Iterable[str]) -> Iterator[str]:
    """The attributes, texts and arguments in some functions, and in those of these rooms that they call."""
    seen, waiting = set(), [(module, name) for name in functions]
    while waiting:
        module, name = waiting.pop()
        node = _definitions(module).get(name)
        if (module, name) in seen or node is None:
            continue
        seen.add((module, name))
        for part in ast.walk(node):
            match part:
                case ast.Attribute(attr=found) | ast.keyword(arg=str(found)):
                    yield found
                case ast.Constant(value=str(found)):
                    yield found
                case ast.Name(id=called):
                    waiting.append(_imports(module).get(called, (module, called)))


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_bytes())


@cache
def _definitions(module: str) -> Mapping[str, ast.stmt]:
    """The functions and constants of a module, by name."""
    found: dict[str, ast.stmt] = {}
    for node in _tree(module).body:
        match node:
            case ast.FunctionDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
                found[name] = node
    return found


@cache
def _imports(module: str) -> Mapping[str, tuple[str, str]]:
    """The names that a module imports from the modules of claims and figures, with these modules."""
    found: dict[str, tuple[str, str]] = {}
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            room, _, name = node.module.removeprefix("dmf_sharpness.").partition(".")
            if room in ("claims", "figures") and name:
                found |= {a.asname or a.name: (f"{room}/{name}", a.name) for a in node.names}
    return found
