"""Configurations nobody would write: each is refused in one line, or runs, or says why it cannot.

All of it goes through the function that the Snakefile calls before it makes the first job.
"""

import copy
import dataclasses
import math
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import catalog, options
from dmf_sharpness.experiments.checks import BOTTLENECKED
from dmf_sharpness.experiments.experiment import load_config, load_experiment
from tests.scripts import run_script

ROOT = Path(__file__).parents[2]
FUZZED = {"deadline": None, "suppress_health_check": list(HealthCheck)}

SHIPPED = [
    yaml.safe_load(path.read_text())
    for path in sorted((ROOT / "config/experiments").glob("*.yaml"))
]
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())

KEYS = st.sampled_from(
    ["seed", "kind", "count", "widths", "steps", "radii", "step_ratios", "studies", "escape", "landscape",
     "phase", "orbits", "threshold", "recorded", "replicas", "figures", "factors", "singular_values", "sed",
     ""]
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-3, 12),
    st.sampled_from(
        [10**9, 10**19, 10**400, -(10**30), 0.0, -0.0, 5e-324, 1e308, 1e-9, 0.5, 1.0, 1.5, 3.0, 600.0,
         2.0**53, 1e300]
    ),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.floats(),
)  # fmt: skip
WORDS = st.sampled_from(
    ["gaussian", "digits", "explicit", "spectrum", "flat", "random", "prescribed", "bottlenecked",
     "bottlenecked_balanced", "bottlenecked_flat", "underestimated", "overestimated",
     "equal_sharp", "unequal_flat", "flat_unbalanced", "1e-9", "6e2", "010", "1:30", ".5",
     "../a", "a\nb", "λ", "yes", "x" * 500]
)  # fmt: skip
SIGNS = "[]{}:,-&*!|>'\"%@`?#~ \n\t0123.eE_aλ"
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.dates(), st.binary(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(KEYS, st.integers(0, 3), st.none()), inner, max_size=3),
    ),
    max_leaves=6,
)


def places(content, path=()):
    """All paths into nested mappings and lists."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items if isinstance(content, dict | list) else ():
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


@st.composite
def mutated(draw, originals):
    """One of the originals with one to three things replaced, dropped, doubled, renamed or added."""
    content = copy.deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(content))))
        if not path:
            if draw(st.integers(0, 20)) == 0:
                return draw(VALUES)
            content[draw(KEYS)] = draw(VALUES)
            continue
        owner = content
        for key in path[:-1]:
            owner = owner[key]
        match draw(st.sampled_from(["replace", "number", "drop", "add", "double"])):
            case "replace":
                owner[path[-1]] = draw(VALUES)
            case "number":
                owner[path[-1]] = draw(NUMBERS)
            case "drop":
                del owner[path[-1]]
            case "add" if isinstance(owner, dict):
                owner[draw(KEYS)] = draw(VALUES)
            case _ if isinstance(owner, list):
                owner.append(copy.deepcopy(owner[path[-1]]))
        if not isinstance(content, dict):
            break
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A configuration's folder, used over and over."""
    path = tmp_path_factory.mktemp("fuzzed")
    (path / "experiments").mkdir()
    return path


def verdict(folder, config, named):
    """None, or the message; anything but a message of one line is a failure."""
    try:
        load_config(config, folder / "config.yaml")
    except UserError as error:
        message = str(error)
        assert message.splitlines() == [message]
        assert message.startswith(f"{named}: ")
        # Key, expected, and, but for a key that is missing or unknown, given.
        assert "expected" in message
        assert "got" in message or "missing" in message or "unknown key" in message
        assert len(message) < 1000
        return message
    return None


@settings(max_examples=350, **FUZZED)
@given(content=mutated(SHIPPED))
def test_a_mutated_experiment_is_refused_in_one_line_or_read(folder, content):
    path = folder / "experiments/a.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    verdict(folder, {"experiments": ["a"], "figures": []}, path)


@settings(max_examples=100, **FUZZED)
@given(data=st.data(), text=st.sampled_from([yaml.safe_dump(content) for content in SHIPPED[:6]]))
def test_an_experiment_file_with_damaged_bytes_is_refused_in_one_line_or_read(folder, data, text):
    path = folder / "experiments/a.yaml"
    raw = text.encode()
    start = data.draw(st.integers(0, len(raw)))
    stop = start + data.draw(st.integers(0, 20))
    inserted = data.draw(
        st.one_of(st.text(SIGNS, max_size=8).map(str.encode), st.binary(max_size=3))
    )
    path.write_bytes(raw[:start] + inserted + raw[stop:])
    verdict(folder, {"experiments": ["a"], "figures": []}, path)


