"""Checks of the configuration and of experiment files; a fault is one line, ``key: expected …, got …``.

This module imports no torch, because every Snakemake process reads the experiment files.
"""

import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dmf_sharpness.artifacts.yaml_files import Schema, key_of, read_schema, schema_problems
from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import catalog
from dmf_sharpness.experiments.data_sets import DATA_SETS, data_problems, target_problems
from dmf_sharpness.experiments.options import LISTS, NAME_LISTS, study_schema

SCHEMAS = Path(__file__).with_name("schemas")
MOST_PARAMETERS = 10_000
"""A network may have this many parameters, because its dense Hessian is computed, which then takes 800 MB."""
MOST_MATRIX_FREE = 10_000_000
"""A network on a large data set may have this many, because no matrix of that order is formed for it."""
MOST_NUMBERS = 2_000_000_000
"""A stage may hold this many numbers in memory at once, which take 16 GB."""
BOTTLENECKED = (
    "bottlenecked",
    "bottlenecked_balanced",
    "bottlenecked_flat",
    "underestimated",
    "overestimated",
)
"""Minimizers of these kinds have a layer narrower than the target's rank, and therefore a residual."""


@cache
def config_schema() -> Schema:
    """The schema of the configuration, in which ``figures`` accepts the figures of the catalog."""
    schema = copy.deepcopy(dict(read_schema(SCHEMAS / "config.yaml")))
    drawn = [name for name, figure in catalog.figures().items() if "benchmark" not in figure.tables]
    schema["properties"]["figures"]["items"] = {"enum": drawn}
    return schema


@cache
def experiment_schema() -> Schema:
    """The schema of an experiment, in which ``studies`` accepts the studies of the catalog."""
    schema = copy.deepcopy(dict(read_schema(SCHEMAS / "experiment.yaml")))
    schema["$defs"] = {"study": study_schema()}
    studies = {name: {"$ref": "#/$defs/study"} for name in catalog.studies()}
    schema["properties"]["studies"]["properties"] = studies
    return schema


def check_config(content: Any) -> None:
    """Check the pipeline's configuration by itself, without the experiments that it names.

    Raises:
        UserError: The configuration has a fault; the message does not name the file.
    """
    _raise_first(schema_problems(content, config_schema()))
    for name in content.get("replicas", {}):
        if name not in content["experiments"]:
            raise UserError(f"replicas.{name}: expected one of the experiments, got {name!r}")


def check_experiment(content: Any) -> None:
    """Check the content of an experiment file, by its schema and by rules that a schema cannot express.

    Raises:
        UserError: The content has a fault; the message does not name the file.
    """
    _raise_first(schema_problems(content, experiment_schema()))
    _raise_first(_problems(content))


def _raise_first(problems: Iterator[str]) -> None:
    problem = next(problems, None)
    if problem is not None:
        raise UserError(problem)


def _not_finite(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str, object]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield key_of(path), value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, (*path, str(key)))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _not_finite(item, (*path, i))


