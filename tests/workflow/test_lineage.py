"""What results carry of their origin, in real processes: no mixtures."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dmf_sharpness.artifacts.headers import read_header
from dmf_sharpness.artifacts.lineage import fingerprint_in
from tests.workflow.conftest import ROOT, jobs_of, run_in

pytestmark = pytest.mark.pipeline

SCRIPTS = "workflow/scripts"
TABLES = [
    "--sharpness", "results/sharpness/matrix.parquet", "results/sharpness/scalar.parquet",
    "--escape", "results/escape/matrix.parquet", "results/escape/scalar.parquet",
]  # fmt: skip


@pytest.fixture(scope="module")
def another(finished, tmp_path_factory) -> Path:
    """The finished project after an edit of the seed of one experiment, run again as far as its tables."""
    folder = tmp_path_factory.mktemp("another") / "project"
    shutil.copytree(finished[0], folder, copy_function=shutil.copy2)
    path = folder / "config/experiments/matrix.yaml"
    path.write_text(path.read_text().replace("seed: 3", "seed: 4"))
    run_in(folder)("snakemake", "results/sharpness/matrix.parquet", "results/escape/matrix.parquet")
    return folder


def refused(run: subprocess.CompletedProcess, *words: str) -> None:
    assert run.returncode == 2, run.stdout + run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert all(word in line for word in words), line
    assert "Traceback" not in run.stderr


def test_tables_and_figures_say_what_they_were_made_from(finished):
    folder, _ = finished
    header = read_header(folder / "results/sharpness/matrix.parquet")
    minimizers = read_header(folder / "results/minimizers/matrix.safetensors")
    assert header["made_from"] == {
        "config/experiments/matrix.yaml": header["digest"],
        "results/minimizers/matrix.safetensors": minimizers["content"],
    }
    assert header["seed"] == 3
    assert len(header["code"]) == 16
    assert header["engine"] in ("compiled", "torch")
    written = [*folder.glob("figures/*.*"), *folder.glob("results/claims.*")]
    assert len(written) >= 10
    assert all(fingerprint_in(path) for path in [*written, folder / "results/report.html"])


@pytest.mark.parametrize(
    "old", ["results/sharpness/matrix.parquet", "results/escape/matrix.parquet"]
)
def test_a_ledger_is_not_judged_from_a_mixture(finished, another, tmp_path, old):
    mixed = tmp_path / "project"
    shutil.copytree(another, mixed)
    shutil.copy(finished[0] / old, mixed / old)
    run = run_in(mixed)(f"{SCRIPTS}/judge_claims.py", "results/claims.json", *TABLES, check=False)
    refused(run, old, "config/experiments/matrix.yaml", f"snakemake {old}")
    # Without the experiment at hand the tables are still compared with each other.
    shutil.rmtree(mixed / "config")
    shutil.rmtree(mixed / "results/minimizers")
    run = run_in(mixed)(f"{SCRIPTS}/judge_claims.py", "c.json", *TABLES, check=False)
    refused(run, "matrix.parquet", "made from")
    assert not (mixed / "c.json").exists()


def test_a_figure_is_not_drawn_from_an_old_table(finished, another, tmp_path):
    mixed = tmp_path / "project"
    shutil.copytree(another, mixed)
    table = "results/sharpness/matrix.parquet"
    shutil.copy(finished[0] / table, mixed / table)
    draw = f"{SCRIPTS}/render_figure.py", "flatness", "figures/flatness", "--sharpness", table
    refused(run_in(mixed)(*draw, check=False), table, f"snakemake {table}")
    # The plain command makes the table anew, though its time is the newest.
    done = run_in(mixed)("snakemake", table)
    assert "evaluate_sharpness" in jobs_of(done)
    assert (mixed / table).read_bytes() == (another / table).read_bytes()


def test_a_report_is_not_written_from_a_mixture(finished, another, tmp_path):
    mixed = tmp_path / "project"
    shutil.copytree(another, mixed)  # its tables are new, its ledger and its figures old
    figures = [f"figures/{name}.png" for name in ("contour", "exactness", "growth", "flatness")]
    write = f"{SCRIPTS}/render_report.py", "results/claims.json", "r.html", "--figures", *figures
    refused(
        run_in(mixed)(*write, check=False), "results/claims.json", "snakemake results/claims.json"
    )
    run_in(mixed)("snakemake", "results/claims.json")
    refused(run_in(mixed)(*write, check=False), "figures/", "matrix.parquet")
    run_in(mixed)("snakemake", "figures")
    run_in(mixed)(*write)


def test_a_table_of_other_code_is_not_judged(replica):
    path = replica / "src/dmf_sharpness/studies/exactness.py"
    path.write_text(path.read_text() + "# Edited.\n")
    run = run_in(replica)(f"{SCRIPTS}/judge_claims.py", "c.json", *TABLES, check=False)
    refused(run, "results/sharpness/matrix.parquet", "another version of evaluate_sharpness.py")


def test_a_ledger_that_was_edited_does_not_stand(replica):
    path = replica / "results/claims.json"
    path.write_text(path.read_text().replace('"tolerance": ', '"tolerance": 1'))
    refused(
        run_in(replica)(f"{SCRIPTS}/check_verdict.py", str(path.relative_to(replica)), check=False),
        "altered",
    )


def test_editing_a_package_reruns_what_imports_it(replica):
    path = replica / "src/dmf_sharpness/figures/__init__.py"
    path.write_text(path.read_text() + "# Edited.\n")
    again = run_in(replica)("snakemake", "figures")
    assert jobs_of(again).count("render_figure") == 4


def test_editing_a_study_behind_a_bottleneck_reruns_it(project):
    (project / "config/config.yaml").write_text("experiments: [narrow]\nfigures: []\n")
    narrow = (ROOT / "config/experiments/bottleneck_search.yaml").read_text()
    narrow = narrow.replace("steps: 80", "steps: 1").replace("  - widths: [3, 3, 1, 3, 3]\n", "")
    (project / "config/experiments/narrow.yaml").write_text(narrow)
    run_in(project)("snakemake", "results/claims.json")
    path = project / "src/dmf_sharpness/studies/bottleneck_search.py"
    path.write_text(path.read_text() + "# Edited.\n")
    again = jobs_of(run_in(project)("snakemake", "results/claims.json"))
    assert sorted(again) == ["judge_claims", "run_study"]


def test_a_package_that_is_installed_elsewhere_is_not_taken_for_the_one_at_hand(project, tmp_path):
    elsewhere = tmp_path / "site"
    shutil.copytree(project / "src", elsewhere)
    environment = os.environ | {"PYTHONPATH": str(elsewhere)}
    commands = (
        ["-m", "snakemake", "--dry-run"],
        [f"{SCRIPTS}/generate_minimizers.py", "config/experiments/matrix.yaml", "m.safetensors"],
    )

    def run(command: list[str]) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True
        )

    assert all(run(command).returncode == 0 for command in commands)  # the same code
    path = project / "src/dmf_sharpness/network/curvature.py"
    path.write_text(path.read_text() + "# Edited.\n")
    for command in commands:
        done = run(command)
        assert done.returncode != 0
        assert "curvature.py; run pip install --editable ." in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr


def test_an_unwritable_home_is_no_obstacle(project):
    """Snakemake itself wants a cache folder, which the Makefile names where there is no home."""
    shutil.copy(ROOT / "Makefile", project)
    asked = "--eval", "cache: ; @echo $(XDG_CACHE_HOME)", "cache"
    environment = {
        name: value for name, value in os.environ.items() if name[:3] not in ("XDG", "MPL")
    }
    environment |= {"HOME": "/proc/none", "PYTHONPATH": str(project / "src")}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    environment["XDG_CACHE_HOME"] = run("make", "-s", *asked).strip()
    assert environment["XDG_CACHE_HOME"] == str(project / ".snakemake/cache")
    run(sys.executable, "-m", "snakemake", "figures/exactness.png")
    assert (project / "figures/exactness.png").is_file()
