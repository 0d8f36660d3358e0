"""The pipeline in real processes, on a configuration of a few seconds."""

import json

import pytest
import yaml

from tests.workflow.conftest import ROOT, jobs_of, run_in

pytestmark = pytest.mark.pipeline

FOLDERS = ("workflow/scripts", "tools", "benchmarks")
SCRIPTS = [path for folder in FOLDERS for path in (ROOT / folder).glob("*.py")]


def test_one_command_writes_everything(finished):
    folder, _ = finished
    claims = json.loads((folder / "results/claims.json").read_text())
    assert {row["verdict"] for row in claims} == {"holds"}
    assert {row["control"]["verdict"] for row in claims} == {"fails"}
    assert "All" in (folder / "results/verdict.txt").read_text()
    assert (folder / "results/claims.md").read_text().count("**holds**") == len(claims)
    page = (folder / "results/report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page.replace("data:image", "")
    for figure in ("contour", "exactness", "growth", "flatness"):
        assert (folder / f"figures/{figure}.pdf").read_bytes().startswith(b"%PDF")
        assert (folder / f"figures/{figure}.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_call_does_nothing(finished):
    folder, _ = finished
    again = run_in(folder)("snakemake")
    assert jobs_of(again) == []
    assert "Nothing to be done" in again.stderr


def test_deleted_figures_are_redrawn_from_cached_tables(replica):
    before = {path.name: path.read_bytes() for path in (replica / "figures").iterdir()}
    for path in (replica / "figures").iterdir():
        path.unlink()
    again = run_in(replica)("snakemake", "figures")
    assert set(jobs_of(again)) == {"render_figure", "figures"}
    # The same bytes as before.
    assert {path.name: path.read_bytes() for path in (replica / "figures").iterdir()} == before


def test_editing_an_experiment_reruns_that_one_only(replica):
    path = replica / "config/experiments/matrix.yaml"
    path.write_text(path.read_text().replace("seed: 3", "seed: 4"))
    again = run_in(replica)("snakemake", "results/claims.json")
    made = [rule for rule in jobs_of(again) if rule != "judge_claims"]
    assert sorted(made) == ["evaluate_sharpness", "generate_minimizers", "simulate_escape"]


def test_editing_a_module_reruns_the_stages_that_import_it(replica):
    path = replica / "src/dmf_sharpness/figures/growth.py"
    path.write_text(path.read_text() + "\n# edited\n")
    again = run_in(replica)("snakemake", "figures")
    assert jobs_of(again).count("render_figure") == 1


def test_stages_run_by_hand_on_files(project):
    run = run_in(project)
    experiment, scripts = "config/experiments/scalar.yaml", "workflow/scripts"
    run(f"{scripts}/generate_minimizers.py", experiment, "m.safetensors")
    run(f"{scripts}/evaluate_sharpness.py", experiment, "m.safetensors", "out/s.parquet")
    run(f"{scripts}/simulate_escape.py", experiment, "m.safetensors", "e.parquet")
    run(
        f"{scripts}/map_landscape.py",
        experiment, "m.safetensors", "e.trajectories.parquet", "l.safetensors",
    )  # fmt: skip
    run(
        f"{scripts}/judge_claims.py",
        "c.json",
        "--sharpness",
        "out/s.parquet",
        "--escape",
        "e.parquet",
    )
    run(f"{scripts}/render_figure.py", "exactness", "f/x", "--sharpness", "out/s.parquet")
    assert (project / "f/x.pdf").exists()
    # Scalars alone test neither matrices nor data: the verdict says so.
    verdict = run(f"{scripts}/check_verdict.py", "c.json", check=False)
    assert verdict.returncode == 1
    assert "C1.data" in verdict.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "script",
    sorted(str(path.relative_to(ROOT)) for path in SCRIPTS if "__main__" in path.read_text()),
)
def test_every_script_has_help(finished, script):
    folder, _ = finished
    said = run_in(folder)(script, "--help").stdout
    assert said.startswith("usage:")


def test_a_broken_formula_fails_the_run_after_everything_is_written(replica):
    path = replica / "src/dmf_sharpness/network/curvature.py"
    text = path.read_text()
    assert text.count("return 2 * ") == 2  # applied to a matrix, and as a matrix itself
    path.write_text(text.replace("return 2 * ", "return 2.000001 * "))
    figure = replica / "figures/exactness.png"
    before = figure.read_bytes()
    run = run_in(replica)("snakemake", check=False)
    assert run.returncode != 0
    claims = {
        row["id"]: row["verdict"]
        for row in json.loads((replica / "results/claims.json").read_text())
    }
    assert claims["C1.sharpness"] == claims["C1.spectrum"] == "fails"
    assert claims["C6.return"] == "holds"
    # The ledger, the figures and the report are of this run; the run's last words are its verdict.
    assert figure.read_bytes() != before
    assert "fails" in (replica / "results/report.html").read_text()
    assert not (replica / "results/verdict.txt").exists()
    assert "These claims fail: C1.sharpness" in run.stdout + run.stderr


BAD = {
    "unknown key": ("sed: 1", "config/experiments/matrix.yaml: sed: unknown key"),
    "negative width": ("networks: [{widths: [3, -5, 3]}]", "networks[0].widths[1]: expected"),
    "narrow width": ("networks: [{widths: [3, 2, 3]}]", "at least 3, the target's rank"),
    "NaN": (
        "escape: {minimizers: 1, step_ratios: [.nan], radii: [0.1], steps: 1}",
        "escape.step_ratios[0]: expected a finite number, got nan",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_experiments_are_refused_before_any_job(project, case):
    addition, message = BAD[case]
    path = project / "config/experiments/matrix.yaml"
    content = yaml.safe_load(path.read_text()) | yaml.safe_load(addition)
    path.write_text(yaml.safe_dump(content))
    run = run_in(project)("snakemake", check=False)
    assert run.returncode != 0
    lines = [line for line in run.stderr.splitlines() if message in line]
    assert len(lines) == 1
    assert "Traceback" not in run.stderr
    assert not (project / "results").exists()
    by_hand = run_in(project)(
        "workflow/scripts/generate_minimizers.py",
        "config/experiments/matrix.yaml",
        "m",
        check=False,
    )
    assert by_hand.returncode == 2
    assert len(by_hand.stderr.splitlines()) == 1
    assert message in by_hand.stderr
    assert not (project / "m").exists()


def test_a_missing_experiment_is_refused_before_any_job(project):
    (project / "config/experiments/matrix.yaml").unlink()
    run = run_in(project)("snakemake", check=False)
    assert run.returncode != 0
    assert (
        "experiments[1]: expected the name of a file in config/experiments, got 'matrix'"
        in run.stderr
    )
    assert not (project / "results").exists()


@pytest.mark.parametrize("damage", ["truncated", "another experiment's"])
def test_an_artifact_that_is_not_of_the_files_at_hand_is_made_anew(replica, damage):
    path = replica / "results/sharpness/matrix.parquet"
    good = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(good[: len(good) // 2])
    else:
        path.write_bytes((replica / "results/sharpness/scalar.parquet").read_bytes())
    before = (replica / "results/claims.json").read_bytes()
    run = run_in(replica)("snakemake", "results/claims.json")
    assert "evaluate_sharpness" in jobs_of(run)
    assert path.read_bytes() == good
    assert (replica / "results/claims.json").read_bytes() == before


def test_an_altered_artifact_is_an_error_that_names_file_and_rule_and_then_made_anew(replica):
    path = replica / "results/sharpness/matrix.parquet"
    good = path.read_bytes()
    # In a column; the header, at the end of the file, is as it was.
    path.write_bytes(good[:40] + bytes(64) + good[104:])
    before = (replica / "results/claims.json").read_bytes()
    run = run_in(replica)("snakemake", "results/claims.json", check=False)
    assert run.returncode != 0
    error = next(line for line in run.stderr.splitlines() if line.strip().startswith("error: "))
    assert str(path.relative_to(replica)) in error
    assert "run the rule evaluate_sharpness again with: snakemake results/sharpness" in error
    assert "Traceback" not in run.stderr
    # The failed run took nothing away, and the same command makes the table anew.
    assert (replica / "results/claims.json").read_bytes() == before
    run_in(replica)("snakemake", "results/claims.json")
    assert path.read_bytes() == good


def test_a_failed_stage_keeps_what_was_there(replica):
    """A job that fails puts back the output of the run before."""
    output = replica / "results/escape/matrix.parquet"
    before = output.read_bytes()
    script = replica / "workflow/scripts/simulate_escape.py"
    text = script.read_text()
    script.write_text(text.replace("args = parser.parse_args()", "raise MemoryError"))
    run = run_in(replica)("snakemake", "results/escape/matrix.parquet", check=False)
    assert run.returncode != 0
    assert output.read_bytes() == before
    # It is as it was, and of the present code again.
    script.write_text(text)
    run_in(replica)("snakemake", "results/escape/matrix.parquet")
    assert output.read_bytes() == before


def test_with_quiet_rules_a_line_tells_the_progress_and_errors_are_shown(replica):
    run = run_in(replica)
    (replica / "figures/flatness.png").unlink()
    done = run("snakemake", "--quiet", "rules", "host")
    lines = [line for line in done.stderr.splitlines() if "jobs done" in line]
    assert lines[0].startswith("0 of 4 jobs done, ")
    assert lines[-1].startswith("4 of 4 jobs done")
    assert "rule render_figure" not in done.stderr
    log = max((replica / ".snakemake/log").iterdir(), key=lambda path: path.stat().st_mtime)
    assert "rule render_figure" in log.read_text()
    module = replica / "src/dmf_sharpness/figures/flatness.py"
    module.write_text(module.read_text() + "raise ValueError('on purpose')\n")
    broken = run("snakemake", "--quiet", "rules", "host", check=False)
    assert broken.returncode != 0
    assert "Error in rule render_figure" in broken.stderr
    assert "ValueError: on purpose" in broken.stderr
