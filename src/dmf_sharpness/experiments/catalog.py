"""The catalog of all studies and figures, read from the declarations in their modules.

A study declares in ``STUDY = StudyOptions(…)`` which options it needs and takes. A figure declares in
``FIGURE = FigureInputs(…)`` which tables it draws, what it asks of the experiments, and its caption. Every
Snakemake process needs these declarations, but importing the modules would load PyTorch or Matplotlib. So
the statements are parsed and the modules are not imported, which is why a declaration may only hold literals.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import options

PACKAGE = Path(__file__).parents[1]
TABLES = ("sharpness", "bottleneck", "escape", "trajectories", "landscape", "benchmark")
"""A figure may draw artifacts of these kinds, and the tables of studies, ``studies/<name>``."""
PROPERTIES = ("factorization", "several radii")
"""A figure may ask for experiments with one of these properties, which ``experiment.py`` defines."""

_TEXTS = tuple[str, ...]
_TYPES: dict[object, str] = {_TEXTS: "a tuple of texts", bool: "True or False"}

Declared = TypeVar("Declared", "StudyOptions", "FigureInputs")


@dataclass(frozen=True)
class StudyOptions:
    """The options of a study, which are the keys of its section in an experiment file.

    Attributes:
        needs: The required options, of those in :mod:`dmf_sharpness.experiments.options`.
        takes: The options that may be left out.
        one_value: Options that are lists, but must hold a single value in this study.
        on_data: Whether the study can also run on data.
        on_large_data: Whether it forms no operator as a matrix, so that it can also run on MNIST.
        leaves: Whether its runs leave the minimizers, for which all step ratios must be above 1.
        behind_bottleneck: Whether it is a study of minimizers with a bottleneck, and of no others.
    """

    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    one_value: tuple[str, ...] = ()
    on_data: bool = False
    on_large_data: bool = False
    leaves: bool = False
    behind_bottleneck: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """All options that a section of this study may hold."""
        return (*self.needs, *self.takes)


@dataclass(frozen=True)
class FigureInputs:
    """The inputs of a figure and its caption.

    Attributes:
        tables: The kinds of artifacts that it draws, of :data:`TABLES`; ``studies/landing`` is the table of
            the study ``landing``.
        caption: The caption, in which ``{C2.value}`` and ``{C2.n}`` stand for numbers of the ledger.
        of: A further property that the experiments must have, one of :data:`PROPERTIES`, or None.
    """

    tables: tuple[str, ...]
    caption: str = ""
    of: str | None = None


@cache
def studies() -> Mapping[str, StudyOptions]:
    """All studies, by name.

    Raises:
        UserError: A module declares its study in another form; the message names the file.
    """
    return _declared(PACKAGE / "studies", "STUDY", StudyOptions, _study_problems)


@cache
def figures() -> Mapping[str, FigureInputs]:
    """All figures, by name.

    Raises:
        UserError: A module declares its figure in another form; the message names the file.
    """
    return _declared(PACKAGE / "figures", "FIGURE", FigureInputs, _figure_problems)


def _study_problems(study: StudyOptions) -> Iterator[str]:
    for key, given, known in (
        ("needs", study.needs, options.NAMES),
        ("takes", study.takes, options.NAMES),
        ("one_value", study.one_value, [name for name in options.LISTS if name in study.options]),
    ):
        for name in given:
            if name not in known:
                yield f"{key}: expected one of {list(known)}, got {name!r}"
    if study.leaves and "step_ratios" not in study.options:
        yield "leaves: expected with the option 'step_ratios' only, got True"


def _figure_problems(figure: FigureInputs) -> Iterator[str]:
    known = [*TABLES, *(f"studies/{name}" for name in studies())]
    for table in figure.tables:
        if table not in known:
            yield f"tables: expected one of {known}, got {table!r}"
    if not figure.tables:
        yield "tables: expected at least one, got none"
    if figure.of is not None and figure.of not in PROPERTIES:
        yield f"of: expected one of {list(PROPERTIES)}, got {figure.of!r}"


def _declared(
    folder: Path,
    constant: str,
    form: type[Declared],
    problems_of: Callable[[Declared], Iterator[str]],
) -> dict[str, Declared]:
    """The declarations in the modules of a folder, by the name of the module.

    Raises:
        UserError: A declaration does not have the right form, or holds something other than literals, or an
            unknown name; the message names the file and the key.
    """
    start = re.compile(rf"^{constant}\b *[:=]", re.MULTILINE)
    found = {}
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        first = start.search(text)
        if first is None:
            continue
        given = _literals(_first_statement(text[first.start() :]), form)
        if given is None:
            example = f"{constant} = {form.__name__}({fields(form)[0].name}=…)"
            raise UserError(
                f"{path}: {constant}: expected {example} with literals, got another statement"
            )
        for problem in _form_problems(given, form):
            raise UserError(f"{path}: {constant}.{problem}")
        found[path.stem] = form(**given)
        for problem in problems_of(found[path.stem]):
            raise UserError(f"{path}: {constant}.{problem}")
    return found


def _first_statement(text: str) -> ast.stmt | None:
    """The first statement of a text; to parse the whole module would take ten times as long."""
    lines = text.splitlines()
    for count in range(1, len(lines) + 1):
        try:
            return ast.parse("\n".join(lines[:count])).body[0]
        except SyntaxError:
            continue
    return None


def _literals(statement: ast.stmt | None, form: type[Declared]) -> dict[str, Any] | None:
    """The keyword arguments of ``NAME = Form(key=literal, …)``; None for any other statement."""
    match statement:
        case ast.Assign(value=ast.Call(func=ast.Name(id=name), args=[], keywords=keywords)):
            with suppress(ValueError):
                if name == form.__name__ and all(keyword.arg for keyword in keywords):
                    return {str(k.arg): ast.literal_eval(k.value) for k in keywords}
    return None


def _form_problems(given: Mapping[str, object], form: type[Declared]) -> Iterator[str]:
    """Faults of a declaration: unknown or missing arguments, and arguments of a wrong type."""
    known = {field.name: field for field in fields(form)}
    for key, value in given.items():
        if key not in known:
            yield f"{key}: expected one of the keys {list(known)}, got another one"
        elif not _has_type(value, known[key].type):
            yield f"{key}: expected {_TYPES.get(known[key].type, 'a text')}, got {value!r}"
    for key, field in known.items():
        if key not in given and field.default is MISSING:
            yield f"{key}: missing, expected {_TYPES.get(field.type, 'a text')}"


def _has_type(value: object, wanted: object) -> bool:
    if wanted == _TEXTS:
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    return isinstance(value, bool if wanted is bool else str)
