"""An experiment file, parsed and validated into a frozen dataclass.

Every Snakemake process reads the experiment files, so this module imports no torch.
"""

import difflib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from dmf_sharpness.errors import UserError


@dataclass(frozen=True)
class TargetSpec:
    """What the factors multiply to."""

    kind: str
    count: int = 1
    singular_values: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Network:
    """Widths ``d_0 … d_L``; whitened inputs (of digits); the factors where the target is explicit."""

    widths: tuple[int, ...]
    whitened: bool = False
    factors: tuple[tuple[tuple[float, ...], ...], ...] | None = None


@dataclass(frozen=True)
class MinimizerSpec:
    """A kind of minimizer and how many of it to make for each target."""

    kind: str
    count: int = 1
    spread: float = 0.3
    frobenius_imbalance: float | None = None
    sharpness_ratio: float | None = None
    sharpness_ratio_to: float | None = None
    product_ratio: float | None = None

    def ratio_of(self, number: int) -> float:
        """``λ_max / λ_flat`` of the prescribed minimizer of this number: spaced evenly in the logarithm."""
        assert self.sharpness_ratio is not None
        if self.sharpness_ratio_to is None or self.count == 1:
            return self.sharpness_ratio
        growth = self.sharpness_ratio_to / self.sharpness_ratio
        return self.sharpness_ratio * growth ** (number / (self.count - 1))


@dataclass(frozen=True)
class EscapeSpec:
    """Starts and step sizes of the gradient-descent runs."""

    minimizers: int
    step_ratios: tuple[float, ...]
    radii: tuple[float, ...]
    steps: int
    recorded: str | None = None


@dataclass(frozen=True)
class StudySpec:
    """One study of the escape (:mod:`dmf_sharpness.studies`); what a study has no use for is empty.

    Attributes:
        steps: Most steps of a run.
        step_ratios: Values of ``c = η λ_max / 2``.
        radii: Distances of the starts from the minimizer.
        momenta: Values of the momentum ``β``.
        product_ratios: Values at which a relative spectral product is held.
        regularizations: Values of ``μ`` over the threshold ``μ*`` of collapse.
        repeats: Random starts per minimizer and step ratio.
        seed: Seed of the random starts.
    """

    steps: int
    step_ratios: tuple[float, ...] = ()
    radii: tuple[float, ...] = ()
    momenta: tuple[float, ...] = (0.0,)
    product_ratios: tuple[float, ...] = ()
    regularizations: tuple[float, ...] = ()
    repeats: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Experiment:
    """One experiment file.

    Attributes:
        name: The file's name without ``.yaml``.
        description: What it is for, one or two sentences.
        seed: Seed of everything random in it.
        studies: Studies of the escape, by name.
        digest: SHA-256 of the parsed content: comments and layout do not count.
        landscape_points: Grid points along an axis of the contour map; None draws none.
    """

    name: str
    description: str
    seed: int
    target: TargetSpec
    networks: tuple[Network, ...]
    minimizers: tuple[MinimizerSpec, ...]
    escape: EscapeSpec | None
    landscape_points: int | None
    studies: Mapping[str, StudySpec]
    digest: str

    @property
    def bottlenecked(self) -> bool:
        """Whether its minimizers have a layer narrower than the target's rank, and so a residual."""
        return all(spec.kind == "bottlenecked" for spec in self.minimizers)

    @property
    def identity(self) -> dict[str, Any]:
        """The header entries that tie an artifact to this experiment."""
        return {"experiment": self.name, "digest": self.digest}


@cache
def _schema(name: str) -> dict[str, Any]:
    text = files("dmf_sharpness").joinpath(f"schemas/{name}.yaml").read_text(encoding="utf-8")
    schema: dict[str, Any] = yaml.safe_load(text)
    return schema


def _key(path: Sequence[str | int]) -> str:
    key = ""
    for part in path:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key or "the file"


