"""The bottleneck stage's files and what its docstring proves."""

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.artifacts.store import ArtifactError, read_table, write_table
from dmf_sharpness.experiments import ensembles
from dmf_sharpness.experiments.experiment import load_experiment
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import end_to_end, left_factors, right_factors
from dmf_sharpness.studies.bottleneck import measure

TEXT = """
description: Two bottlenecked networks.
seed: 3
target: {kind: gaussian, count: 1}
networks:
  - widths: [4, 2, 2, 3]
  - widths: [4, 5, 1, 3]
minimizers:
  - {kind: bottlenecked, count: 2}
"""
COLUMNS = {
    "network": "int64",
    "minimizer": "int64",
    "kind": "str",
    "widths": "str",
    "depth": "int64",
    "bottleneck": "int64",
    "tight_ends": "bool",
    "loss": "float64",
    "expression": "float64",
    "sharpness": "float64",
    "residual": "float64",
    "gradient_norm": "float64",
    "oracle_sharpness": "float64",
    "excess": "float64",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bottleneck")
    (folder / "narrow.yaml").write_text(TEXT)
    experiment = load_experiment(folder / "narrow.yaml")
    ensembles.save(folder / "narrow.safetensors", experiment, list(ensembles.generate(experiment)))
    made = ensembles.load(folder / "narrow.safetensors", experiment)
    table = pd.concat([measure(ensemble) for ensemble in made], ignore_index=True)
    write_table(folder / "narrow.parquet", "bottleneck", table, experiment.identity)
    return folder, experiment, table


def test_the_table_has_its_columns_and_comes_back_as_it_was(files):
    folder, experiment, table = files
    found = {name: str(kind) for name, kind in table.dtypes.items()}
    assert {name: "str" if kind == "object" else kind for name, kind in found.items()} == COLUMNS
    assert table.notna().all(axis=None)
    back, header = read_table(folder / "narrow.parquet", "bottleneck", experiment.identity)
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    assert header["experiment"] == "narrow"


def test_a_table_of_another_kind_or_experiment_is_refused(files):
    folder, experiment, _ = files
    with pytest.raises(ArtifactError):
        read_table(folder / "narrow.parquet", "sharpness", experiment.identity)
    other = {**experiment.identity, "experiment": "wide"}
    with pytest.raises(ArtifactError):
        read_table(folder / "narrow.parquet", "bottleneck", other)


def test_what_the_rows_say(files):
    _, _, table = files
    tight = table.tight_ends
    assert tight.tolist() == [True, True, False, False]
    assert (table.sharpness / table.oracle_sharpness - 1).abs().max() < 1e-10
    assert table.excess[tight].abs().max() < 1e-12
    assert table.excess[~tight].abs().min() > 1e-9
    assert table.gradient_norm.max() < 1e-10
    assert (table.loss > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("widths: [4, 5, 1, 3]", "widths: [4, 5, 6, 3]"), "bottlenecked"),
        (("kind: gaussian", "kind: scalar"), "target.kind"),
    ],
)
def test_an_experiment_without_a_bottleneck_is_refused(tmp_path, change, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(TEXT.replace(*change))
    with pytest.raises(ValueError, match=message):
        load_experiment(path)


@given(st.integers(1, 3), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 999))
def test_the_steps_of_the_proof(k, extra, seed):
    """Where both ends of the hidden layers are tight: ``c ≤ r l``, and the block of ``E`` is the lesser."""
    hidden = [k] if not extra else [k, *(k + e for e in extra), k]
    target = gaussian_matrix(5, 4, seed)
    factors = dmf.bottlenecked_minimizer(target, hidden, seed)
    sizes = torch.linalg.svdvals(target)
    C = end_to_end(factors[1:-1]) if len(factors) > 2 else torch.eye(k, dtype=torch.float64)
    r = torch.linalg.matrix_norm(right_factors(factors)[-1], ord=2)
    l = torch.linalg.matrix_norm(left_factors(factors)[0], ord=2)  # noqa: E741
    c = sizes[k] * torch.linalg.matrix_norm(C, ord=2)
    assert c <= r * l * (1 + 1e-9)
    block = torch.linalg.eigvalsh(torch.tensor([[r**2, c], [c, l**2]], dtype=torch.float64))[-1]
    value = dmf.sharpness(factors).value
    assert 2 * block <= value * (1 + 1e-9)
    assert 2 * (r**2 + l**2) <= value * (1 + 1e-9)
    assert dmf.sharpness_at(factors, target).value == pytest.approx(value, rel=1e-9)
