"""The bottleneck stage: its files, and the proofs of docs/bottleneck.md step by step."""

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
from dmf_sharpness.network.curvature import jvp
from dmf_sharpness.network.factors import end_to_end, flatten
from dmf_sharpness.oracles import dense_hessian, dense_spectrum
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
    "problem": "int64",
    "minimizer": "int64",
    "kind": "str",
    "widths": "str",
    "depth": "int64",
    "bottleneck": "int64",
    "residual_ratio": "float64",
    "tight_ends": "int64",
    "loss": "float64",
    "expression": "float64",
    "sharpness": "float64",
    "residual": "float64",
    "gradient_norm": "float64",
    "oracle_sharpness": "float64",
    "flat_sharpness": "float64",
    "spectrum_difference": "float64",
    "control_spectrum_difference": "float64",
    "spectral_imbalance": "float64",
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
    assert table.tight_ends.tolist() == [2, 2, 1, 1]
    tight = table.tight_ends == 2
    assert table.spectrum_difference.max() < 1e-12
    assert table.control_spectrum_difference.min() > 1e-6
    assert (table.sharpness / table.oracle_sharpness - 1).abs().max() < 1e-10
    excess = table.sharpness / table.expression - 1
    assert excess[tight].abs().max() < 1e-12
    assert excess[~tight].abs().min() > 1e-9
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
def test_the_closed_form_is_exact_if_both_ends_are_narrow(k, extra, seed):
    hidden = [k] if not extra else [k, *(k + e for e in extra), k]
    target = gaussian_matrix(5, 4, seed)
    factors = dmf.bottlenecked_minimizer(target, hidden, seed)
    closed_form = dmf.sharpness(factors).value
    assert dmf.sharpness_at(factors, target).value == pytest.approx(closed_form, rel=1e-9)


@given(st.integers(1, 3), st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(0, 999))
def test_the_steps_of_the_proofs(k, extra, seed):
    """The change of the product has no block beside the bottleneck's, and all bounds hold."""
    hidden = [k + e for e in extra[:-1]]
    hidden.insert(extra[-1] % (len(hidden) + 1), k)
    target = gaussian_matrix(4, 5, seed)
    factors = dmf.bottlenecked_minimizer(target, hidden, seed)
    values = torch.linalg.svdvals(target)
    q = float(values[k] / values[k - 1])
    U, _, Vt = torch.linalg.svd(end_to_end(factors))
    direction = [gaussian_matrix(*W.shape, [seed, i]) for i, W in enumerate(factors)]
    change = U.mT @ jvp(factors, direction) @ Vt.mT
    scale = torch.linalg.matrix_norm(change)
    assert torch.linalg.matrix_norm(change[k:, k:]) <= 1e-9 * scale

    # The form of the theorem, against autograd's Hessian.
    X, product = jvp(factors, direction), end_to_end(factors)
    bent = X @ torch.linalg.pinv(product, rtol=1e-9) @ X
    form = 2 * scale**2 - 4 * ((target - product) * bent).sum()
    H = dense_hessian(factors, target)
    z = flatten(direction)
    assert float(z @ H @ z) == pytest.approx(float(form), rel=1e-8)

    true, closed = dense_spectrum(factors, target)[0], dmf.sharpness(factors).value
    assert true <= (1 + q) * closed * (1 + 1e-9)
    assert true >= (1 + q) / (1 + 2 * q) * closed * (1 - 1e-9)
    assert true <= 2 * dmf.spectral_products(factors).square().sum() * (1 + 1e-9)
    assert true >= dmf.flat_sharpness(target, len(factors)) * (1 - 1e-9)
    if k in (hidden[0], hidden[-1]):
        assert true >= closed * (1 - 1e-9)