_EXPECTATIONS = {
    "minimum": "a number of at least {}",
    "exclusiveMinimum": "a number above {}",
    "type": "a value of type {}",
    "enum": "one of {}",
    "minItems": "at least {} entries",
    "minLength": "a text of at least {} characters",
    "uniqueItems": "no entry twice",
    "pattern": "a name that matches {}",
}


def _describe(error: jsonschema.ValidationError) -> str:
    """One line: the key, what was expected, what was given."""
    path = list(error.absolute_path)
    schema: Any = error.schema
    allowed: Any = error.validator_value
    given: Any = error.instance
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        unknown = next(key for key in given if key not in known)
        close = difflib.get_close_matches(str(unknown), known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return f"{_key([*path, str(unknown)])}: unknown key, expected one of {known}{hint}"
    if error.validator == "required":
        missing = next(key for key in allowed if key not in given)
        return f"{_key([*path, missing])}: missing, expected a value"
    expectation = _EXPECTATIONS.get(str(error.validator), f"{error.validator} {{}}")
    return f"{_key(path)}: expected {expectation.format(allowed)}, got {given!r}"


def _check_schema(path: Path, content: object, schema: str) -> None:
    validator = jsonschema.Draft202012Validator(_schema(schema))
    error = jsonschema.exceptions.best_match(validator.iter_errors(content))
    if error is not None:
        raise UserError(f"{path}: {_describe(error)}")


def _load_yaml(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: expected a YAML file, got no such file")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: expected valid YAML, got an error: {reason}") from None


def _not_finite(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield _key(path), value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, (*path, str(key)))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _not_finite(item, (*path, i))


def _problems(content: Mapping[str, Any]) -> Iterator[str]:
    """What a JSON schema cannot say, as ``key: expected …, got …``."""
    for key, value in _not_finite(content):
        yield f"{key}: expected a finite number, got {value}"
    target = content["target"]
    explicit = target["kind"] == "explicit"
    if ("singular_values" in target) != (target["kind"] == "spectrum"):
        expected = "a list" if target["kind"] == "spectrum" else "none"
        got = target.get("singular_values", "none")
        yield f"target.singular_values: expected {expected} for kind {target['kind']!r}, got {got}"
    if target["kind"] not in ("gaussian", "spectrum") and target.get("count", 1) != 1:
        yield f"target.count: expected 1 for target.kind {target['kind']!r}, got {target['count']}"
    kinds = [spec["kind"] for spec in content["minimizers"]]
    narrow = "bottlenecked" in kinds
    if narrow:
        yield from _bottleneck_problems(content, kinds)
    for k, network in enumerate(content["networks"]):
        rank = len(target["singular_values"]) if "singular_values" in target else None
        yield from _network_problems(f"networks[{k}]", network, target["kind"], narrow, rank)
        yield from _boundary_problems(f"networks[{k}].widths", network["widths"], kinds)
    yield from _study_problems(content.get("studies", {}), target["kind"])
    for k, spec in enumerate(content["minimizers"]):
        yield from _minimizer_problems(f"minimizers[{k}]", spec, explicit)
    if "landscape" in content and "escape" not in content:
        yield "landscape: expected with an escape section, whose paths it maps, got none"
    recorded = content.get("escape", {}).get("recorded")
    if "landscape" in content and recorded is None:
        yield "escape.recorded: missing, expected a kind of minimizer whose landscape to map"
    if recorded is not None and recorded not in kinds:
        yield f"escape.recorded: expected a kind among the minimizers {kinds}, got {recorded!r}"


def _boundary_problems(key: str, widths: Sequence[int], kinds: Sequence[str]) -> Iterator[str]:
    """Widths that the constructions at the boundary of the flatness condition need."""
    hidden = widths[1:-1]
    if "equal_products" in kinds and (len(set(hidden)) > 1 or hidden[0] <= widths[0]):
        yield (
            f"{key}: expected equal hidden widths above d_0 = {widths[0]} for kind "
            f"'equal_products', got {widths}"
        )
    for kind, end in (("unbalanced_flat", min), ("unequal_flat", max)):
        if kind in kinds and (len(hidden) < 2 or end(widths[0], widths[-1]) < 2):
            ends = "both ends" if end is min else "one end"
            yield (
                f"{key}: expected depth 3 or more and {ends} of at least 2 for kind "
                f"'{kind}', got {widths}"
            )


def _bottleneck_problems(content: Mapping[str, Any], kinds: Sequence[str]) -> Iterator[str]:
    """A bottleneck is an experiment of its own: what holds elsewhere does not hold there."""
    if set(kinds) != {"bottlenecked"}:
        yield f"minimizers: expected all or none of kind 'bottlenecked', got {kinds}"
    if content["target"]["kind"] != "gaussian":
        kind = content["target"]["kind"]
        yield f"target.kind: expected 'gaussian' with bottlenecked minimizers, got {kind!r}"
    if "escape" in content:
        yield "escape: expected none with bottlenecked minimizers, got a section"


def _network_problems(
    key: str, network: Mapping[str, Any], kind: str, narrow: bool, given_rank: int | None = None
) -> Iterator[str]:
    widths = network["widths"]
    if kind != "digits" and "whitened" in network:
        yield f"{key}.whitened: expected with target.kind 'digits' only, got {kind!r}"
    if (kind == "explicit") != ("factors" in network):
        need = "a list of matrices" if kind == "explicit" else f"none for target.kind {kind!r}"
        got = "none" if kind == "explicit" else "a list"
        yield f"{key}.factors: expected {need}, got {got}"
        return
    if kind == "explicit":
        for i, matrix in enumerate(network["factors"]):
            shape = (len(matrix), len(matrix[0]) if matrix else 0)
            if len({len(row) for row in matrix}) > 1:
                yield f"{key}.factors[{i}]: expected rows of one length, got a ragged matrix"
            elif i + 1 >= len(widths) or shape != (widths[i + 1], widths[i]):
                expected = (widths[i + 1], widths[i]) if i + 1 < len(widths) else "none"
                yield f"{key}.factors[{i}]: expected shape {expected}, got {shape}"
        if len(network["factors"]) != len(widths) - 1:
            count = len(network["factors"])
            yield f"{key}.factors: expected {len(widths) - 1} matrices, got {count}"
        return
    if kind == "digits" and (widths[0], widths[-1]) != (64, 10):
        yield f"{key}.widths: expected 64 inputs and 10 outputs for digits, got {widths}"
    # A Gaussian matrix has full rank; the classes of the digits, centred, have rank 9.
    rank = given_rank or (9 if kind == "digits" else min(widths[0], widths[-1]))
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


_OPTIONS = {
    "spread": ("random", "bottlenecked", "balanced_products", "unequal_flat"),
    "frobenius_imbalance": ("flat",),
    "sharpness_ratio": ("prescribed",),
    "sharpness_ratio_to": ("prescribed",),
    "product_ratio": ("equal_products",),
}


_STUDY_NEEDS = {
    "necessity": "product_ratios",
    "paths": "radii",
    "regularized": "regularizations",
    "structure": None,
    "flattest": None,
}
"""The studies of flatness, of matrix factorization only, and the option that each cannot do without."""


def _study_problems(studies: Mapping[str, Any], kind: str) -> Iterator[str]:
    for name, option in _STUDY_NEEDS.items():
        if name in studies and kind == "digits":
            yield f"studies.{name}: expected none with target.kind 'digits', got a section"
        if name in studies and option is not None and option not in studies[name]:
            yield f"studies.{name}.{option}: missing, expected a list of numbers"


def _minimizer_problems(key: str, spec: Mapping[str, Any], explicit: bool) -> Iterator[str]:
    if (spec["kind"] == "explicit") != explicit:
        expected = "'explicit' with" if explicit else "a kind other than 'explicit' without"
        yield f"{key}.kind: expected {expected} an explicit target, got {spec['kind']!r}"
    for option, kinds in _OPTIONS.items():
        if option in spec and spec["kind"] not in kinds:
            allowed = " or ".join(map(repr, kinds))
            yield f"{key}.{option}: expected with kind {allowed} only, got {spec['kind']!r}"
    for kind, option in (("prescribed", "sharpness_ratio"), ("equal_products", "product_ratio")):
        if spec["kind"] == kind and option not in spec:
            yield f"{key}.{option}: missing, expected a number of at least 1"
    if explicit and spec.get("count", 1) != 1:
        yield f"{key}.count: expected 1 for explicit factors, got {spec['count']}"


def load_experiment(path: Path) -> Experiment:
    """Read and validate an experiment file.

    Raises:
        UserError: The file is missing, is no YAML, or asks for what cannot be had; the message is
            one line with the file, the key, what was expected and what was given.
    """
    content = _load_yaml(path)
    _check_schema(path, content, "experiment")
    problem = next(_problems(content), None)
    if problem is not None:
        raise UserError(f"{path}: {problem}")

    def deep_tuple(value: Any) -> Any:
        return tuple(deep_tuple(item) for item in value) if isinstance(value, list) else value

    def spec(section: Mapping[str, Any]) -> dict[str, Any]:
        return {key: deep_tuple(value) for key, value in section.items()}

    canonical = json.dumps({**content, "name": path.stem}, sort_keys=True)
    landscape = content.get("landscape")
    return Experiment(
        name=path.stem,
        description=content["description"].strip(),
        seed=content["seed"],
        target=TargetSpec(**spec(content["target"])),
        networks=tuple(Network(**spec(network)) for network in content["networks"]),
        minimizers=tuple(MinimizerSpec(**spec(item)) for item in content["minimizers"]),
        escape=EscapeSpec(**spec(content["escape"])) if "escape" in content else None,
        landscape_points=landscape["points"] if landscape else None,
        studies={
            name: StudySpec(**spec(section)) for name, section in content.get("studies", {}).items()
        },
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
    )


def load_config(config: Mapping[str, Any], path: Path) -> dict[str, Experiment]:
    """Validate the pipeline's configuration and load the experiments it names.

    Args:
        config: The parsed configuration, as Snakemake hands it over.
        path: The file it came from, for messages; experiments lie in ``experiments/`` beside it.

    Raises:
        UserError: The configuration or one of its experiments is not valid.
    """
    _check_schema(path, dict(config), "config")
    folder = path.parent / "experiments"
    for i, name in enumerate(config["experiments"]):
        if not (folder / f"{name}.yaml").is_file():
            raise UserError(
                f"{path}: experiments[{i}]: expected the name of a file in {folder}, got {name!r}"
            )
    experiments = {name: load_experiment(folder / f"{name}.yaml") for name in config["experiments"]}
    for i, figure in enumerate(config["figures"]):
        need, has = _FIGURE_NEEDS.get(figure, ("", lambda _: True))
        if not any(has(experiment) for experiment in experiments.values()):
            raise UserError(
                f"{path}: figures[{i}]: {figure!r} expected an experiment {need}, got none"
            )
    return experiments


def _studied(name: str) -> tuple[str, Callable[[Experiment], bool]]:
    return f"with studies.{name}", lambda experiment: name in experiment.studies


_FIGURE_NEEDS: dict[str, tuple[str, Callable[[Experiment], bool]]] = {
    "bottleneck": ("with bottlenecked minimizers", lambda e: e.bottlenecked),
    "digits": _studied("soft"),
    "gauge_path": _studied("paths"),
    "landing": _studied("landing"),
    "orbits": _studied("orbits"),
    "phase": _studied("phase"),
    "threshold": _studied("threshold"),
    "timing": _studied("timing"),
    "contour": ("with a landscape section", lambda e: e.landscape_points is not None),
    "growth": (
        "with escape.recorded and several radii",
        lambda e: (
            e.escape is not None and e.escape.recorded is not None and len(e.escape.radii) > 1
        ),
    ),
}
