import copy
from pathlib import Path

import pytest
import yaml

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments.experiment import load_config, load_experiment

ROOT = Path(__file__).parents[2]
GOOD = {
    "description": "a test",
    "seed": 1,
    "target": {"kind": "gaussian", "count": 2},
    "networks": [{"widths": [3, 5, 4]}],
    "minimizers": [{"kind": "random", "count": 2}],
    "escape": {"minimizers": 1, "step_ratios": [0.9, 1.1], "radii": [1e-6], "steps": 10},
}


def write(path, content):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def changed(*keys, value):
    content = copy.deepcopy(GOOD)
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return content


def test_a_good_file_is_read(tmp_path):
    experiment = load_experiment(write(tmp_path / "good.yaml", GOOD))
    assert experiment.name == "good"
    assert experiment.networks[0].widths == (3, 5, 4)
    assert experiment.escape.step_ratios == (0.9, 1.1)
    # Comments do not count; the seed does.
    commented = write(tmp_path / "good.yaml", "# a comment\n" + yaml.safe_dump(GOOD))
    assert load_experiment(commented).digest == experiment.digest
    other = write(tmp_path / "good.yaml", changed("seed", value=2))
    assert load_experiment(other).digest != experiment.digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            changed("minimizers", 0, value={"kind": "unequal_flat"}),
            r"networks\[0\].widths: expected depth 3 or more and one end of at least 2 for kind",
        ),
        (
            changed("studies", value={"necessity": {"steps": 9}}),
            "studies.necessity.product_ratios: missing, expected a list of numbers",
        ),
        (
            changed("studies", value={"regularized": {"steps": 9, "regularizations": [0]}}),
            r"studies.regularized.regularizations\[0\]: expected a number of at least 1e-06, got 0",
        ),
        (changed("sed", value=1), "sed: unknown key, expected one of .*did you mean 'seed'"),
        (changed("escape", "stepps", value=1), "escape.stepps: unknown key.*did you mean 'steps'"),
        (
            changed("networks", 0, "widths", 1, value=-3),
            r"networks\[0\].widths\[1\]: expected a number of at least 1, got -3",
        ),
        (
            changed("networks", 0, "widths", 1, value=2),
            r"networks\[0\].widths\[1\]: expected a hidden width of at least 3, the target's rank",
        ),
        (
            changed("escape", "step_ratios", 1, value=float("nan")),
            r"escape.step_ratios\[1\]: expected a finite number, got nan",
        ),
        (
            changed("escape", "radii", 0, value=0.0),
            r"escape.radii\[0\]: expected a number of at least 1e-30, got 0.0",
        ),
        (changed("seed", value="1"), "seed: expected a value of type integer, got '1'"),
        (changed("seed", value=True), "seed: expected a value of type integer, got True"),
        (changed("escape", "steps", value=None), "escape.steps: expected a value of type integer"),
        (
            changed("minimizers", 0, "kind", value="flattest"),
            r"minimizers\[0\].kind: expected one of \[.*\], got 'flattest'",
        ),
        (
            changed("minimizers", 0, value={"kind": "prescribed"}),
            r"minimizers\[0\].sharpness_ratio: missing",
        ),
        (
            changed("minimizers", 0, "sharpness_ratio", value=2),
            r"minimizers\[0\].sharpness_ratio: expected with kind 'prescribed' only, got 'random'",
        ),
        (changed("target", value={"kind": "digits"}), r"expected 64 inputs and 10 outputs"),
        (changed("landscape", value={"points": 9}), "escape.recorded: missing"),
        (
            changed("escape", "recorded", value="flat"),
            r"escape.recorded: expected a kind among the minimizers \['random'\], got 'flat'",
        ),
        ({}, "description: missing"),
        ([], r"the file: expected a value of type object, got \[\]"),
        ("seed: [", "expected valid YAML, got an error"),
        ("", "the file: expected a value of type object, got None"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, content, message):
    path = write(tmp_path / "bad.yaml", content)
    with pytest.raises(UserError, match=message) as caught:
        load_experiment(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_explicit_factors_must_fit_their_widths(tmp_path):
    explicit = {
        "description": "explicit",
        "seed": 0,
        "target": {"kind": "explicit"},
        "networks": [{"widths": [1, 2, 1], "factors": [[[1], [0]], [[1, 0]]]}],
        "minimizers": [{"kind": "explicit"}],
    }
    assert load_experiment(write(tmp_path / "e.yaml", explicit)).networks[0].factors is not None
    explicit["networks"][0]["factors"][1] = [[1, 0, 0]]
    with pytest.raises(UserError, match=r"factors\[1\]: expected shape \(1, 2\), got \(1, 3\)"):
        load_experiment(write(tmp_path / "e.yaml", explicit))
    explicit["networks"][0]["factors"][1] = [[1, 0], [0]]
    with pytest.raises(UserError, match=r"factors\[1\]: expected rows of one length"):
        load_experiment(write(tmp_path / "e.yaml", explicit))
    del explicit["networks"][0]["factors"]
    with pytest.raises(UserError, match=r"factors: expected a list of matrices, got none"):
        load_experiment(write(tmp_path / "e.yaml", explicit))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none.yaml: expected a YAML file, got no such file"):
        load_experiment(tmp_path / "none.yaml")


def test_the_shipped_configuration_is_valid_and_large_enough():
    path = ROOT / "config" / "config.yaml"
    experiments = load_config(yaml.safe_load(path.read_text()), path)
    on_disk = {p.stem for p in (path.parent / "experiments").glob("*.yaml")}
    full = yaml.safe_load((path.parent / "full.yaml").read_text())
    assert set(experiments) | set(full["experiments"]) == on_disk
    minimizers = sum(
        len(e.networks) * e.target.count * sum(spec.count for spec in e.minimizers)
        for e in experiments.values()
    )
    assert minimizers >= 500
    depths = {len(n.widths) - 1 for e in experiments.values() for n in e.networks}
    assert depths >= {2, 3, 5, 15}


def test_the_large_sweep_is_ten_times_the_default(tmp_path):
    path = ROOT / "config/full.yaml"
    default = yaml.safe_load((path.parent / "config.yaml").read_text())
    experiments = load_config(default | yaml.safe_load(path.read_text()), path)
    assert len({e.digest for e in experiments.values()}) == len(experiments)
    for name in ("gaussian_depth3", "escape_survey"):
        drawn = [e for e in experiments.values() if e.name.partition(".")[0] == name]
        assert len(drawn) == 10
        assert len({e.seed for e in drawn}) == 10
        assert all(e.networks == drawn[0].networks for e in drawn)
    for depth in (2, 3, 5):
        fine = experiments[f"phase_depth{depth}_fine"]
        study = fine.studies["phase"]
        assert (len(study.step_ratios), fine.minimizers[0].count, study.repeats) == (60, 60, 8)


def test_a_replica_differs_in_its_seeds_only(tmp_path):
    path = write(tmp_path / "a.yaml", GOOD | {"studies": {"threshold": {"steps": 9, "seed": 4}}})
    first, second = load_experiment(path), load_experiment(path, replica=2)
    assert second.name == "a.r2"
    assert second.digest != first.digest
    assert second.seed != first.seed
    assert second.studies["threshold"].seed != first.studies["threshold"].seed
    assert second.escape == first.escape
    assert load_experiment(path, replica=2) == second


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"experiments": ["a"], "figures": [], "replicas": {"b": 2}},
            "replicas.b: expected one of the experiments, got 'b'",
        ),
        (
            {"experiments": ["a"], "figures": [], "replicas": {"a": 0}},
            "replicas.a: expected a number",
        ),
        ({"experiments": ["a"]}, "figures: missing"),
        ({"experiments": ["a"], "figures": [], "cores": 2}, "cores: unknown key"),
        ({"experiments": ["b"], "figures": []}, r"experiments\[0\]: expected the name of a file"),
        (
            {"experiments": ["../a"], "figures": []},
            r"experiments\[0\]: expected a name that matches",
        ),
        ({"experiments": ["a", "a"], "figures": []}, "experiments: expected no entry twice"),
        ({"experiments": ["a"], "figures": ["countour"]}, r"figures\[0\]: expected one of"),
        (
            {"experiments": ["a"], "figures": ["contour"]},
            r"figures\[0\]: 'contour' expected an experiment with a landscape section, got none",
        ),
    ],
)
def test_a_bad_configuration_is_refused(tmp_path, config, message):
    (tmp_path / "experiments").mkdir()
    write(tmp_path / "experiments" / "a.yaml", GOOD)
    with pytest.raises(UserError, match=message):
        load_config(config, tmp_path / "config.yaml")


@pytest.mark.parametrize("figure", ["phase", "bottleneck", "contour"])
def test_a_figure_that_nothing_feeds_is_refused(figure, tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "plain.yaml").write_text(
        "{description: x, seed: 0, target: {kind: gaussian}, networks: [{widths: [2, 2, 2]}],"
        " minimizers: [{kind: flat}]}"
    )
    config = {"experiments": ["plain"], "figures": [figure]}
    with pytest.raises(UserError, match=rf"figures\[0\]: '{figure}' expected an experiment "):
        load_config(config, tmp_path / "config.yaml")
