import json
import random

import pandas as pd
import pytest
import torch

from dmf_sharpness.artifacts.store import (
    ArtifactError,
    read_table,
    read_tables,
    read_tensors,
    write_table,
    write_tensors,
    write_text,
)

HEADER = {"experiment": "one", "digest": "abc", "seed": 1}
TENSORS = {"W": torch.arange(12, dtype=torch.float64).reshape(3, 4), "b": torch.tensor([1, 2])}
TABLE = pd.DataFrame(
    {
        "x": [1.5, float("nan"), -0.0],
        "n": [1, 2, 3],
        "name": ["a", "b", "ü"],
        "ok": [True, False, True],
    }
)


@pytest.fixture(params=["tensors", "table"])
def artifact(request, tmp_path):
    if request.param == "tensors":
        path = tmp_path / "deep" / "m.safetensors"
        write_tensors(path, "minimizers", TENSORS, HEADER)
        return path, lambda **expected: read_tensors(path, "minimizers", expected)
    path = tmp_path / "deep" / "t.parquet"
    write_table(path, "escape", TABLE, HEADER)
    return path, lambda **expected: read_table(path, "escape", expected)


def test_what_is_written_is_read(artifact):
    path, read = artifact
    content, header = read(experiment="one", digest="abc")
    if path.suffix == ".parquet":
        pd.testing.assert_frame_equal(content, TABLE)
    else:
        assert all(torch.equal(content[name], TENSORS[name]) for name in TENSORS)
    assert header["seed"] == 1
    assert header["loss"] == "sum of squares: no 1/2, no mean"
    assert set(header) >= {"schema", "kind", "version", "dtype", "content"}
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file is left


@pytest.mark.parametrize("length", range(0, 64, 8))
def test_tensors_lie_at_multiples_of_64_bytes_whatever_the_length_of_the_header(tmp_path, length):
    path = tmp_path / "m.safetensors"
    write_tensors(path, "minimizers", TENSORS, {"experiment": "x" * length})
    tensors, _ = read_tensors(path, "minimizers")
    assert [tensor.data_ptr() % 64 for tensor in tensors.values()] == [0, 0]


def test_an_artifact_of_another_experiment_or_kind_is_refused(artifact):
    path, read = artifact
    with pytest.raises(ArtifactError, match=f"{path}: expected experiment 'two', got 'one'"):
        read(experiment="two")
    other = read_tensors if path.suffix == ".safetensors" else read_table
    with pytest.raises(ArtifactError, match="expected kind 'landscape'"):
        other(path, "landscape")


def test_a_missing_file_names_its_rule(tmp_path):
    with pytest.raises(ArtifactError, match=r"none.parquet: no such file.*rule simulate_escape"):
        read_table(tmp_path / "none.parquet", "escape")


def test_random_damage_never_gives_a_wrong_number(artifact):
    """Whatever happens to the bytes: an error that names the file, or the very same content."""
    path, read = artifact
    good, expected = path.read_bytes(), read()
    rng = random.Random(0)
    caught = 0
    for case in range(150):
        damaged = bytearray(good)
        if case % 3 == 0:
            del damaged[rng.randrange(len(good)) :]
        else:
            for _ in range(1 + case % 4):
                damaged[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(damaged))
        try:
            content, header = read()
        except ArtifactError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
            caught += 1
        else:
            assert header == expected[1]
            if path.suffix == ".parquet":
                pd.testing.assert_frame_equal(content, expected[0])
            else:
                assert all(torch.equal(content[name], expected[0][name]) for name in expected[0])
    assert caught > 100


def test_an_altered_header_is_refused(tmp_path):
    import safetensors.torch

    path = tmp_path / "m.safetensors"
    write_tensors(path, "minimizers", TENSORS, HEADER)
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["dmf_sharpness"])
    header["seed"] = 2
    safetensors.torch.save_file(TENSORS, path, metadata={"dmf_sharpness": json.dumps(header)})
    with pytest.raises(ArtifactError, match="the header is damaged"):
        read_tensors(path, "minimizers")
    safetensors.torch.save_file(TENSORS, path)
    with pytest.raises(ArtifactError, match="expected a header, got none"):
        read_tensors(path, "minimizers")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, "escape", TABLE, HEADER)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_table(path, "escape", TABLE, {"seed": object()})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_two_tables_of_one_experiment_are_refused(tmp_path):
    for name in ("a", "b"):
        write_table(tmp_path / f"{name}.parquet", "escape", TABLE, HEADER)
    both = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    assert len(read_tables(both[:1], "escape")) == 3
    with pytest.raises(ArtifactError, match=r"b\.parquet: expected an experiment once"):
        read_tables(both, "escape")
