"""Every cross-reference of a docstring, such as :func:`dmf_sharpness.sharpness`, leads to what it names."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import dmf_sharpness

REFERENCE = re.compile(r":(\w+):`([^`]+)`")
# The test that the object behind a reference must pass, for each kind of reference.
KINDS = {
    "mod": inspect.ismodule,
    "func": lambda found: callable(found) and not inspect.isclass(found),
    "meth": lambda found: callable(found) and not inspect.isclass(found),
    "class": inspect.isclass,
    "attr": lambda found: not inspect.ismodule(found),
    "data": lambda found: not inspect.ismodule(found) and not callable(found),
}
MODULES = [
    info.name
    for info in pkgutil.walk_packages(dmf_sharpness.__path__, "dmf_sharpness.")
    if not info.name.endswith("._kernels")  # compiled code, which ctypes loads, is not a module
]


def docstrings(node: ast.AST, owner: str = "") -> Iterator[tuple[str, int, str]]:
    """The class around, the line, and the text of every docstring, those of constants included."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield owner, child.lineno, text
            case ast.ClassDef(name=name):
                yield from docstrings(child, name)
            case _:
                yield from docstrings(child, owner)


def member(holder: object, name: str) -> object:
    """An attribute; of a class also a field without a default value, which is no attribute of it.

    Raises:
        AttributeError: There is none.
    """
    if inspect.isclass(holder) and name in inspect.get_annotations(holder):
        return inspect.get_annotations(holder)[name]
    return getattr(holder, name)


def resolved(name: str, module: ModuleType, owner: str = "") -> object:
    """The object behind a name: of the class, of the module, or with its full path.

    Raises:
        LookupError: There is none.
    """
    first, *rest = name.split(".")
    starts = [getattr(module, owner)] if owner else []
    for start in [*starts, module]:
        try:
            found: object = start
            for part in (first, *rest):
                found = member(found, part)
            return found
        except AttributeError:
            continue
    return at_full_path(name)


def at_full_path(name: str) -> object:
    """The object at a path such as ``torch.nn.ParameterList``.

    Raises:
        LookupError: There is none.
    """
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
            for part in parts[length:]:
                found = member(found, part)
            # A name that the parent offers itself comes before a module of the same name.
            if length == len(parts) > 1:
                parent = importlib.import_module(".".join(parts[:-1]))
                found = getattr(parent, parts[-1], found)
            return found
        except (ImportError, AttributeError):
            continue
    raise LookupError(name)


def faults(text: str, module: ModuleType, owner: str = "") -> list[str]:
    """The references of a text that lead nowhere or to an object of another kind."""
    found = []
    for kind, name in REFERENCE.findall(text):
        try:
            target = resolved(name, module, owner)
        except LookupError:
            found.append(f":{kind}:`{name}` leads nowhere")
            continue
        if kind not in KINDS:
            found.append(f":{kind}:`{name}` is of an unknown kind")
        elif not KINDS[kind](target):
            found.append(f":{kind}:`{name}` is a {type(target).__name__}")
    return found


@pytest.mark.parametrize("name", ["dmf_sharpness", *MODULES])
def test_every_reference_in_a_docstring_leads_to_what_it_names(name: str):
    module = importlib.import_module(name)
    assert module.__file__ is not None
    source = Path(module.__file__)
    tree = ast.parse(source.read_text(encoding="utf-8"))
    wrong = [
        f"{source.name}:{line}: {fault}"
        for owner, line, text in docstrings(tree)
        for fault in faults(text, module, owner)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "see :func:`dmf_sharpness.hessian.sharpness`",  # a module, where the function is meant
        "see :mod:`dmf_sharpness.network.jets`",
        "see :func:`flattest_minimizer`",
        "see :attr:`Sharpness.curvature`",
        "see :attr:`curvature`",
        "see :class:`dmf_sharpness.sharpness`",
        "see :fun:`dmf_sharpness.sharpness`",
    ],
)
def test_a_reference_to_nothing_or_to_another_kind_is_found(text: str):
    module = importlib.import_module("dmf_sharpness.hessian.result")
    assert len(faults(text, module, "Sharpness")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "see :func:`dmf_sharpness.sharpness` and :func:`dmf_sharpness.hessian.sharpness.sharpness`",
        "see :mod:`dmf_sharpness.hessian.sharpness` and :mod:`ctypes`",
        "see :class:`torch.nn.ParameterList` and :class:`Sharpness`",
        "see :attr:`residual`, :attr:`Sharpness.value` and :attr:`Sharpness.gap`",
    ],
)
def test_a_right_reference_is_accepted(text: str):
    module = importlib.import_module("dmf_sharpness.hessian.result")
    assert not faults(text, module, "Sharpness")
