"""The workflow runs from and in any folder, also as a module of another one, as snakedeploy sets it up."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import ROOT, SMOKE, Run, jobs_of, make_project, run_in

pytestmark = pytest.mark.pipeline

STAGES = ROOT / "workflow/scripts"
DEPLOYED = """\
configfile: "config/config.yaml"


module dmf:
    snakefile:
        "{snakefile}"
    config:
        config


use rule * from dmf{names}
"""
"""The Snakefile that ``snakedeploy deploy-workflow`` writes, where the names are left as they are."""
CATALOG = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))


class Deployed:
    """A folder with a configuration of its own, which takes the workflow of a project as a module."""

    def __init__(self, folder: Path) -> None:
        self.project = make_project(folder / "the {project}")
        shutil.rmtree(self.project / "config")
        self.folder = folder / "somebody's own"
        (self.folder / "workflow").mkdir(parents=True)
        shutil.copytree(SMOKE, self.folder / "config")
        self.take(self.project / "workflow/Snakefile")

    def take(self, snakefile: Path | str, names: str = "", more: str = "") -> None:
        """Write the Snakefile."""
        text = DEPLOYED.format(snakefile=snakefile, names=names) + more
        (self.folder / "workflow/Snakefile").write_text(text)

    @property
    def run(self) -> Run:
        """Runs commands in the folder, with the package of the project."""
        return run_in(self.folder, self.project)

    def snakemake(self, *arguments: str) -> list[str]:
        """The rules of the jobs of a run."""
        return sorted(jobs_of(self.run("snakemake", "--cores", "2", *arguments)))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """One that has run once. Tests leave it as they found it."""
    result = Deployed(tmp_path_factory.mktemp("deployed"))
    assert "check_verdict" in result.snakemake()
    return result


def test_a_module_gives_what_the_project_gives(deployed, finished):
    for name in ("results/claims.json", "results/verdict.txt", "figures/contour.pdf"):
        assert (deployed.folder / name).read_bytes() == (finished[0] / name).read_bytes()
    assert not (deployed.project / "results").exists()
    assert deployed.snakemake() == []


@pytest.mark.parametrize("prefix", ["", "dmf_"])
def test_results_of_a_module_are_kept_and_made_anew_as_elsewhere(deployed, prefix):
    deployed.take(deployed.project / "workflow/Snakefile", f" as {prefix}*" if prefix else "")
    assert deployed.snakemake() == []
    end = [prefix + rule for rule in ("all", "check_verdict", "render_figure", "render_report")]
    (deployed.folder / "figures/contour.pdf").unlink()
    assert deployed.snakemake() == end
    # A table of another experiment, with a new time.
    tables = deployed.folder / "results/sharpness"
    kept = (tables / "digits.parquet").read_bytes()
    shutil.copy(tables / "scalar.parquet", tables / "digits.parquet")
    assert prefix + "evaluate_sharpness" in deployed.snakemake()
    assert (tables / "digits.parquet").read_bytes() == kept
    module = deployed.project / "src/dmf_sharpness/figures/contour.py"
    text = module.read_text()
    module.write_text(text + "# Edited.\n")
    assert deployed.snakemake() == end
    module.write_text(text)
    assert deployed.snakemake() == end
    assert deployed.snakemake() == []


def test_rules_of_a_module_may_be_modified(deployed):
    more = """
use rule render_figure from dmf as dmf_render_figure with:
    threads: 2
    log:
        "my logs/{figure}.log"
