"""Where the report's numbers come from, and how it writes them."""

import importlib.util
from pathlib import Path

import pytest

from dmf_sharpness.artifacts import provenance
from dmf_sharpness.artifacts.provenance import (
    Account,
    machine,
    read_account,
    rule_times,
    shortened,
    versions,
)
from dmf_sharpness.claims.ledger import to_short_markdown
from dmf_sharpness.experiments import catalog
from dmf_sharpness.figures.captions import figures_of

SCRIPT = Path(__file__).parents[2] / "workflow/scripts/render_report.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("render_report", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("ηλ_max ≤ ‖M‖^{1−1/L}", "ηλ<sub>max</sub> ≤ ‖M‖<sup>1−1/L</sup>"),
        ("mean_i x_i² < 2", "mean<sub>i</sub> x<sub>i</sub>² &lt; 2"),
        ("at 3.7e-15 and 1e+03", "at 3.7&#8239;·&#8239;10<sup>−15</sup> and 10<sup>3</sup>"),
        ("C1.bottleneck_exact, flat_many", "C1.bottleneck_exact, flat_many"),
        ("W_{i+1}ᵀW_i − Σ_i ‖M‖_*", "W<sub>i+1</sub>ᵀW<sub>i</sub> − Σ<sub>i</sub> ‖M‖<sub>*</sub>"),
        ("W_iW_iᵀ, σ_{k+1}", "W<sub>i</sub>W<sub>i</sub>ᵀ, σ<sub>k+1</sub>"),
    ],
)  # fmt: skip
def test_formulas_are_set(script, text, html):
    assert script.typeset(text) == html


@pytest.mark.parametrize(
    ("value", "tolerance", "share"),
    [
        (2e-15, 1e-12, "0.2 %"), (0.0, 1e-12, "0 %"), (1e-80, 1e-50, "&lt; 0.01 %"),
        (-1.0, 1e-12, "none"), (0.0, 0.0, "–"), (None, 1.0, "–"), (3.0, 2.0, "1.5 · 10<sup>2</sup> %"),
    ],
)  # fmt: skip
def test_the_share_of_the_tolerance_is_said(script, value, tolerance, share):
    said = script._share(script.used({"value": value, "tolerance": tolerance}))
    assert said.replace("&#8239;", " ") == share


def test_names_of_claims_lead_to_their_rows(script):
    text = script._linked("(C2: 1; C2.bound: 2; C2.other: 3)", ["C2", "C2.bound"])
    assert text.count("<a ") == 2
    assert '<a href="#C2.bound">C2.bound</a>' in text
    assert "C2.other" in text


def test_paths_are_shortened():
    paths = ["r/b.parquet", "r/a.parquet", "r/a.trajectories.parquet", "s/c.safetensors"]
    expected = "r/{a,b}.parquet, r/a.trajectories.parquet, s/c.safetensors"
    assert shortened(paths) == expected


def test_times_of_a_rule_are_added_up(tmp_path):
    (tmp_path / "slow").mkdir()
    for job, account in (("one", Account(2.0, 1.0, 90.0)), ("two", Account(5.0, 4.0, 100.0))):
        (tmp_path / "slow" / f"{job}.log").write_text(
            f"read x\n{account}; Python 3.11.7, torch 2\n"
        )
    (tmp_path / "quick.log").write_text(f"{Account(0.5, 0.4, 80.0)}; Python 3.11.7\n")
    (tmp_path / "failed.log").write_text("error: results/x.parquet: missing\n")
    slow, quick = rule_times(tmp_path)
    assert (slow.rule, slow.jobs, slow.seconds) == ("slow", 2, 7.0)
    assert (slow.longest, slow.longest_job, slow.memory_mb) == (5.0, "two", 100.0)
    assert (quick.rule, quick.jobs, quick.longest_job) == ("quick", 1, "")
    assert rule_times(tmp_path / "nowhere") == []


def test_the_account_of_a_script_is_read_as_it_was_written(tmp_path):
    (tmp_path / "a.log").write_text(
        f"study: 3 of 10\n{Account(12.34, 11.0, 331.4)}; Python 3.11.7\n"
    )
    assert read_account(tmp_path / "a.log") == Account(12.3, 11.0, 331.0)
    assert read_account(tmp_path) is None


def test_versions_and_machine_are_said():
    assert set(versions()) >= {"Python", "torch", "dmf-sharpness"}
    assert all(machine().values())


def test_a_figure_bears_on_the_claims_that_its_caption_names():
    assert figures_of("C6.law") == ["landing"]
    assert "balance" in figures_of("C2")
    assert "boundary" not in figures_of("C2")  # only on C2.constant and C2.necessity
    assert figures_of("C9") == []
    assert all(figure in catalog.figures() for figure in figures_of("C1.sharpness"))


def test_the_short_table_has_the_papers_claims_in_sight_and_ours_folded():
    def row(name, origin):
        control = {"value": 1.0, "share": 1.0, "n": 3, "verdict": "fails", "description": ""}
        return {
            "id": name, "origin": origin, "claim": "|x|", "value": 1e-15, "tolerance": 1e-12,
            "n": 3, "problems": 1, "verdict": "holds", "control": control,
        }  # fmt: skip

    table = to_short_markdown(
        [row("C1", "paper"), row("C1.more", "ours"), row("E", "extension")], {"C1": ["exactness"]}
    )
    sight, folded = table.split("<details>")
    assert (
        "**C1** \\|x\\| | 1e-15 | 1e-12 | 3 | 1 | 1 | holds | [exactness](figures/exactness.png)"
        in sight
    )
    assert "C1.more" not in sight
    assert "2 more rows" in folded
    assert "**E** (extension)" in folded


def test_the_machine_is_described_without_what_identifies_it(monkeypatch, tmp_path):
    """The release names its builder after the number, such as ``6.1.0-18-amd64``."""
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**22 + 2**19}
    monkeypatch.setattr(provenance.os, "sysconf", sizes.get)
    monkeypatch.setattr(provenance.os, "cpu_count", lambda: 6)
    for name, value in (("system", "Linux"), ("release", "6.1.0-18-amd64"), ("machine", "x86_64")):
        monkeypatch.setattr(provenance.platform, name, lambda value=value: value)
    information = tmp_path / "cpuinfo"
    information.write_text(
        "processor : 0\nmodel name : A processor: of 2 GHz\nmodel name : another\n"
    )
    monkeypatch.setattr(provenance, "Path", lambda _: information)
    assert machine() == {
        "processor": "A processor: of 2 GHz", "cores": "6", "memory": "18 GiB",
        "system": "Linux 6.1.0, x86_64",
    }  # fmt: skip
    information.unlink()
    monkeypatch.setattr(provenance.platform, "processor", lambda: "")
    assert machine()["processor"] == "x86_64"
