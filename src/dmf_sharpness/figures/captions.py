"""What each figure shows and which claim it bears on; every number is read from the ledger."""

from collections.abc import Sequence
from typing import Any

from dmf_sharpness.claims.ledger import format_number
from dmf_sharpness.experiments import catalog


def figures_of(claim: str) -> list[str]:
    """The figures that bear on a claim: those whose captions name it."""
    named = (f"{{{claim}.value}}", f"{{{claim}.n}}")
    return [
        name
        for name, figure in catalog.figures().items()
        if any(number in figure.caption for number in named)
    ]


def caption(figure: str, rows: Sequence[dict[str, Any]]) -> str:
    """The caption of a figure with the numbers of the ledger.

    Raises:
        KeyError: The figure has no caption, or it names a claim that is not in the ledger.
    """
    text = catalog.figures()[figure].caption
    for row in rows:
        text = text.replace(f"{{{row['id']}.value}}", format_number(row["value"]))
        text = text.replace(f"{{{row['id']}.n}}", str(row["n"]))
    if "{" in text:
        raise KeyError(f"the caption of {figure} names a claim that is not in the ledger: {text}")
    return text