def _problems(content: Mapping[str, Any]) -> Iterator[str]:
    """Faults that a JSON schema cannot express, because they concern several keys at once."""
    for key, value in _not_finite(content):
        yield f"{key}: expected a finite number, got {value}"

    # The target, by itself.
    target = content["target"]
    explicit = target["kind"] == "explicit"
    if ("singular_values" in target) != (target["kind"] == "spectrum"):
        expected = "a list" if target["kind"] == "spectrum" else "none"
        got = target.get("singular_values", "none")
        yield f"target.singular_values: expected {expected} for kind {target['kind']!r}, got {got}"
    yield from target_problems(target)
    if target["kind"] not in ("gaussian", "spectrum") and target.get("count", 1) != 1:
        yield f"target.count: expected 1 for target.kind {target['kind']!r}, got {target['count']}"

    # The networks, which must suit the target and the kinds of minimizers.
    kinds = [spec["kind"] for spec in content["minimizers"]]
    narrow = not set(BOTTLENECKED).isdisjoint(kinds)
    if narrow:
        yield from _bottleneck_problems(content, kinds)
    for k, network in enumerate(content["networks"]):
        own = "singular_values" in network
        if own and target["kind"] != "spectrum":
            key = f"networks[{k}].singular_values"
            yield f"{key}: expected with target.kind 'spectrum' only, got {target['kind']!r}"
        values = (network if own else target).get("singular_values")
        rank = None if values is None else len(values)
        yield from _network_problems(f"networks[{k}]", network, target["kind"], narrow, rank)
        yield from _boundary_problems(f"networks[{k}].widths", network["widths"], kinds, values)
        yield from _size_problems(f"networks[{k}]", network["widths"], content)

    # Each study and each kind of minimizer.
    for name, study in content.get("studies", {}).items():
        yield from _study_problems(f"studies.{name}", name, study, target["kind"], narrow)
    for k, spec in enumerate(content["minimizers"]):
        yield from _minimizer_problems(f"minimizers[{k}]", spec, explicit)

    if target["kind"] in DATA_SETS and DATA_SETS[target["kind"]].large and "escape" in content:
        yield f"escape: expected none with target.kind {target['kind']!r}, which is too large, got a section"

    # The contour map, which shows recorded paths of the escape stage.
    if "landscape" in content and "escape" not in content:
        yield "landscape: expected with an escape section, whose paths it maps, got none"
    recorded = content.get("escape", {}).get("recorded")
    if "landscape" in content and recorded is None:
        yield "escape.recorded: missing, expected a kind of minimizer whose landscape to map"
    if recorded is not None and recorded not in kinds:
        yield f"escape.recorded: expected a kind among the minimizers {kinds}, got {recorded!r}"


def _boundary_problems(
    key: str, widths: Sequence[int], kinds: Sequence[str], values: Sequence[float] | None
) -> Iterator[str]:
    """Faults of widths that do not suit the kinds at the boundary of the flatness condition."""
    hidden = widths[1:-1]
    if "equal_sharp" in kinds and (len(set(hidden)) > 1 or hidden[0] <= widths[0]):
        yield (
            f"{key}: expected equal hidden widths above d_0 = {widths[0]} for kind "
            f"'equal_sharp', got {widths}"
        )
    rank = min(widths[0], widths[-1]) if values is None else len(values)
    if "flat_live" in kinds and set(hidden) != {rank}:
        yield (
            f"{key}: expected hidden widths of {rank}, the target's rank, for kind 'flat_live', "
            f"got {widths}"
        )
    if "unequal_flat" in kinds and (len(hidden) < 2 or max(widths[0], widths[-1]) < 2):
        yield (
            f"{key}: expected depth 3 or more and one end of at least 2 for kind 'unequal_flat', "
            f"got {widths}"
        )
    if "flat_unbalanced" in kinds and _is_balance_necessary(widths, values):
        yield (
            f"{key}: expected widths and singular values with which flat minimizers need not be "
            f"balanced, for kind 'flat_unbalanced', got {widths}"
        )
    for kind, outer in (("underestimated", hidden[:1]), ("overestimated", [hidden[0], hidden[-1]])):
        if kind in kinds and (len(hidden) <= len(outer) or min(outer) < 2 or min(hidden) > 1):
            ends = (
                "first hidden width" if kind == "underestimated" else "first and last hidden width"
            )
            yield (
                f"{key}: expected depth {len(outer) + 2} or more, the {ends} of at least 2 and the "
                f"least of 1 for kind '{kind}', got {widths}"
            )


def _is_balance_necessary(widths: Sequence[int], values: Sequence[float] | None) -> bool:
    """As ``dmf_sharpness.balance_is_necessary``, for these singular values or those of a Gaussian matrix."""
    rank = min(widths[0], widths[-1]) if values is None else len(values)
    equal = rank == 1 if values is None else min(values) >= (1 - 1e-9) * max(values)
    ends = (widths[:2], widths[-2:])
    return len(widths) == 3 or (equal and all(min(end) <= rank for end in ends))