@settings(max_examples=100, **FUZZED)
@given(config=mutated([{**CONFIG, "replicas": {"flat_many": 3, "digits": 1}}]))
def test_a_mutated_configuration_is_refused_in_one_line_or_read(config):
    verdict(ROOT / "config", config, ROOT / "config/config.yaml")


WIDTHS = st.one_of(
    st.lists(st.integers(1, 4), min_size=3, max_size=5),
    st.sampled_from([[2, 3, 2], [1, 2, 2, 1], [2, 4, 4, 3], [3, 4, 4, 4, 2], [1, 1, 1], [2, 2, 2]]),
)
RATIOS = st.lists(
    st.sampled_from([1e-6, 0.3, 0.5, 0.9, 1, 1.0000001, 1.01, 1.5, 3, 40, 1e6]),
    min_size=1, max_size=3, unique=True,
)  # fmt: skip
BEYOND = st.lists(st.sampled_from([1.001, 1.3, 2, 1e6]), min_size=1, max_size=2, unique=True)
RADII = st.lists(
    st.sampled_from([1e-30, 1e-15, 1e-9, 1e-3, 0.5, 1, 1e6]), min_size=1, max_size=3, unique=True
)
STEPS = st.sampled_from([1, 2, 3, 11, 200])
COUNT = st.integers(1, 2)


def some(*kinds, options=None, **fixed):
    """A minimizer of one of these kinds, perhaps with options."""
    required = {"kind": st.sampled_from(kinds)} | {
        key: st.sampled_from(fixed[key]) for key in fixed
    }
    optional = {key: st.sampled_from(values) for key, values in (options or {}).items()}
    return st.fixed_dictionaries(required, optional=optional)


MINIMIZERS = st.one_of(
    some("balanced", "flat_unbalanced", "flat_live", "trace_flat", "one_term"),
    some("flat", options={"count": [1, 2], "frobenius_imbalance": [1, 5, 1e6]}),
    some(
        "random", "equal_flat", "unequal_flat",
        options={"count": [1, 2], "spread": [1e-9, 0.3, 1, 5]},
    ),
    some(
        "prescribed", sharpness_ratio=[1, 1.001, 3, 1e6, 1e30],
        options={"count": [1, 2], "sharpness_ratio_to": [1, 9]},
    ),
    some("equal_sharp", product_ratio=[1, 2, 1e6]),
)  # fmt: skip
OPTIONS = {
    "steps": STEPS,
    "points": st.integers(2, 4),
    "path_length": st.sampled_from([1e-3, 1.2, 30]),
    "step_ratios": RATIOS,
    "radii": RADII,
    "momenta": st.sampled_from([[0], [0, 0.5], [0.999]]),
    "product_ratios": st.sampled_from([[0.5], [1], [1e-6, 1e6]]),
    "regularizations": st.sampled_from([[1e-6], [0.5, 1], [1e6]]),
    "starts": st.sampled_from([["fan_in"], ["identity", "small"], ["orthogonal", "xavier"]]),
    "repeats": COUNT,
    "samples": st.integers(2, 4),
    "observed_share": st.sampled_from([0.01, 0.5, 1]),
    "observations": st.sampled_from([["mask"], ["weights", "measurements"]]),
    "observed_shares": st.sampled_from([[0.5], [0.01, 0.9]]),
    "seed": st.sampled_from([0, 7]),
}


def options_of(study):
    """What to draw the options of a study from."""
    declared = catalog.studies()[study]
    given = OPTIONS | ({"step_ratios": BEYOND} if declared.leaves else {})
    return {name: given[name] for name in declared.options}


EXPLICIT = [
    [[[1], [2]], [[1, 1]]],
    [[[1e6, 0], [0, 1e-6]], [[1e-6, 0], [0, 1e6]]],
    [[[1, 0], [0, 0]], [[1, 0], [0, 1]], [[3, 0], [0, 1e-300]]],
]  # fmt: skip


def with_points(content):
    """The same with every integer as a number with a point: ``3.0`` for ``3``."""
    if isinstance(content, dict):
        return {key: with_points(value) for key, value in content.items()}
    if isinstance(content, list):
        return [with_points(value) for value in content]
    exact = type(content) is int and abs(content) < 2**53
    return float(content) if exact else content


