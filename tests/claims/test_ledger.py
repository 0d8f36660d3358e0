"""A ledger that is not one is refused in one line by whoever reads it; one without claims does not stand."""

import copy
import hashlib
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmf_sharpness.artifacts.headers import ArtifactError
from dmf_sharpness.claims import ledger
from dmf_sharpness.claims.claim import Claim, Control
from tests.scripts import run_script

ROW = {
    "id": "C1.sharpness", "origin": "paper", "claim": "It is so.", "statistic": "largest difference ≤ x",
    "value": 1e-15, "tolerance": 1e-12, "n": 21, "experiment": "matrix", "verdict": "holds",
    "problems": 2,
    "control": {
        "description": "the wrong formula", "value": 0.6, "share": 1.0, "n": 3, "verdict": "fails",
        "sample": "0.5 0.6 inf",
    },
    "sample": "-1e-16 0 1e-15 nan",
    "artifacts": {"results/sharpness/matrix.parquet": "ab12"}, "lineage": "lineage:0",
}  # fmt: skip
README = """\
# A title

<!-- claims -->
an old table
<!-- /claims -->

<!-- bench -->
an old benchmark
<!-- /bench -->
"""


def changed(*keys, value):
    row = copy.deepcopy(ROW)
    place = row
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return [ROW, row]


def without(key):
    return [{name: value for name, value in ROW.items() if name != key}]


CORRUPT = {
    "empty file": b"",
    "no JSON": b"[{",
    "cut off": json.dumps([ROW]).encode()[:-40],
    "zeros": bytes(300),
    "not UTF-8": json.dumps([ROW]).replace("It is so", "Größe").encode("latin-1"),
    "UTF-16": json.dumps([ROW]).encode("utf-16"),
    "half a pair": json.dumps([ROW]).replace("It is so", "It is \\ud800").encode(),
    "a number": b"3",
    "null": b"null",
    "an object": json.dumps(ROW).encode(),
    "numbers": b"[1, 2, 3]",
    "texts": b'["C1"]',
    "lists": b"[[]]",
    "an empty row": b"[{}]",
    "NaN": json.dumps(changed("value", value=math.nan)).encode(),
    "infinity": json.dumps(changed("control", "value", value=-math.inf)).encode(),
    "beyond all numbers": json.dumps([ROW]).replace("1e-12", "1e999").encode(),
    "a deep nest": b"[" * 100_000,
    "a text for a number": json.dumps(changed("value", value="1e-15")).encode(),
    "a number for a text": json.dumps(changed("claim", value=3)).encode(),
    "no sample size": json.dumps(without("n")).encode(),
    "a negative sample size": json.dumps(changed("n", value=-1)).encode(),
    "a broken sample size": json.dumps(changed("n", value=2.5)).encode(),
    "no control": json.dumps(without("control")).encode(),
    "a control without a verdict": json.dumps(changed("control", value={"value": 1})).encode(),
    "null for a control": json.dumps(changed("control", value=None)).encode(),
    "another verdict": json.dumps(changed("verdict", value="stands")).encode(),
    "another verdict of a control": json.dumps(changed("control", "verdict", value=True)).encode(),
    "no sample": json.dumps(without("sample")).encode(),
    "a list for a sample": json.dumps(changed("sample", value=[1, 2])).encode(),
    "a sample with words": json.dumps(changed("sample", value="1 two 3")).encode(),
    "a sample with an open end": json.dumps(changed("sample", value="1 2 ")).encode(),
    "markup in a sample": json.dumps(changed("control", "sample", value="1<br>")).encode(),
    "too large a sample": json.dumps(changed("sample", value=" ".join(101 * ["0"]))).encode(),
    "null for a tolerance": json.dumps(changed("tolerance", value=None)).encode(),
}


@pytest.fixture(params=CORRUPT)
def corrupt(request, tmp_path):
    path = tmp_path / "claims.json"
    path.write_bytes(CORRUPT[request.param])
    return path


def test_a_corrupt_ledger_is_refused_in_one_line(corrupt):
    with pytest.raises(ArtifactError) as caught:
        ledger.read_ledger(corrupt)
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert message.startswith(f"{corrupt}: ")
    assert "expected" in message
    assert "run the rule judge_claims again" in message
    assert len(message) < 1000


