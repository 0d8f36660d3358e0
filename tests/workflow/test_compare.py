"""``make compare``: a run beside the reference, on the project of a few seconds, in real processes."""

import json
import re
import shutil

import pytest

from dmf_sharpness.claims.ledger import read_ledger, sealed_rows
from tests.workflow.conftest import run_in

pytestmark = pytest.mark.pipeline

TOOL = "tools/compare.py"
REFERENCE = "results/reference"


def agreement(stdout: str) -> dict[str, str]:
    """The last cell of every row of the ledger's table."""
    rows = re.findall(r"^\| (C\d\S*|E\.\S+) \|.*\| ([\w ]+) \|$", stdout, flags=re.MULTILINE)
    return dict(rows)


def files(stdout: str) -> dict[str, tuple[int, int]]:
    """The number of files of every folder, and of those that are the same."""
    rows = re.findall(r"^\| (\S+) \| (\d+) \| (\d+) \| 0 \|$", stdout, flags=re.MULTILINE)
    return {folder: (int(count), int(same)) for folder, count, same in rows}


@pytest.fixture
def recorded(replica):
    """A finished project that is its own reference."""
    assert run_in(replica)(TOOL, "--record").stdout == ""
    return replica


def rewrite(path, change):
    """A ledger with changed rows, sealed like one that was judged so."""
    rows = [{k: v for k, v in row.items() if k != "seal"} for row in read_ledger(path)]
    change({row["id"]: row for row in rows})
    path.write_text(json.dumps(sealed_rows(rows, rows[0]["lineage"])), encoding="utf-8")


def test_a_run_agrees_with_itself(recorded):
    done = run_in(recorded)(TOOL)
    found = agreement(done.stdout)
    assert set(found) == {row["id"] for row in read_ledger(recorded / "results/claims.json")}
    assert set(found.values()) == {"same"}
    assert all(count == same for count, same in files(done.stdout).values())
    assert files(done.stdout)["results/sharpness"] == (4, 4)
    assert files(done.stdout)["figures"] == (4, 4)
    assert done.stdout.endswith(f"All {len(found)} verdicts agree.\n")


def test_the_reference_survives_a_run_and_is_no_result(recorded):
    """Snakemake neither deletes nor counts what lies in results/ and is none of its files."""
    before = (recorded / REFERENCE / "claims.json").read_bytes()
    (recorded / "config/experiments/matrix.yaml").write_text(
        (recorded / "config/experiments/matrix.yaml").read_text().replace("seed: 3", "seed: 4")
    )
    run_in(recorded)("snakemake", "results/claims.json")
    assert (recorded / REFERENCE / "claims.json").read_bytes() == before
    done = run_in(recorded)(TOOL)
    # Other minimizers have other rounding errors, which are within the tolerances, and the same verdicts.
    found = agreement(done.stdout)
    assert {"within"} <= set(found.values()) <= {"same", "within", "beyond"}
    assert files(done.stdout)["results/sharpness"] == (4, 3)
    assert files(done.stdout)["results/minimizers"] == (4, 3)


def test_another_verdict_a_missing_row_and_one_that_is_far_are_said(recorded):
    def change(rows):
        rows["C1.sharpness"]["verdict"] = "fails"
        rows["C1.spectrum"]["control"]["verdict"] = "holds"
        rows["C1.eigenvector"]["value"] = rows["C1.eigenvector"]["tolerance"] * 2
        rows["C2"]["n"] += 1
        rows["C1.bounds"]["id"] = "C1.other"

    rewrite(recorded / REFERENCE / "claims.json", change)
    done = run_in(recorded)(TOOL, check=False)
    assert done.returncode == 1
    found = agreement(done.stdout)
    assert found["C1.sharpness"] == found["C1.spectrum"] == "another verdict"
    assert found["C1.eigenvector"] == "beyond"
    assert found["C1.other"] == "missing"
    assert "fails → holds" in done.stdout
    assert re.search(r"^\| C2 \|.*\d+ → \d+ \|.*same", done.stdout, flags=re.MULTILINE)
    assert "rows without a reference: C1.bounds\n" in done.stdout
    fallen = re.findall(r"C1\.\w+", done.stdout.splitlines()[-1])
    assert set(fallen) == {"C1.other", "C1.sharpness", "C1.spectrum"}


def test_what_is_missing_or_damaged_is_one_line(recorded):
    def message() -> str:
        done = run_in(recorded)(TOOL, check=False)
        assert done.returncode == 2
        (line,) = [line for line in done.stderr.splitlines() if line]
        return line

    path = recorded / REFERENCE / "run.json"
    run = path.read_text()
    for text in ("", "[]", "{}", run.replace('"digests": {', '"digests": [{', 1)):
        path.write_text(text)
        assert f"{REFERENCE}/run.json: expected the digests of the reference run, got" in message()
    path.write_text(run)
    ledger = recorded / REFERENCE / "claims.json"
    ledger.write_text(ledger.read_text().replace('"n": ', '"n": 1', 1))
    assert "altered since it was judged" in message()
    shutil.rmtree(recorded / REFERENCE)
    assert "git checkout results/reference" in message()
    (recorded / "results/claims.json").unlink()
    assert (
        "results/claims.json: expected a ledger"
        in run_in(recorded)(TOOL, "--record", check=False).stderr
    )
