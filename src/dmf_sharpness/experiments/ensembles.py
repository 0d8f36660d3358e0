"""The minimizers of an experiment: their construction, their file, and the ensembles that studies take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.artifacts.store import ArtifactError, read_tensors, write_tensors
from dmf_sharpness.experiments.experiment import DataSpec, Experiment, MinimizerSpec
from dmf_sharpness.minimizers import basic as make
from dmf_sharpness.minimizers.bottleneck import overestimated_minimizer, underestimated_minimizer
from dmf_sharpness.minimizers.counterexamples import (
    equal_sharp_minimizer,
    one_term_minimizer,
)
from dmf_sharpness.minimizers.data_sets import photograph, prepared
from dmf_sharpness.minimizers.flat import equal_flat_minimizer, unequal_flat_minimizer
from dmf_sharpness.minimizers.frames import best_approximation
from dmf_sharpness.minimizers.live import flat_live_minimizer
from dmf_sharpness.minimizers.necessity import flat_unbalanced_minimizer
from dmf_sharpness.minimizers.paths import minimizer_with_sharpness
from dmf_sharpness.minimizers.targets import (
    Regression,
    gaussian_matrix,
    matrix_with_singular_values,
)
from dmf_sharpness.minimizers.trace_flat import trace_flat_minimizer
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.network.problem import Problem

KIND = "minimizers"
"""Files of minimizers are artifacts of this kind."""


@dataclass(frozen=True)
class Ensemble:
    """``B`` minimizers of one network.

    Attributes:
        network: The place of the network in the experiment file, from 0.
        widths: ``(d_0, …, d_L)``.
        kinds: The kind of each minimizer, ``B`` names.
        factors: ``W_i``, each ``(B, d_i, d_{i-1})``.
        target: ``T``, shape ``(B, d_L, r)``; in matrix factorization ``M``, and ``r = d_0``.
        input_root: ``S``, shape ``(d_0, r)``; None in matrix factorization.
        data: The data set; None in matrix factorization.
    """

    network: int
    widths: tuple[int, ...]
    kinds: tuple[str, ...]
    factors: list[Tensor]
    target: Tensor
    input_root: Tensor | None
    data: DataSpec | None = None

    @property
    def depth(self) -> int:
        """The number of layers ``L``."""
        return len(self.factors)

    @property
    def problem(self) -> Problem:
        """The problem that the minimizers solve, ``T`` and ``S``."""
        return Problem(self.target, self.input_root)

    def chosen(self, which: np.ndarray) -> "Ensemble":
        """The ensemble of the minimizers with the given numbers."""
        return replace(
            self,
            kinds=tuple(self.kinds[b] for b in which),
            factors=[W[which] for W in self.factors],
            target=self.target[which],
        )

    def one(self, b: int) -> list[Tensor]:
        """``[W_1 … W_L]`` of the minimizer with the given number."""
        return [W[b] for W in self.factors]

    def rows(self, minimizers: Sequence[int] | np.ndarray) -> pd.DataFrame:
        """The first columns of every study's table, which identify the minimizer of a row.

        Args:
            minimizers: The number of the minimizer of each row.

        Returns:
            ``network``, ``problem`` (the number of the target among the different ones), ``minimizer``,
            ``kind``, ``widths`` (``"3-4-3"``) and ``depth``.
        """
        _, problem = np.unique(self.target.flatten(1).numpy(), axis=0, return_inverse=True)
        return pd.DataFrame(
            {
                "network": self.network,
                "problem": problem.ravel()[minimizers],
                "minimizer": minimizers,
                "kind": [self.kinds[b] for b in minimizers],
                "widths": "-".join(map(str, self.widths)),
                "depth": self.depth,
            }
        )


def regression_of(experiment: Experiment, network: int) -> Regression | None:
    """The training data of one network of an experiment; None in matrix factorization."""
    data = experiment.data_of(network)
    return None if data is None else prepared(**asdict(data))


def _target(experiment: Experiment, k: int, number: int) -> Tensor:
    seed = (experiment.seed, k, number)
    network = experiment.networks[k]
    rows, columns = network.widths[-1], network.widths[0]
    if experiment.target.photograph is not None:
        return photograph(experiment.target.photograph, rows, columns)
    values = network.singular_values or experiment.target.singular_values
    if values is not None:
        return matrix_with_singular_values(rows, columns, values, seed)
    return gaussian_matrix(rows, columns, seed)


def _one_minimizer(
    spec: MinimizerSpec, number: int, target: Tensor, hidden: Sequence[int], seed: list[int]
) -> list[Tensor]:
    match spec.kind:
        case "balanced":
            return make.balanced_minimizer(target, hidden, seed)
        case "flat":
            return make.flat_minimizer(target, hidden, seed, spec.frobenius_imbalance)
        case "random":
            return make.random_minimizer(target, hidden, seed, spec.spread)
        case "prescribed":
            least = float(flat_sharpness(target, len(hidden) + 1))
            return minimizer_with_sharpness(target, hidden, spec.ratio_of(number) * least, seed)
        case "bottlenecked":
            return make.bottlenecked_minimizer(target, hidden, seed, spec.spread)
        case "bottlenecked_balanced":
            reached = best_approximation(target, min(hidden))
            return make.balanced_minimizer(reached, hidden, seed)
        case "bottlenecked_flat":
            reached = best_approximation(target, min(hidden))
            return equal_flat_minimizer(reached, hidden, seed, spec.spread)
        case "underestimated":
            return underestimated_minimizer(target, hidden)
        case "overestimated":
            return overestimated_minimizer(target, hidden)
        case "equal_sharp":
            assert spec.product_ratio is not None
            return equal_sharp_minimizer(target, hidden, seed, spec.product_ratio)
        case "flat_live":
            return flat_live_minimizer(target, hidden, seed)
        case "flat_unbalanced":
            return flat_unbalanced_minimizer(target, hidden, seed)
        case "equal_flat":
            return equal_flat_minimizer(target, hidden, seed, spec.spread)
        case "unequal_flat":
            return unequal_flat_minimizer(target, hidden, seed, spec.spread)
        case "one_term":
            return one_term_minimizer(target, hidden, seed)
        case "trace_flat":
            return trace_flat_minimizer(target, hidden, seed)
        case _:
            raise ValueError(f"kind: expected a kind of minimizer, got {spec.kind!r}")


def generate(experiment: Experiment) -> Iterator[Ensemble]:
    """Make the minimizers that an experiment asks for, network by network.

    Each minimizer has its own seed, ``(experiment's seed, network, target, kind, number)``, so that a new
    one in the file changes none of the others.
    """
    for k, network in enumerate(experiment.networks):
        regression = regression_of(experiment, k)
        if network.factors is not None:
            explicit = [torch.tensor(W, dtype=torch.float64)[None] for W in network.factors]
            target = end_to_end(explicit)
            yield Ensemble(k, network.widths, ("explicit",), explicit, target, None)
            continue
        kinds: list[str] = []
        made: list[list[Tensor]] = []
        targets: list[Tensor] = []
        for t in range(experiment.target.count):
            M = _target(experiment, k, t) if regression is None else regression.solution
            for j, spec in enumerate(experiment.minimizers):
                for n in range(spec.count):
                    seed_of_one = [experiment.seed, k, t, j, n]
                    made.append(_one_minimizer(spec, n, M, network.widths[1:-1], seed_of_one))
                    kinds.append(spec.kind)
                    targets.append(M if regression is None else regression.target)
        yield Ensemble(
            network=k,
            widths=network.widths,
            kinds=tuple(kinds),
            factors=[torch.stack(layer) for layer in zip(*made, strict=True)],
            target=torch.stack(targets),
            input_root=None if regression is None else regression.input_root,
            data=experiment.data_of(k),
        )


def save(
    path: Path,
    experiment: Experiment,
    ensembles: Sequence[Ensemble],
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write the minimizers of an experiment as one safetensors file.

    Args:
        path: The file.
        experiment: The experiment that the minimizers belong to.
        ensembles: The minimizers of each network, in order.
        origin: Further entries of the header, such as the lineage.
    """
    tensors: dict[str, Tensor] = {}
    networks = []
    for ensemble in ensembles:
        prefix = f"network{ensemble.network}"
        tensors[f"{prefix}/target"] = ensemble.target
        for i, W in enumerate(ensemble.factors, 1):
            tensors[f"{prefix}/W{i}"] = W
        if ensemble.input_root is not None:
            tensors[f"{prefix}/input_root"] = ensemble.input_root
        networks.append({"widths": ensemble.widths, "kinds": ensemble.kinds})
    header = {**experiment.identity, **(origin or {}), "networks": networks}
    write_tensors(path, KIND, tensors, header)


def load(path: Path, experiment: Experiment) -> list[Ensemble]:
    """Read the minimizers of an experiment, after a check that the file belongs to it.

    Raises:
        ArtifactError: The file is missing, damaged, or of another version of the experiment.
    """
    tensors, header = read_tensors(path, KIND, experiment.identity)
    try:
        return [
            Ensemble(
                network=k,
                widths=tuple(network["widths"]),
                kinds=tuple(network["kinds"]),
                factors=[tensors[f"network{k}/W{i}"] for i in range(1, len(network["widths"]))],
                target=tensors[f"network{k}/target"],
                input_root=tensors.get(f"network{k}/input_root"),
                data=experiment.data_of(k),
            )
            for k, network in enumerate(header["networks"])
        ]
    except KeyError as missing:
        raise ArtifactError(path, KIND, f"expected the tensor {missing}, got none") from None