"""
    deployed.take(deployed.project / "workflow/Snakefile", " as dmf_*", more)
    (deployed.folder / "figures/exactness.png").unlink()
    assert "dmf_render_figure" in deployed.snakemake()
    assert (deployed.folder / "my logs/exactness.log").is_file()
    assert deployed.snakemake() == []


def test_a_module_reads_its_own_experiments(deployed):
    deployed.take(deployed.project / "workflow/Snakefile")
    path = deployed.folder / "config/experiments/matrix.yaml"
    text = path.read_text()
    path.write_text(text.replace("seed: 3", "sed: 3"))
    refused = deployed.run("snakemake", "--cores", "2", check=False)
    path.write_text(text)
    assert refused.returncode != 0
    assert "config/experiments/matrix.yaml: sed: unknown key" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_module_with_a_prefix_for_its_paths_is_refused_in_one_line(deployed):
    deployed.take(deployed.project / "workflow/Snakefile")
    path = deployed.folder / "workflow/Snakefile"
    path.write_text(path.read_text().replace("    config:", '    prefix: "sub"\n    config:'))
    run = deployed.run("snakemake", "--cores", "2", check=False)
    assert run.returncode != 0
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("prefix: ")]
    assert line.startswith("prefix: expected a module without one, got one that moves ")
    assert "Traceback" not in run.stderr


def test_a_module_may_come_out_of_a_git_repository(tmp_path):
    """As from GitHub: there is no folder with the scripts, only what Snakemake fetches by name."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    deployed = Deployed(tmp_path)
    project = deployed.project.rename(tmp_path / "project")
    deployed.project = project

    def git(*arguments: str) -> None:
        own = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        subprocess.run(["git", *own, *arguments], cwd=project, check=True, capture_output=True)

    git("init", "--initial-branch", "main")
    git("add", "Snakefile", "workflow")
    git("commit", "-m", "The workflow")
    shutil.rmtree(project / "workflow")
    deployed.take(f"git+file://{project}/workflow/Snakefile@main")
    (deployed.folder / "config/config.yaml").write_text(
        "experiments: [scalar, boundary]\nfigures: [contour, exactness]\n"
    )
    report = "results/report.html"
    assert "render_report" in deployed.snakemake(report)
    assert deployed.snakemake(report) == []
    (deployed.folder / "figures/contour.png").unlink()
    assert deployed.snakemake(report) == ["render_figure", "render_report"]


@pytest.mark.parametrize("how", ["inside", "Snakefile", "workflow/Snakefile", "directory"])
def test_the_workflow_runs_from_and_in_any_folder(tmp_path, how):
    name = "with {b} and a space"
    project = make_project(tmp_path / name / "the {project}")
    folder = project if how == "inside" else tmp_path / name / "elsewhere"
    folder.mkdir(exist_ok=True)
    options = {"inside": [], "directory": ["--directory", str(folder)]}.get(
        how, ["--snakefile", str(project / how)]
    )
    started_in = project if how == "directory" else folder

    def snakemake(*arguments: str) -> subprocess.CompletedProcess:
        run = run_in(started_in, project)
        return run("snakemake", *arguments, "--cores", "2", *options)

    table = folder / "results/sharpness/boundary.parquet"
    targets = ["figures/exactness.png", str(table.relative_to(folder))]
    assert "evaluate_sharpness" in jobs_of(snakemake(*targets))
    made = table.read_bytes()
    assert jobs_of(snakemake(*targets)) == []
    # A table of another experiment, with a new time.
    shutil.copy(folder / "results/sharpness/matrix.parquet", table)
    assert "evaluate_sharpness" in jobs_of(snakemake(*targets))
    assert table.read_bytes() == made
    if how != "inside":
        assert not (project / "results").exists()
        # A folder with a configuration of its own is run with that one.
        shutil.copytree(SMOKE, folder / "config")
        (folder / "config/config.yaml").write_text("experiments: [boundary]\nfigures: []\n")
        dry = snakemake("results/claims.json", "--dry-run")
        assert "boundary" in dry.stdout + dry.stderr
        assert "matrix" not in dry.stdout + dry.stderr


def test_the_scripts_that_are_fetched_are_those_that_there_are():
    common = (ROOT / "workflow/rules/common.smk").read_text(encoding="utf-8")
    listed = common[common.index("STAGES = (") : common.index("SCRIPT_FILES")].split('"')[1::2]
    assert sorted(listed) == sorted(path.stem for path in STAGES.glob("*.py"))
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    for stage in listed:  # each is named as its rule
        assert f"rule {stage}:" in rules or f" as {stage} with:" in rules
    parts = {path.name for path in STAGES.glob("render_report.*")} - {"render_report.py"}
    assert parts == {"render_report.html", "render_report.css", "render_report.js"}


def test_what_the_catalogue_says_of_the_workflow_holds():
    """Its page: https://snakemake.github.io/snakemake-workflow-catalog/docs/about/adding_workflows.html."""
    assert (ROOT / "workflow/Snakefile").is_file()
    assert (ROOT / "config/README.md").is_file()
    usage = CATALOG["usage"]
    assert CATALOG.keys() == {"usage"}
    assert usage.keys() == {"mandatory-flags", "software-stack-deployment", "report"}
    # No flag is needed: the tests above run `snakemake --cores 2` in a deployed folder.
    assert usage["mandatory-flags"]["flags"] == ""
    assert "pip install" in usage["mandatory-flags"]["desc"]
    assert usage["software-stack-deployment"] == {
        "conda": False,
        "apptainer": False,
        "apptainer+conda": False,
    }
    # `snakemake --report` would show what rules mark as report(…).
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert usage["report"] == ("report(" in rules)
