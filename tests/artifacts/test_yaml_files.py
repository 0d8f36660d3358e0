"""YAML as people write it: every number is read as it looks, or refused with advice that works."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dmf_sharpness.artifacts import yaml_files
from dmf_sharpness.artifacts.yaml_files import read_yaml
from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments.experiment import load_config, load_experiment

EXPERIMENT = """\
description: {description}
seed: {seed}
target: {{kind: {kind}}}
networks: [{{widths: [3, {width}, 3]}}]
minimizers: [{{kind: flat, count: {count}}}]
escape: {{minimizers: 1, step_ratios: [{ratio}], radii: [1.0e-9], steps: {steps}}}
"""
PLAIN = {
    "description": "x", "seed": "3", "kind": "gaussian", "width": "5", "count": "2", "ratio": "1.1",
    "steps": "600",
}  # fmt: skip


def experiment_of(folder: Path, **written: str):
    path = folder / "e.yaml"
    path.write_text(EXPERIMENT.format(**PLAIN | written), encoding="utf-8")
    return load_experiment(path)


def refusal(folder: Path, **written: str) -> str:
    with pytest.raises(UserError) as caught:
        experiment_of(folder, **written)
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert message.startswith(f"{folder / 'e.yaml'}: ")
    return message


@pytest.mark.parametrize(
    "written",
    [
        {"seed": "3.0"}, {"seed": "0.3e+1"}, {"seed": "+3"}, {"seed": "0x3"}, {"seed": "0b11"},
        {"steps": "6.0e+2"}, {"steps": "600.0"}, {"steps": "600."}, {"steps": "6_00"},
        {"width": "5.0"}, {"width": ".5e+1"}, {"count": "2.0"},
    ],
)  # fmt: skip
def test_a_whole_number_is_an_integer_however_it_is_written(tmp_path, written):
    plain, other = experiment_of(tmp_path), experiment_of(tmp_path, **written)
    assert other == plain  # the digest, too
    for number in (other.seed, other.escape.steps, *other.networks[0].widths):
        assert type(number) is int
    assert type(other.minimizers[0].count) is int


def test_the_digest_of_an_experiment_is_the_one_it_always_had(tmp_path):
    """Of ``3`` and ``1.1`` as they stand in the file: artifacts of earlier runs stay valid."""
    expected = "8e4ceff364b43501"
    assert experiment_of(tmp_path).digest.startswith(expected)


@pytest.mark.parametrize(
    ("seed", "value"),
    [
        ("0", 0), ("-0.0", 0), ("1_000", 1000), ("0x10", 16), ("12", 12), ("4.0e+3", 4000),
        ("9007199254740991.0", 2**53 - 1), ("9223372036854775807", 2**63 - 1),
    ],
)  # fmt: skip
def test_a_seed_is_read_as_it_looks(tmp_path, seed, value):
    assert experiment_of(tmp_path, seed=seed).seed == value


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("010", "got 010, which is 8 to YAML"),
        ("-010", "got -010, which is -8 to YAML"),
        ("0_7", "got 0_7, which is 7 to YAML"),
        ("1:30", "got 1:30, which is 90 to YAML"),
        ("1:30.5", "got 1:30.5, which is 90.5 to YAML"),
        ("190:20:30", "got 190:20:30, which is 685230 to YAML"),
        ("1__0", "got 1__0, which is 10 to YAML"),
        ("08", "got '08', a text as it stands; write 8"),
        ("1:60", "got '1:60'"),
        ("0o10", "got '0o10'"),
        ("0X10", "got '0X10'"),
        ("'3'", "got '3', a text as it stands; write 3"),
        ("1,000", "got '1,000'"),
        ("٣", "got '٣'"),
        ("2024-01-01", "got datetime.date(2024, 1, 1)"),
        ("2024-13-01", "month must be in 1..12"),
        ("yes", "got True"),
        ("off", "got False"),
        ("~", "got None"),
        ("", "got None"),
        ("1e300", "got '1e300'"),
        ("1.0e+300", "got 1e+300"),
        ("1.0e+18", "got 1e+18; write all its digits"),
        ("1.0e+400", "got inf"),
        ("9" * 30, "expected a number of at most 9223372036854775807"),
        ("9" * 5000, "expected valid YAML, got an error"),
        ("3.5", "got 3.5"),
        (".nan", "got nan"),
        ("!!int ''", "expected valid YAML"),
        ("!!bool x", "expected valid YAML"),
        ("!!timestamp x", "expected valid YAML"),
        ("&a [*a]", "nested too deep"),
    ],
)
def test_a_seed_that_is_another_thing_than_it_looks_like_is_refused(tmp_path, number, reason):
    message = refusal(tmp_path, seed=number)
    assert reason in message
    assert "seed: " in message or "YAML, got an error" in message


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("6e2", "6.0e+2"), ("1e-3", "1.0e-3"), ("1E3", "1.0e+3"), ("1.e3", "1.0e+3"),
        (".5e3", "0.5e+3"), ("1e+3", "1.0e+3"), ("1.5e3", "1.5e+3"), ("007.5e1", None), ("+.5", "+0.5"),
        ("'0.7'", "0.7"), ("09", "9"),
    ],
)  # fmt: skip
def test_the_advice_on_a_number_that_is_a_text_works(tmp_path, written, advice):
    message = refusal(tmp_path, ratio=written)
    given = re.search(r"a text as it stands; write (\S+)$", message)
    assert given is not None, message
    assert advice is None or given[1] == advice
    read = experiment_of(tmp_path, ratio=given[1]).escape.step_ratios
    assert read == (float(written.strip("'")),)


@given(st.data())
def test_the_advice_is_the_number_that_was_meant(tmp_path_factory, data):
    """Whatever Python reads as a number is read alike, or refused with advice that is read alike."""
    digits = st.text("0123456789", min_size=1, max_size=3)
    point = st.sampled_from(["", "."])
    power = st.sampled_from(["", "e", "E", "e+", "e-", "E+"])
    written = data.draw(st.sampled_from(["", "+"])) + data.draw(digits) + data.draw(point)
    written += data.draw(st.one_of(st.just(""), digits))
    sign = data.draw(power)
    written += sign + (data.draw(st.sampled_from("0123")) if sign else "")
    meant = float(written)
    folder = tmp_path_factory.mktemp("advice")
    if not 1e-6 <= meant <= 1e6:
        return
    try:
        read = experiment_of(folder, ratio=written).escape.step_ratios
    except UserError as error:
        advice = re.search(r"write (\S+)$", str(error))
        octal = re.search(r"which is (\d+) to YAML", str(error))
        assert advice or octal, (written, str(error))
        if octal:
            assert int(octal[1]) == int(written, 8)
            return
        read = experiment_of(folder, ratio=advice[1]).escape.step_ratios
    assert read == (meant,)


@pytest.mark.parametrize("text", ["no", "off", "true", "2024-01-01", "5", "1:30", "6.0e+2"])
def test_a_text_that_yaml_takes_for_something_else_is_refused_or_read_as_it_looks(tmp_path, text):
    message = refusal(tmp_path, description=text)
    assert "quotes" in message
    assert experiment_of(tmp_path, description=f"'{text}'").description == text


def test_a_key_that_is_no_text_is_to_be_put_in_quotes(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text(EXPERIMENT.format(**PLAIN) + "on: 1\n")
    with pytest.raises(UserError, match="True: expected a key that is a text, got True; put it in"):
        load_experiment(path)


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    ],
    ids=["Windows line endings", "byte-order mark", "both"],
)
def test_files_from_windows_are_the_same_experiment(tmp_path, encode):
    text = EXPERIMENT.format(**PLAIN | {"description": "|\n  two\n  lines of λ"})
    path = tmp_path / "e.yaml"
    path.write_text(text, encoding="utf-8")
    plain = load_experiment(path)
    path.write_bytes(encode(text))
    assert load_experiment(path) == plain


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_in_another_encoding_is_refused_in_one_line(tmp_path, encoding):
    path = tmp_path / "e.yaml"
    path.write_bytes(EXPERIMENT.format(**PLAIN | {"description": "Größe"}).encode(encoding))
    with pytest.raises(UserError, match=r"e\.yaml: expected valid YAML, got an error: .*utf-8"):
        load_experiment(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match="expected a readable file, got: Is a directory"):
        read_yaml(tmp_path)


@pytest.mark.parametrize("count", [2, 2.0, "2", "2.0", "0.2e+1"])
def test_the_configuration_takes_whole_numbers_however_they_come(tmp_path, count):
    """Snakemake's ``--config`` hands the numbers within ``replicas={e: 2}`` over as texts."""
    experiment_of(tmp_path)
    config = {"experiments": ["e"], "figures": [], "replicas": {"e": count}}
    assert set(load_config(config, tmp_path / "config.yaml", tmp_path)) == {"e", "e.r2"}


