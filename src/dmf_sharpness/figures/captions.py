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

NUMBERS = ("value", "n", "problems")
"""The columns of the ledger that a caption can name."""


def figures_of(claim: str) -> list[str]:
    """The figures that show a claim, which are those whose captions name it."""
    return [
        name
        for name, figure in catalog.figures().items()
        if claim in {number.rpartition(".")[0] for number in _NUMBER.findall(figure.caption)}
    ]


def caption(figure: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The caption of a figure with the numbers of the ledger; a dash for those of a claim that is not in it.

    A claim is not in the ledger if its experiment is not in the configuration.

    Args:
        figure: Its name.
        rows: The ledger.

    Raises:
        UserError: The caption names what is not a number of a claim.
    """
    claims = {row["id"]: row for row in rows}

    def number(named: re.Match[str]) -> str:
        claim, _, column = named[1].rpartition(".")
        if not claim or column not in NUMBERS:
            raise UserError(
                f"the caption of {figure}: expected numbers of claims, such as {{C1.any.value}} or "
                f"{{C1.any.n}}, got {named[0]}"
            )
        if claim not in claims:
            return "–"
        found = claims[claim][column]
        return format_number(found) if column == "value" else str(found)

    return _NUMBER.sub(number, catalog.figures()[figure].caption)
