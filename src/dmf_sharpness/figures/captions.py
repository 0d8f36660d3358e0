"""The captions of figures, whose numbers are read from the ledger."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dmf_sharpness.claims.ledger import format_number
from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import catalog

_NUMBER = re.compile(r"(?<!\^)\{([^{}]*)\}")
"""``{C2.value}`` is the statistic of a claim, ``{C2.n}`` the size of its sample, ``{C2.problems}`` the number
of problems in it; ``^{…}`` is an exponent."""


def figures_of(claim: str) -> list[str]:
    """The figures that show a claim, which are those whose captions name it."""
    return [
        name
        for name, figure in catalog.figures().items()
        if claim in {number.rpartition(".")[0] for number in _NUMBER.findall(figure.caption)}
    ]


def caption(figure: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The caption of a figure with the numbers of the ledger.

    Args:
        figure: Its name.
        rows: The ledger.

    Raises:
        UserError: The caption names a number that is not in the ledger.
    """
    numbers = {f"{row['id']}.value": format_number(row["value"]) for row in rows}
    for count in ("n", "problems"):
        numbers |= {f"{row['id']}.{count}": str(row[count]) for row in rows}

    def number(named: re.Match[str]) -> str:
        if named[1] not in numbers:
            raise UserError(
                f"the caption of {figure}: expected numbers of claims in the ledger, such as "
                f"{{{next(iter(numbers), 'C1.value')}}}, got {named[0]}"
            )
        return numbers[named[1]]

    return _NUMBER.sub(number, catalog.figures()[figure].caption)