@pytest.mark.parametrize("count", [2.5, "2.5", "010", "1:30", "2e0", "yes", 1e300, "", "[2]", True])
def test_the_configuration_refuses_what_is_no_whole_number(tmp_path, count):
    experiment_of(tmp_path)
    config = {"experiments": ["e"], "figures": [], "replicas": {"e": count}}
    with pytest.raises(UserError, match=r"replicas\.e: expected a (value of type|number)") as error:
        load_config(config, tmp_path / "config.yaml", tmp_path)
    assert "\n" not in str(error.value)


def test_a_file_says_the_same_to_another_reader_of_yaml(tmp_path):
    """What is read at all is what PyYAML's own loader, which Snakemake uses, makes of it."""
    text = EXPERIMENT.format(**PLAIN | {"seed": "0x1F", "steps": "1_0", "ratio": "1.5e+1"})
    path = tmp_path / "e.yaml"
    path.write_text(text)
    assert read_yaml(path) == yaml.safe_load(text)


def test_a_text_is_the_number_that_it_would_be_without_quotes():
    numbers = {"12": 12, "1.0e+3": 1000.0, "-0x10": -16, "2.5": 2.5}
    assert {text: yaml_files._number(text) for text in numbers} == numbers
    for text in ("null", "true", "2020-01-01", "[1]", "abc", "{", ""):
        assert yaml_files._number(text) == text