def test_no_script_trips_over_a_corrupt_ledger(corrupt, tmp_path):
    readme, report = tmp_path / "README.md", tmp_path / "report.html"
    readme.write_text(README)
    assert str(corrupt) in run_script("check_verdict", corrupt).error
    assert str(corrupt) in run_script("update_readme", corrupt, readme).error
    assert readme.read_text() == README
    assert str(corrupt) in run_script("render_report", corrupt, report).error
    assert not report.exists()


@pytest.mark.parametrize("script", ["check_verdict", "update_readme"])
def test_a_ledger_that_is_not_there_or_a_folder_is_named(script, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(README)
    for path, reason in ((tmp_path / "no.json", "No such file"), (tmp_path, "Is a directory")):
        arguments = (path, readme) if script == "update_readme" else (path,)
        message = run_script(script, *arguments).error
        assert message.startswith(f"{path}: ")
        assert reason in message


def test_an_empty_ledger_does_not_stand(tmp_path):
    path, readme = tmp_path / "claims.json", tmp_path / "README.md"
    path.write_text("[]")
    readme.write_text(README)
    sentence = "There are no claims: nothing was judged, and nothing holds."
    assert ledger.summary([]) == sentence
    assert not ledger.all_stand([])
    said = run_script("check_verdict", path)
    assert said.status == 1
    assert said.output.splitlines()[-1] == sentence
    assert run_script("update_readme", path, readme).error == f"{path}: {sentence}"
    assert readme.read_text() == README


@pytest.mark.parametrize(
    ("keys", "value"), [(("verdict",), "fails"), (("control", "verdict"), "holds")]
)
def test_the_readme_never_gets_a_ledger_that_does_not_stand(keys, value, tmp_path):
    path, readme = tmp_path / "claims.json", tmp_path / "README.md"
    rows = changed(*keys, value=value)
    path.write_text(json.dumps(rows))
    readme.write_text(README)
    error = run_script("update_readme", path, readme).error
    assert error == f"{path}: {ledger.summary(rows)}"
    assert readme.read_text() == README


def test_what_is_written_is_read_again(tmp_path):
    control = Control("wrong", math.inf, 1.0, 3, "fails")
    claims = [
        Claim("C1", "paper", "λ", "largest", value, 1.0, 3, 2, "matrix", verdict, control)
        for value, verdict in ((0.5, "holds"), (math.nan, "fails"), (math.inf, "fails"))
    ]
    rows = ledger.to_json(claims)
    path = tmp_path / "claims.json"
    path.write_text(json.dumps(rows, allow_nan=False, ensure_ascii=False), encoding="utf-8")
    read = ledger.read_ledger(path)
    assert [row["value"] for row in read] == [0.5, None, None]
    assert ledger.all_stand(read[:1])
    assert not ledger.all_stand(read)


def test_a_sealed_ledger_is_read_again_and_no_other_row_in_its_place(tmp_path):
    path = tmp_path / "claims.json"
    rows = ledger.sealed_rows([ROW, {**ROW, "id": "C2", "n": 7}], "lineage:1")
    marked = [{**ROW, "lineage": "lineage:1"}, {**ROW, "id": "C2", "n": 7, "lineage": "lineage:1"}]
    digest = hashlib.sha256(json.dumps(marked, sort_keys=True).encode()).hexdigest()
    assert rows == [{**row, "seal": digest} for row in marked]
    path.write_text(json.dumps(rows))
    assert ledger.read_ledger(path) == rows
    altered = [copy.deepcopy(rows) for _ in range(5)]
    altered[0][1]["n"] = 8
    altered[1][0]["control"]["share"] = 0.95
    altered[2].reverse()
    altered[3].pop()
    altered[4][0]["seal"] = 64 * "0"
    for other in altered:
        path.write_text(json.dumps(other))
        with pytest.raises(ArtifactError, match="altered since it was judged"):
            ledger.read_ledger(path)


def test_the_tables_of_the_readme_name_the_figures_of_the_papers_rows_and_of_ours():
    ours = [{**ROW, "id": "C2.a", "origin": "ours"}, {**ROW, "id": "E.b", "origin": "extension"}]
    text = ledger.to_short_markdown(
        [ours[0], ROW, ours[1]], {"C2.a": ["one", "two"], "C1.sharpness": ["three"]}
    )
    lines = [line for line in text.splitlines() if line.startswith("| **")]
    names = ["C1.sharpness**", "C2.a**", "E.b** (extension)"]
    figures = ["[three](figures/three.png)", "[one](figures/one.png), [two](figures/two.png)", ""]
    for line, name, shown in zip(lines, names, figures, strict=True):
        assert line == f"| **{name} It is so. | 1e-15 | 1e-12 | 21 | 2 | 0.6 | holds | {shown} |"
    assert "2 more rows" in text
    assert ledger.to_short_markdown([ROW]).count("| **") == 1
    assert "<details>" not in ledger.to_short_markdown([ROW])


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("holds")
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(list(ROW)), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(key=st.sampled_from(list(ROW)), inner=st.booleans(), value=VALUES)
def test_a_ledger_with_anything_in_it_is_refused_or_can_be_shown(
    tmp_path_factory, key, inner, value
):
    path = tmp_path_factory.mktemp("ledger") / "claims.json"
    place = ("control", {"id": "description"}.get(key, key)) if inner else (key,)
    path.write_text(json.dumps(changed(*place, value=value)))
    try:
        rows = ledger.read_ledger(path)
    except ArtifactError as error:
        assert len(str(error).splitlines()) == 1
        return
    for show in (ledger.to_text, ledger.to_markdown, ledger.to_short_markdown, ledger.summary):
        show(rows).encode()
    assert isinstance(ledger.all_stand(rows), bool)


def ledger_at(folder):
    path = folder / "claims.json"
    path.write_text(json.dumps([ROW]))
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lines of Unix", "lines of Windows"])
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "byte-order mark"])
def test_the_readme_keeps_its_line_ends(tmp_path, end, start):
    readme = tmp_path / "READ ME.md"
    readme.write_bytes((start + README.replace("\n", end)).encode())
    assert run_script("update_readme", ledger_at(tmp_path), readme).status == 0
    text = readme.read_bytes().decode()
    assert text.startswith(f"{start}# A title{end}{end}<!-- claims -->{end}| claim | measured")
    assert text.count("\n") == text.count(end)
    assert "**C1.sharpness** It is so." in text
    assert "an old table" not in text
    assert "an old benchmark" in text


