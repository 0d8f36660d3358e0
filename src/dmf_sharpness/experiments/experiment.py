"""Experiment files and the configuration, parsed and validated into frozen dataclasses.

This module imports no torch, because every Snakemake process reads the experiment files.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dmf_sharpness.artifacts import lineage
from dmf_sharpness.artifacts.yaml_files import content_digest, read_yaml, with_integers
from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import catalog
from dmf_sharpness.experiments.checks import (
    BOTTLENECKED,
    check_config,
    check_experiment,
    config_schema,
    experiment_schema,
)
from dmf_sharpness.experiments.data_sets import DATA_SETS, missing_packages
from dmf_sharpness.experiments.options import StudySpec as StudySpec

_log = logging.getLogger("dmf_sharpness")


@dataclass(frozen=True)
class TargetSpec:
    """The target matrix, which is the product of the factors at a minimizer."""

    kind: str
    count: int = 1
    singular_values: tuple[float, ...] | None = None
    photograph: str | None = None


@dataclass(frozen=True)
class DataSpec:
    """A data set and its changes, the arguments of :func:`dmf_sharpness.minimizers.data_sets.prepared`."""

    kind: str
    centred: bool
    whitened: bool
    components: int | None
    input_power: float
    class_shares: tuple[float, ...]


@dataclass(frozen=True)
class Network:
    """A network: its widths ``d_0 … d_L``, and what is its own of the target.

    Attributes:
        widths: ``(d_0, …, d_L)``.
        centred: Whether the means of inputs and outputs are subtracted; for data, as the next four.
        whitened: Whether the inputs are whitened.
        components: The number of principal components of the inputs that are kept; None for all.
        input_power: The exponent of the singular values of the inputs.
        class_shares: The shares of the first classes in the loss; empty for those of the data.
        singular_values: The singular values of this network's targets; None for those of all networks.
        factors: ``W_1 … W_L``, if they are explicit.
    """

    widths: tuple[int, ...]
    centred: bool = True
    whitened: bool = False
    components: int | None = None
    input_power: float = 1.0
    class_shares: tuple[float, ...] = ()
    singular_values: tuple[float, ...] | None = None
    factors: tuple[tuple[tuple[float, ...], ...], ...] | None = None


@dataclass(frozen=True)
class MinimizerSpec:
    """A kind of minimizer, the number of such minimizers for each target, and the options of the kind."""

    kind: str
    count: int = 1
    spread: float = 0.3
    frobenius_imbalance: float | None = None
    sharpness_ratio: float | None = None
    sharpness_ratio_to: float | None = None
    product_ratio: float | None = None

    def ratio_of(self, number: int) -> float:
        """``λ_max / λ_flat`` of the prescribed minimizer with this number, evenly spaced in the logarithm."""
        assert self.sharpness_ratio is not None
        if self.sharpness_ratio_to is None or self.count == 1:
            return self.sharpness_ratio
        growth = self.sharpness_ratio_to / self.sharpness_ratio
        return self.sharpness_ratio * growth ** (number / (self.count - 1))


@dataclass(frozen=True)
class EscapeSpec:
    """The starts and step sizes of the runs of gradient descent in the escape stage."""

    minimizers: int
    step_ratios: tuple[float, ...]
    radii: tuple[float, ...]
    steps: int
    recorded: str | None = None


@dataclass(frozen=True)
class Experiment:
    """One experiment file.

    Attributes:
        name: The file's name without ``.yaml``.
        description: The purpose of the experiment in one or two sentences.
        seed: The seed of all random draws of the experiment, but those of the studies.
        target: The target matrices.
        networks: The networks.
        minimizers: The kinds of minimizers, each with their number.
        escape: The runs of the escape stage; None if there are none.
        landscape_points: The number of grid points along an axis of the contour map; None for no map.
        studies: The options of each study, by its name.
        digest: The SHA-256 digest of the parsed content, which comments and layout do not change. A replica
            has a digest of its own.
        file_digest: The digest of the file's content, which all replicas of an experiment share.
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
    file_digest: str

    @property
    def bottlenecked(self) -> bool:
        """Whether the minimizers have a layer narrower than the target's rank, and therefore a residual."""
        return all(spec.kind in BOTTLENECKED for spec in self.minimizers)

    @property
    def on_data(self) -> bool:
        """Whether the problem is a regression on a data set."""
        return self.target.kind in DATA_SETS

    @property
    def has_dense_hessian(self) -> bool:
        """Whether its minimizers are held against dense Hessians; those on MNIST are too large for that."""
        return not self.bottlenecked and not (self.on_data and DATA_SETS[self.target.kind].large)

    def data_of(self, network: int) -> DataSpec | None:
        """The data of one network, by its number; None in matrix factorization."""
        if not self.on_data:
            return None
        n = self.networks[network]
        options = (n.centred, n.whitened, n.components, n.input_power, n.class_shares)
        return DataSpec(self.target.kind, *options)

    @property
    def identity(self) -> dict[str, Any]:
        """The entries of an artifact's header that identify its experiment."""
        return {"experiment": self.name, "digest": self.digest, "seed": self.seed}