def _bottleneck_problems(content: Mapping[str, Any], kinds: Sequence[str]) -> Iterator[str]:
    """Faults of experiments with a bottleneck, in which other minimizers, runs and studies make no sense."""
    if not set(kinds) <= set(BOTTLENECKED):
        yield f"minimizers: expected all or none of the kinds {list(BOTTLENECKED)}, got {kinds}"
    if content["target"]["kind"] != "gaussian":
        kind = content["target"]["kind"]
        yield f"target.kind: expected 'gaussian' with bottlenecked minimizers, got {kind!r}"
    if content.get("escape"):
        yield "escape: expected none with bottlenecked minimizers, got a section"


def _network_problems(
    key: str, network: Mapping[str, Any], kind: str, narrow: bool, given_rank: int | None = None
) -> Iterator[str]:
    widths = network["widths"]
    yield from data_problems(key, network, kind)
    if (kind == "explicit") != ("factors" in network):
        need = "a list of matrices" if kind == "explicit" else f"none for target.kind {kind!r}"
        got = "none" if kind == "explicit" else "a list"
        yield f"{key}.factors: expected {need}, got {got}"
        return
    if kind == "explicit":
        yield from _factor_problems(f"{key}.factors", network["factors"], widths)
        return
    # A Gaussian matrix has full rank, and so has a photograph.
    full = min(widths[0], widths[-1])
    rank = given_rank or (DATA_SETS[kind].rank(network) if kind in DATA_SETS else full)
    if rank > min(widths[0], widths[-1]):
        yield (
            f"target.singular_values: expected at most {min(widths[0], widths[-1])} for widths "
            f"{widths}, got {rank}"
        )
    if narrow:
        if min(widths[1:-1]) >= rank:
            yield (
                f"{key}.widths: expected a hidden width below {rank}, the target's rank, with "
                f"bottlenecked minimizers, got {widths}"
            )
        return
    for i, width in enumerate(widths[1:-1], 1):
        if width < rank:
            yield (
                f"{key}.widths[{i}]: expected a hidden width of at least {rank}, the target's rank, "
                f"so that the factors can reach it, got {width}"
            )


def _factor_problems(
    key: str, factors: Sequence[Sequence[Sequence[float]]], widths: Sequence[int]
) -> Iterator[str]:
    """Faults of explicit factors, which must fit the widths and have a nonzero product."""
    for i, matrix in enumerate(factors):
        shape = (len(matrix), len(matrix[0]) if matrix else 0)
        if len({len(row) for row in matrix}) > 1:
            yield f"{key}[{i}]: expected rows of one length, got a ragged matrix"
        elif i + 1 >= len(widths) or shape != (widths[i + 1], widths[i]):
            expected = (widths[i + 1], widths[i]) if i + 1 < len(widths) else "none"
            yield f"{key}[{i}]: expected shape {expected}, got {shape}"
    if len(factors) != len(widths) - 1:
        yield f"{key}: expected {len(widths) - 1} matrices, got {len(factors)}"
        return
    product = factors[0]
    for matrix in factors[1:]:
        columns = list(zip(*product, strict=True))
        product = [
            [sum(a * b for a, b in zip(row, column, strict=True)) for column in columns]
            for row in matrix
        ]
    if not any(any(row) for row in product):
        yield f"{key}: expected a product that is not zero, got zero"


