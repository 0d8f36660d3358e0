"""The options of studies: their types, ranges, defaults and meaning.

A new option is added here and nowhere else: the schema of experiment files takes its part on studies from
this module. Each study declares itself which options it takes
(:class:`dmf_sharpness.experiments.catalog.StudyOptions`).
"""

from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, TypeVar

Default = TypeVar("Default")

_TYPES = {int: "integer", float: "number", bool: "boolean"}
_LIST = tuple[float, ...]
_NAMES = tuple[str, ...]


def _option(default: Default, description: str, **limits: Any) -> Default:
    """A field with its entries in the JSON schema; the limits of a list apply to each of its items."""
    return field(default=default, metadata={"description": description, "limits": limits})


@dataclass(frozen=True)
class StudySpec:
    """The options of one study (:mod:`dmf_sharpness.studies`).

    Options that the study does not use keep their defaults.
    """

    steps: int = _option(0, "The largest number of steps of a run.", minimum=1, maximum=10**9)
    points: int = _option(0, "Points along a path.", minimum=2, maximum=100_000)
    path_length: float = _option(
        0.0, "The end of the range of t along a path.", exclusiveMinimum=0, maximum=1e6
    )
    step_ratios: tuple[float, ...] = _option(
        (), "Values of c = η λ_max / 2; 1 is the limit of stability.", minimum=1e-6, maximum=1e6
    )
    radii: tuple[float, ...] = _option(
        (), "Distances of the starts from the minimizer; 0 starts at the minimizer itself.",
        minimum=0, maximum=1e6,
    )  # fmt: skip
    momenta: tuple[float, ...] = _option(
        (0.0,), "Values of the momentum β.", minimum=0, maximum=0.999
    )
    product_ratios: tuple[float, ...] = _option(
        (), "Values at which a relative spectral product is held.", minimum=1e-6, maximum=1e6
    )
    regularizations: tuple[float, ...] = _option(
        (), "Values of μ in units of μ*, the threshold of collapse.", minimum=1e-6, maximum=1e6
    )
    starts: tuple[str, ...] = _option(
        (), "Kinds of starts of training, as dmf_sharpness.standard_start has them.",
        enum=["fan_in", "xavier", "orthogonal", "small", "identity"],
    )  # fmt: skip
    observed_share: float = _option(
        0.0, "The share of the target's entries that are observed.", exclusiveMinimum=0, maximum=1
    )
    observations: tuple[str, ...] = _option(
        (), "Which kinds of parts are observed: entries, weighted entries, as many measurements.",
        enum=["mask", "weights", "measurements"],
    )  # fmt: skip
    observed_shares: tuple[float, ...] = _option(
        (), "Shares of the target's entries that are observed.", minimum=0.01, maximum=1
    )
    repeats: int = _option(
        1, "Random starts per minimizer and step ratio.", minimum=1, maximum=100_000
    )
    samples: int = _option(
        0, "Samples of the training data, which a study draws.", minimum=2, maximum=1000
    )
    seed: int = _option(0, "Seed of what a study draws at random.", minimum=0, maximum=2**63 - 1)


NAMES = tuple(option.name for option in fields(StudySpec))
"""This tuple names all options."""
LISTS = tuple(option.name for option in fields(StudySpec) if option.type in (_LIST, _NAMES))
"""These options are lists; a study runs with every value in them."""
NAME_LISTS = tuple(option.name for option in fields(StudySpec) if option.type == _NAMES)
"""These of them are lists of names, the others are lists of numbers."""


@cache
def study_schema() -> dict[str, Any]:
    """The JSON schema of a study's section in an experiment file."""
    properties: dict[str, Any] = {}
    for option in fields(StudySpec):
        described, limits = option.metadata["description"], option.metadata["limits"]
        if option.name in LISTS:
            item = {"type": "string" if option.name in NAME_LISTS else "number", **limits}
            one = {"type": "array", "minItems": 1, "uniqueItems": True, "items": item}
        else:
            one = {"type": _TYPES[option.type], **limits}  # type: ignore[index]  # types here are classes, never names
        properties[option.name] = {"description": described, **one}
    return {"type": "object", "additionalProperties": False, "properties": properties}
