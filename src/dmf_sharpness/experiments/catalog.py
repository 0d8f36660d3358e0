"""The studies and the figures that there are, as their own modules declare them.

A study says in ``STUDY = StudyOptions(…)`` which options it needs and takes, a figure in ``FIGURE =
FigureInputs(…)`` which tables it draws, what it asks of the experiments, and its caption. The statements
are read and not
imported: every Snakemake process asks for them, and the modules themselves need PyTorch or Matplotlib.
So they hold literals alone.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

PACKAGE = Path(__file__).parents[1]

Declared = TypeVar("Declared", "StudyOptions", "FigureInputs")


@dataclass(frozen=True)
class StudyOptions:
    """The options of a study, which are the keys of its section in an experiment file.

    Attributes:
        needs: Options that it cannot do without.
        takes: Options that it takes besides.
        one_value: Lists among them of which it uses one value.
        on_data: Whether it runs on data, too, where the flat limit has no closed form.
        leaves: Whether its runs leave the minimizers, which takes step ratios above 1.
    """

    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    one_value: tuple[str, ...] = ()
    on_data: bool = False
    leaves: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """All that a section of this study may hold."""
        return (*self.needs, *self.takes)


@dataclass(frozen=True)
class FigureInputs:
    """The inputs of a figure and its caption.

    Attributes:
        tables: Kinds of artifacts that it draws; ``studies/landing`` is the table of a study.
        caption: What it shows, with the numbers of the ledger as ``{C2.value}`` and ``{C2.n}``.
        of: Some further property of the experiments, one of :data:`PROPERTIES` in
            :mod:`dmf_sharpness.experiments.experiment`.
    """

    tables: tuple[str, ...]
    caption: str = ""
    of: str | None = None


@cache
def studies() -> Mapping[str, StudyOptions]:
    """All studies, by name."""
    return _declared(PACKAGE / "studies", "STUDY", StudyOptions)


@cache
def figures() -> Mapping[str, FigureInputs]:
    """All figures, by name."""
    return _declared(PACKAGE / "figures", "FIGURE", FigureInputs)


def _declared(folder: Path, constant: str, form: type[Declared]) -> dict[str, Declared]:
    """What the modules of a folder declare, by the name of the module.

    Raises:
        ValueError: A declaration is no call of the form with literals; the message names the file.
    """
    # Only the statement itself is parsed: it ends with the first bracket at the start of a line.
    statement = re.compile(
        rf"^{constant} = {form.__name__}\((?:.*?^\)$|[^\n]*\)$)", re.MULTILINE | re.DOTALL
    )
    found = {}
    for path in sorted(folder.glob("*.py")):
        written = statement.search(path.read_text(encoding="utf-8"))
        if written is None:
            continue
        try:
            (assignment,) = ast.parse(written[0]).body
            assert isinstance(assignment, ast.Assign)
            assert isinstance(assignment.value, ast.Call)
            options = {str(k.arg): ast.literal_eval(k.value) for k in assignment.value.keywords}
            found[path.stem] = form(**options)
        except (SyntaxError, ValueError, TypeError) as error:
            raise ValueError(
                f"{path}: expected {constant} = {form.__name__}(…) with literals, got: {error}"
            ) from None
    return found