def _size_problems(key: str, widths: Sequence[int], content: Mapping[str, Any]) -> Iterator[str]:
    """Sizes that do not fit into memory, refused here because otherwise a job would die in the middle."""
    parameters = sum(a * b for a, b in itertools.pairwise(widths))
    kind = content["target"]["kind"]
    large = kind in DATA_SETS and DATA_SETS[kind].large
    most = MOST_MATRIX_FREE if large else MOST_PARAMETERS
    if parameters > most:
        reason = "" if large else ", whose dense Hessian the closed form is held against"
        yield f"{key}.widths: expected at most {most} parameters{reason}, got {parameters}"
    each = sum(spec.get("count", 1) for spec in content["minimizers"])
    batch = each * content["target"].get("count", 1)
    numbers = batch * (parameters if large else max(parameters, (widths[0] * widths[-1]) ** 2))
    if numbers > MOST_NUMBERS:
        yield (
            f"{key}: expected minimizers and operators of at most {MOST_NUMBERS} numbers, "
            f"got {numbers} for {batch} minimizers"
        )
    sections = {"escape": content.get("escape")} | {
        f"studies.{name}": study for name, study in content.get("studies", {}).items()
    }
    for name, section in sections.items():
        if section is None:
            continue
        starts = min(section["minimizers"], batch) if name == "escape" else batch
        for axis in LISTS:
            starts *= len(section.get(axis, [0]))
        starts *= section.get("repeats", 1)
        # The escape stage keeps a few numbers of every step; most studies observe every tenth step.
        steps = section.get("steps", section.get("points", 1))
        numbers = starts * (4 * steps if name == "escape" else steps)
        if numbers > 10 * MOST_NUMBERS:
            yield (
                f"{name}: expected at most {10 * MOST_NUMBERS} steps in all, got {numbers} "
                f"from {starts} starts of network {key}"
            )


_OPTIONS = {
    "spread": ("random", "bottlenecked", "bottlenecked_flat", "equal_flat", "unequal_flat"),
    "frobenius_imbalance": ("flat",),
    "sharpness_ratio": ("prescribed",),
    "sharpness_ratio_to": ("prescribed",),
    "product_ratio": ("equal_sharp",),
}


def _minimizer_problems(key: str, spec: Mapping[str, Any], explicit: bool) -> Iterator[str]:
    if (spec["kind"] == "explicit") != explicit:
        expected = "'explicit' with" if explicit else "a kind other than 'explicit' without"
        yield f"{key}.kind: expected {expected} an explicit target, got {spec['kind']!r}"
    for option, kinds in _OPTIONS.items():
        if option in spec and spec["kind"] not in kinds:
            allowed = " or ".join(map(repr, kinds))
            yield f"{key}.{option}: expected with kind {allowed} only, got {spec['kind']!r}"
    for kind, option in (("prescribed", "sharpness_ratio"), ("equal_sharp", "product_ratio")):
        if spec["kind"] == kind and option not in spec:
            yield f"{key}.{option}: missing, expected a number of at least 1"
    if explicit and spec.get("count", 1) != 1:
        yield f"{key}.count: expected 1 for explicit factors, got {spec['count']}"


def _study_problems(
    key: str, name: str, study: Mapping[str, Any], kind: str, narrow: bool
) -> Iterator[str]:
    declared = catalog.studies()[name]
    if narrow != declared.behind_bottleneck:
        others = "none with" if narrow else "only with"
        yield f"{key}: expected {others} bottlenecked minimizers, got a section"
    if kind in DATA_SETS and not declared.on_data:
        yield f"{key}: expected none with target.kind {kind!r}, got a section"
    elif kind in DATA_SETS and DATA_SETS[kind].large and not declared.on_large_data:
        yield f"{key}: expected none with target.kind {kind!r}, which is too large, got a section"
    for option in declared.needs:
        if option not in study:
            items = "names" if option in NAME_LISTS else "numbers"
            expected = f"a list of {items}" if option in LISTS else "a number"
            yield f"{key}.{option}: missing, expected {expected}"
    for option in study:
        if option not in declared.options:
            yield f"{key}.{option}: expected none, which this study has no use for, got a value"
    for option in declared.one_value:
        given = study.get(option, ())
        if len(given) > 1:
            yield f"{key}.{option}: expected one number, got {len(given)}"
    for i, ratio in enumerate(study.get("step_ratios", ()) if declared.leaves else ()):
        if ratio <= 1:
            yield (
                f"{key}.step_ratios[{i}]: expected a number above 1, from where gradient "
                f"descent leaves, got {ratio}"
            )
