"""The digests of artifacts, computed again from their definitions."""

import hashlib
import json
import os
import stat
import struct
from pathlib import Path

import pandas as pd
import pytest
import torch

from dmf_sharpness.artifacts import headers, lineage
from dmf_sharpness.artifacts.headers import ArtifactError, read_header, rule_of
from dmf_sharpness.artifacts.store import (
    content_digest,
    file_digest,
    read_arrays,
    read_studies,
    read_table,
    read_tables,
    read_tensors,
    write_table,
    write_tensors,
    write_text,
)
from dmf_sharpness.errors import UserError

HEADER = {"experiment": "one", "seed": 3}


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_the_digest_of_tensors_is_of_names_types_shapes_and_values_in_order_of_names(tmp_path):
    path = tmp_path / "m.safetensors"
    tensors = {"b": torch.tensor([[1.5, 2.0, -0.25]]).double().mT, "a": torch.tensor([7, -1])}
    write_tensors(path, "minimizers", tensors, HEADER)
    expected = sha256(
        b"a torch.int64 (2,);", struct.pack("<2q", 7, -1),
        b"b torch.float64 (3, 1);", struct.pack("<3d", 1.5, 2.0, -0.25),
    )  # fmt: skip
    assert read_tensors(path, "minimizers")[1]["content"] == expected
    assert read_arrays(path, "minimizers")[1]["content"] == expected
    assert content_digest(path) == expected


def test_the_digest_of_a_table_is_of_columns_in_their_order(tmp_path):
    path = tmp_path / "t.parquet"
    table = pd.DataFrame({"x": [0.5, -2.0], "n": [3, 4], "ok": [True, False]})
    write_table(path, "escape", table, HEADER)
    expected = sha256(
        b"x double;", struct.pack("<2d", 0.5, -2.0), b"n int64;[3, 4]", b"ok bool;[true, false]"
    )
    assert read_table(path, "escape")[1]["content"] == expected
    assert content_digest(path) == expected
    assert lineage.digest_at_hand(path) == expected