def read_experiment(path: Path) -> tuple[dict[str, Any], str]:
    """The checked content of an experiment file, and its digest.

    Raises:
        UserError: As in :func:`load_experiment`.
    """
    content = with_integers(read_yaml(path), experiment_schema())
    try:
        check_experiment(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return content, content_digest(content, path.stem)


def load_experiment(path: Path, replica: int = 1) -> Experiment:
    """Read and validate an experiment file.

    Args:
        path: The file.
        replica: The number of the replica; 1 is the experiment itself, see :func:`drawn_anew` for others.

    Raises:
        UserError: The file is missing, is no YAML, or asks for something impossible. The message is one
            line with the file, the key, what was expected and what was given.
    """
    content, digest = read_experiment(path)
    lineage.record(path, digest)

    def deep_tuple(value: Any) -> Any:
        return tuple(deep_tuple(item) for item in value) if isinstance(value, list) else value

    def spec(section: Mapping[str, Any]) -> dict[str, Any]:
        return {key: deep_tuple(value) for key, value in section.items()}

    landscape = content.get("landscape")
    experiment = Experiment(
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
        digest=digest,
        file_digest=digest,
    )
    if replica > 1:
        experiment = drawn_anew(experiment, replica)
    _log.info("read %s: seed %d, digest %.12s", path, experiment.seed, experiment.digest)
    return experiment


def drawn_anew(experiment: Experiment, replica: int) -> Experiment:
    """A replica, ``<name>.r<number>``: the same experiment with other seeds; numbers begin with 2."""

    def another(seed: int) -> int:
        return int(hashlib.sha256(f"{seed} {replica}".encode()).hexdigest()[:12], 16)

    return replace(
        experiment,
        name=f"{experiment.name}.r{replica}",
        seed=another(experiment.seed),
        studies={
            name: replace(study, seed=another(study.seed))
            for name, study in experiment.studies.items()
        },
        digest=hashlib.sha256(f"{experiment.digest} {replica}".encode()).hexdigest(),
    )


def load_config(
    config: Mapping[str, Any], path: Path, folder: Path | None = None
) -> dict[str, Experiment]:
    """Validate the pipeline's configuration, and load the experiments that it names with their replicas.

    Experiments on data that come with a package that is not installed are left out.

    Args:
        config: The parsed configuration, as Snakemake passes it.
        path: The file of the configuration, for messages.
        folder: The folder of the experiments; None for ``experiments/`` beside the file.

    Raises:
        UserError: The configuration or one of its experiments is not valid.
    """
    config = with_integers(config, config_schema(), texts=True)
    try:
        check_config(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    folder = folder or path.parent / "experiments"
    experiments: dict[str, Experiment] = {}
    for i, name in enumerate(config["experiments"]):
        if not (folder / f"{name}.yaml").is_file():
            raise UserError(
                f"{path}: experiments[{i}]: expected the name of a file in {folder}, got {name!r}"
            )
        experiment = load_experiment(folder / f"{name}.yaml")
        if missing_packages([experiment.target.kind]):
            continue
        experiments[name] = experiment
        count = config.get("replicas", {}).get(name, 1)
        if count > 1 and experiment.target.kind == "explicit":
            raise UserError(
                f"{path}: replicas.{name}: expected an experiment that draws at random, got one "
                "with explicit factors"
            )
        for replica in range(2, count + 1):
            again = drawn_anew(experiment, replica)
            experiments[again.name] = again
    for i, figure in enumerate(config["figures"]):
        for need, has in needs_of(catalog.figures()[figure]):
            if not any(has(experiment) for experiment in experiments.values()):
                raise UserError(
                    f"{path}: figures[{i}]: {figure!r} expected an experiment {need}, got none"
                )
    return experiments


Need = tuple[str, Callable[[Experiment], bool]]
"""A need is a condition that at least one experiment must meet: its words in messages, and its test."""


def _is_factorization(experiment: Experiment) -> bool:
    return not experiment.bottlenecked and not experiment.on_data


def _has_several_radii(experiment: Experiment) -> bool:
    escape = experiment.escape
    return escape is not None and len(escape.radii) > 1 and max(escape.step_ratios) > 1


def _is_recorded(experiment: Experiment) -> bool:
    return experiment.escape is not None and experiment.escape.recorded is not None


TABLES: dict[str, Need] = {
    "sharpness": ("neither bottlenecked nor on MNIST", lambda e: e.has_dense_hessian),
    "bottleneck": ("with bottlenecked minimizers", lambda e: e.bottlenecked),
    "escape": ("with an escape section", lambda e: e.escape is not None),
    "trajectories": ("with escape.recorded", _is_recorded),
    "landscape": ("with a landscape section", lambda e: e.landscape_points is not None),
}
"""A kind of table needs an experiment like this; the table of a study needs one with that study."""
PROPERTIES: dict[str, Need] = {
    "factorization": ("of matrix factorization, not bottlenecked", _is_factorization),
    "several radii": (
        "with escape.recorded, several radii and a step ratio above 1",
        lambda e: _is_recorded(e) and _has_several_radii(e),
    ),
}
"""A figure may ask that one of its experiments has such a property."""


def needs_of(figure: catalog.FigureInputs) -> list[Need]:
    """The needs of a figure; for each of them the configuration must have an experiment that meets it."""
    needs = [] if figure.of is None else [PROPERTIES[figure.of]]
    for table in figure.tables:
        _, _, study = table.partition("studies/")
        needs.append(_with_study(study) if study else TABLES[table])
    return needs


def _with_study(name: str) -> Need:
    return f"with studies.{name}", lambda experiment: name in experiment.studies
