"""The table of mutants by module, beside the survivors that are explained."""

import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.operators import Mutant

EXPLAINED = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True)
class Outcome:
    """A mutant, the number of its tests, and whether all of them passed."""

    mutant: Mutant
    tests: int
    alive: bool


ANY_NUMBER = "any number"


def explanations():
    """The reasons in ``survivors.toml`` by file, line and replacement.

    For a threshold that only the speed depends on, the replacement is ``any number``.
    """
    entries = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))
    return {
        (file, entry["was"], becomes): entry["why"]
        for file, listed in entries.items()
        for entry in listed
        for becomes in (
            [entry["becomes"]] if isinstance(entry["becomes"], str) else entry["becomes"]
        )
    }


def explained(mutant, known):
    """Whether the reason is given why a mutant survives."""
    if (mutant.file, mutant.was, mutant.becomes) in known:
        return True
    same = re.sub(r"[\d\s]+", "", mutant.was) == re.sub(r"[\d\s]+", "", mutant.becomes)
    return same and (mutant.file, mutant.was, ANY_NUMBER) in known


def report(outcomes, known, only=None):
    """How many mutants of each module were killed, survived with an explanation, or without."""
    counts = {}
    for outcome in outcomes:
        if only in (None, outcome.mutant.file):
            counted = counts.setdefault(outcome.mutant.file, Counter())
            counted["mutants"] += 1
            reason = "explained" if explained(outcome.mutant, known) else "unexplained"
            counted[reason if outcome.alive else "killed"] += 1
    if only is None:
        counts["all"] = sum(counts.values(), Counter())
    head = ("mutants", "killed", "explained", "unexplained")
    lines = [f"{'module':34}" + "".join(f"{name:>13}" for name in head)] if only is None else []
    for file, counted in counts.items():
        lines.append(f"{file:34}" + "".join(f"{counted[name]:13}" for name in head))
    return "\n".join(lines)