@settings(max_examples=25, **FUZZED)
@given(content=st.sampled_from(SHIPPED))
def test_an_experiment_with_points_in_its_integers_is_the_same_one(folder, content):
    path = folder / "experiments/a.yaml"
    read = []
    for written in (content, with_points(content)):
        path.write_text(yaml.safe_dump(written, allow_unicode=True), encoding="utf-8")
        read.append(dataclasses.asdict(load_experiment(path)))
    plain, pointed = ({k: v for k, v in one.items() if "digest" not in k} for one in read)
    # Where the schema has any number, 1 and 1.0 have two digests, as they always had.
    assert pointed == plain
    assert repr(pointed["networks"][0]["widths"]) == repr(plain["networks"][0]["widths"])


@st.composite
def experiments(draw):
    """Experiments of a second or less that mostly make sense, some with points in all integers."""
    content = draw(plain_experiments())
    return with_points(content) if draw(st.booleans()) else content


@st.composite
def plain_experiments(draw):
    kind = draw(st.sampled_from(["gaussian"] * 4 + ["spectrum"] * 2 + ["narrow", "explicit"]))
    content = {
        "description": "fuzzed",
        "seed": draw(st.sampled_from([0, 1, 2**63 - 1])),
        "target": {"kind": kind},
    }
    content["networks"] = [{"widths": draw(WIDTHS)} for _ in range(draw(COUNT))]
    content["minimizers"] = draw(st.lists(MINIMIZERS, min_size=1, max_size=3))
    if kind == "spectrum":
        values = st.sampled_from([[1], [1, 1], [1e6, 1e-6], [3, 2, 1], [1e-6]])
        content["target"]["singular_values"] = draw(values)
        for network in content["networks"]:
            if draw(st.booleans()):
                network["singular_values"] = draw(values)
    if kind == "narrow":
        content["target"]["kind"] = "gaussian"
        kinds = st.lists(st.sampled_from(BOTTLENECKED), min_size=1, max_size=2)
        content["minimizers"] = [{"kind": name} for name in draw(kinds)]
        content["networks"] = [{"widths": [3, *draw(WIDTHS)[1:-1], 4]}]
        return content
    if kind == "explicit":
        factors = draw(st.sampled_from(EXPLICIT))
        widths = [len(factors[0][0]), *map(len, factors)]
        content["networks"] = [{"widths": widths, "factors": factors}]
        content["minimizers"] = [{"kind": "explicit"}]
    if draw(st.booleans()):
        content["escape"] = {
            "minimizers": draw(COUNT),
            "step_ratios": draw(RATIOS),
            "radii": draw(RADII),
            "steps": draw(STEPS),
        }
        if draw(st.booleans()) and kind != "explicit":
            content["escape"]["recorded"] = content["minimizers"][0]["kind"]
            content["landscape"] = {"points": draw(st.integers(2, 4))}
    chosen = draw(st.lists(st.sampled_from(sorted(catalog.studies())), max_size=2, unique=True))
    content["studies"] = {
        name: {key: draw(value) for key, value in options_of(name).items()} for name in chosen
    }
    return content


def stage(name, *arguments):
    """Run a stage's script in this process; the message it ends with, or None."""
    ended = run_script(name, *arguments)
    return ended.error if ended.status else None


@settings(max_examples=int(os.environ.get("DMF_FUZZED_RUNS", "20")), **FUZZED)
@given(content=experiments())
def test_a_valid_experiment_runs_or_says_why_it_cannot(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("run")
    (folder / "experiments").mkdir()
    path = folder / "experiments/a.yaml"
    path.write_text(yaml.safe_dump(content))
    if verdict(folder, {"experiments": ["a"], "figures": []}, path) is not None:
        return
    experiment = load_config({"experiments": ["a"], "figures": []}, folder / "config.yaml")["a"]
    made = folder / "m.safetensors"
    if stage("generate_minimizers", path, made) is not None:
        return
    if experiment.bottlenecked:
        stage("measure_bottleneck", path, made, folder / "b.parquet")
        return
    tables = ["--sharpness", folder / "s.parquet"]
    if stage("evaluate_sharpness", path, made, folder / "s.parquet") is not None:
        return
    if experiment.escape is not None:
        if stage("simulate_escape", path, made, folder / "e.parquet") is not None:
            return
        tables += ["--escape", folder / "e.parquet"]
    if experiment.landscape_points is not None:
        stage(
            "map_landscape", path, made, folder / "e.trajectories.parquet", folder / "l.safetensors"
        )
    done = [
        folder / f"{name}/a.parquet"
        for name in experiment.studies
        if stage("run_study", path, made, folder / f"{name}/a.parquet", name) is None
    ]
    assert stage("judge_claims", folder / "c.json", *tables, "--studies", *done) is None


def test_every_option_is_among_the_configurations():
    assert set(OPTIONS) == set(options.NAMES)