@pytest.mark.parametrize("kind", ["table", "tensors"])
def test_another_content_under_an_unchanged_header_is_refused(tmp_path, kind):
    """The seal of the header is right, so that only the digest of the content tells."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import safetensors.torch

    path = tmp_path / ("t.parquet" if kind == "table" else "t.safetensors")
    if kind == "table":
        write_table(path, "escape", pd.DataFrame({"x": [1.0]}), HEADER)
        text = pq.read_schema(path).metadata
        pq.write_table(pa.table({"x": [1.0000001]}).replace_schema_metadata(text), path)
        readers = [read_table]
    else:
        write_tensors(path, "escape", {"x": torch.ones(1).double()}, HEADER)
        with safetensors.safe_open(path, "pt") as file:
            text = file.metadata()
        safetensors.torch.save_file(
            {"x": torch.full((1,), 1.0000001).double()}, path, metadata=text
        )
        readers = [read_tensors, read_arrays]
    for read in readers:
        with pytest.raises(ArtifactError, match="the content does not match its digest"):
            read(path, "escape")
    with pytest.raises(ArtifactError, match="the content does not match its digest"):
        content_digest(path)


def test_the_seal_is_of_the_whole_header():
    text = headers.sealed("escape", HEADER, "digest")
    body = json.loads(text)
    seal = body.pop("seal")
    assert seal == sha256(json.dumps(body, sort_keys=True).encode())
    assert body["content"] == "digest"
    assert (body["schema"], body["kind"], body["experiment"]) == (2, "escape", "one")
    for key in body:
        with pytest.raises(ArtifactError, match="the header is damaged"):
            headers.unsealed(Path("f"), "escape", json.dumps({**body, key: "other", "seal": seal}))


def test_an_older_schema_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    monkeypatch.setattr(headers, "SCHEMA_VERSION", 1)
    write_table(path, "escape", pd.DataFrame({"x": [1.0]}), HEADER)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="expected schema 2, got 1"):
        read_header(path)


def test_a_header_is_read_of_any_kind_and_a_damaged_file_is_named(tmp_path):
    table, tensors = tmp_path / "t.parquet", tmp_path / "m.safetensors"
    write_table(table, "escape", pd.DataFrame({"x": [1.0]}), HEADER)
    write_tensors(tensors, "minimizers", {"x": torch.ones(1)}, HEADER)
    assert (read_header(table)["kind"], read_header(tensors)["kind"]) == ("escape", "minimizers")
    for path in (table, tensors):
        path.write_bytes(path.read_bytes()[:-9])
        if path == tensors:
            with pytest.raises(ArtifactError, match="expected a readable file"):
                read_header(path)
        path.write_bytes(b"")
        with pytest.raises(ArtifactError, match="expected a readable file"):
            read_header(path)
        path.unlink()
        with pytest.raises(ArtifactError, match="no such file"):
            read_header(path)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("escape", "simulate_escape"),
        ("study_soft", "run_study"),
        ("sharpness", "evaluate_sharpness"),
    ],
)
def test_the_remedy_is_the_rule_and_the_command_where_the_workflow_makes_the_file(kind, rule):
    assert rule_of(kind) == rule
    inside = ArtifactError(Path("results/a.parquet"), kind, "damaged")
    assert str(inside) == (
        f"results/a.parquet: damaged; run the rule {rule} again with: snakemake results/a.parquet"
    )
    assert (inside.in_workflow, inside.path) == (True, Path("results/a.parquet"))
    outside = ArtifactError(Path("other/a.parquet"), kind, "damaged")
    assert str(outside) == f"other/a.parquet: damaged; run the rule {rule} again"
    assert not outside.in_workflow
    unknown = ArtifactError(Path("a.parquet"), headers.ANY_KIND, "damaged")
    assert str(unknown) == "a.parquet: damaged; run the rule artifact again"
    bench = ArtifactError(Path("results/b.parquet"), "benchmark", "damaged")
    assert str(bench).endswith("damaged; run make bench again")


def test_tables_are_joined_in_the_order_of_their_names_with_their_origin(tmp_path):
    for name, x in (("b", 2.0), ("a", 1.0)):
        write_table(
            tmp_path / f"{name}.parquet",
            "escape",
            pd.DataFrame({"x": [x]}),
            {"experiment": f"e_{name}"},
        )
    paths = [tmp_path / "b.parquet", tmp_path / "a.parquet"]
    table = read_tables(paths, "escape")
    assert table.x.tolist() == [1.0, 2.0]
    assert table.experiment.tolist() == ["e_a", "e_b"]
    assert table.artifact.tolist() == [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    assert table.index.tolist() == [0, 1]
    assert read_tables([], "escape").empty


def test_studies_are_told_apart_by_their_headers(tmp_path):
    for name, kind in (("x", "study_soft"), ("y", "study_paths"), ("z", "study_soft")):
        table = pd.DataFrame({"v": [name]})
        write_table(tmp_path / f"{name}.parquet", kind, table, {"experiment": name})
    found = read_studies([tmp_path / f"{name}.parquet" for name in "zyx"])
    assert {name: table.v.tolist() for name, table in found.items()} == {
        "paths": ["y"], "soft": ["x", "z"],
    }  # fmt: skip
    write_table(tmp_path / "w.parquet", "escape", pd.DataFrame({"v": [1]}), {"experiment": "w"})
    with pytest.raises(ArtifactError, match="expected a table of a study, got kind 'escape'"):
        read_studies([tmp_path / "w.parquet"])


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    """And not those of a temporary one, which nobody else may read."""
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "text")
    finally:
        assert os.umask(before) == 0o027
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_a_folder_in_the_way_is_told_as_the_reason(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"expected to be able to write it, got: File exists$"):
        write_text(tmp_path / "file" / "a.txt", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"folder: expected to be able to write it, got: Is a dir"):
        write_text(tmp_path / "folder", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_fingerprint_of_a_lineage():
    made = lineage.lineage("c", {"b": "2", "a": "1"}, {"width": 3})
    assert list(made["made_from"]) == ["a", "b"]
    text = '{"code": "c", "made_from": {"a": "1", "b": "2"}, "options": {"width": 3}}'
    assert lineage.fingerprint(made) == sha256(text.encode())
    assert lineage.marker(made) == f"lineage:{sha256(text.encode())}"


def test_the_digest_of_code_is_of_names_lengths_and_texts(tmp_path):
    path = tmp_path / "script.py"
    path.write_text("x = 1\n")
    assert lineage.code_digest(path) == sha256(b"script.py 6;x = 1\n")[:16]
    errors = lineage.PACKAGE / "errors.py"
    package = lineage.PACKAGE / "__init__.py"
    importing = tmp_path / "importing.py"
    importing.write_text("from dmf_sharpness.errors import UserError\n")
    parts = []
    for name, file in (
        ("dmf_sharpness/__init__.py", package),
        ("dmf_sharpness/errors.py", errors),
        ("importing.py", importing),
    ):
        text = file.read_bytes()
        parts += [f"{name} {len(text)};".encode(), text]
    assert lineage.code_digest(importing) == sha256(*parts)[:16]


def test_the_digest_of_a_file_is_of_its_bytes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"content")
    assert file_digest(path) == lineage.digest_at_hand(path) == sha256(b"content")
    assert lineage.digest_at_hand(tmp_path / "none") is None


def test_the_digest_of_an_archive_is_of_its_bytes(tmp_path):
    for name in ("a.zip", "a.py", "b"):
        (tmp_path / name).write_bytes(b"a: [")
        assert lineage.digest_at_hand(tmp_path / name) == sha256(b"a: [")
    (tmp_path / "a.yaml").write_bytes(b"seed: 1\n")
    assert lineage.digest_at_hand(tmp_path / "a.yaml") != sha256(b"seed: 1\n")


@pytest.mark.parametrize(
    ("kind", "checked"), [("study_soft", True), ("escape", True), ("claims", False)]
)
def test_tables_and_studies_are_held_against_the_files_that_they_were_made_from(
    tmp_path, kind, checked
):
    source = tmp_path / "source.txt"
    source.write_text("now")
    made_from = {str(source): sha256(b"before")}
    header = {"kind": kind, "code": "c", "made_from": made_from}
    if checked:
        with pytest.raises(
            ArtifactError, match=r"made from .*source\.txt of digest .* now; run the"
        ):
            lineage.check_consistent(tmp_path, {"a.parquet": header})
    else:
        lineage.check_consistent(tmp_path, {"a.parquet": header})
    header["made_from"] = {str(source): sha256(b"now")}
    lineage.check_consistent(tmp_path, {"a.parquet": header})


def test_a_table_of_another_version_of_its_script_is_refused(tmp_path):
    script = tmp_path / "simulate_escape.py"
    script.write_text("x = 1\n")
    header = {"kind": "escape", "code": lineage.code_digest(script), "made_from": {}}
    lineage.check_consistent(tmp_path, {"a.parquet": header})
    with pytest.raises(ArtifactError, match=r"made by another version of simulate_escape\.py"):
        lineage.check_consistent(tmp_path, {"a.parquet": {**header, "code": "other"}})


def test_folders_are_made_and_no_file_stays_open(tmp_path):
    def opened():
        folder = Path("/proc/self/fd")
        return len(list(folder.iterdir())) if folder.is_dir() else 0

    before = opened()
    for k in range(5):
        write_text(tmp_path / "one" / "two" / f"{k}.txt", "text")
    assert opened() == before