def test_a_link_to_the_readme_stays_a_link(tmp_path):
    (tmp_path / "docs").mkdir()
    readme, link = tmp_path / "docs/README.md", tmp_path / "README.md"
    readme.write_text(README)
    link.symlink_to(readme)
    assert run_script("update_readme", ledger_at(tmp_path), link).status == 0
    assert link.is_symlink()
    assert "C1.sharpness" in readme.read_text()


@pytest.mark.parametrize(
    ("readme", "reason"),
    [
        (README.replace("<!-- claims -->", ""), "<!-- claims --> .* got them 0 times"),
        (README.replace("<!-- /claims -->", ""), "<!-- /claims --> once, .* got them 0 times"),
        (README + README, "got them 2 times"),
        ("", "got them 0 times"),
        (
            README.replace("<!-- claims", "<!-- x").replace("<!-- /claims", "<!-- claims")
            .replace("<!-- x", "<!-- /claims"),
            "one after the other, got them 0 times",
        ),
    ],
    ids=["no start", "no end", "twice", "empty", "the wrong way round"],
)  # fmt: skip
def test_a_readme_without_its_marks_is_refused_and_stays_as_it_is(tmp_path, readme, reason):
    path = tmp_path / "README.md"
    path.write_text(readme)
    said = run_script("update_readme", ledger_at(tmp_path), path)
    assert said.error.startswith(f"{path}: expected the lines ")
    assert re.search(reason, said.error)
    assert path.read_text() == readme


@pytest.mark.parametrize("damage", ["folder", "missing", "not UTF-8", "unwritable folder"])
def test_a_readme_that_cannot_be_read_or_written_is_named(tmp_path, damage):
    path = tmp_path / "README.md"
    if damage == "folder":
        path.mkdir()
    if damage == "not UTF-8":
        path.write_bytes(README.replace("title", "Größe").encode("latin-1"))
    if damage == "unwritable folder":
        path = tmp_path / "claims.json/README.md"
    message = run_script("update_readme", ledger_at(tmp_path), path).error
    assert message.startswith(f"{path}: ")
