"""What surrounds the science: refusals, logs, replicas, the plan, the same results on one core."""

import importlib.util
import re

import pytest

from dmf_sharpness.artifacts.store import content_digest
from tests.workflow.conftest import ROOT, jobs_of, run_in

pytestmark = pytest.mark.pipeline

BAD = {
    "twice": (
        "experiments: [matrix]\nfigures: []\nexperiments: [digits]\n",
        "config/config.yaml: expected valid YAML, got an error: the key 'experiments' is given twice",
    ),
    "a list": (
        "[matrix]\n",
        "config/config.yaml: the file: expected keys with values, got ['matrix']",
    ),
    "no YAML": ("experiments: [\n", "config/config.yaml: expected valid YAML, got an error"),
    "replicas": (
        "experiments: [boundary]\nfigures: []\nreplicas: {boundary: 2}\n",
        "replicas.boundary: expected an experiment that draws at random",
    ),
    "a figure's need": (
        "experiments: [matrix]\nfigures: [phase]\n",
        "figures[0]: 'phase' expected an experiment with studies.phase, got none",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_configurations_are_refused_before_any_job(project, case):
    text, message = BAD[case]
    (project / "config/config.yaml").write_text(text)
    run = run_in(project)("snakemake", check=False)
    assert run.returncode != 0
    assert len([line for line in run.stderr.splitlines() if message in line]) == 1
    assert "Traceback" not in run.stderr
    assert not (project / "results").exists()


def test_a_configuration_of_one_experiment_is_judged_on_what_it_has(project):
    (project / "config/config.yaml").write_text("experiments: [boundary]\nfigures: []\n")
    run = run_in(project)("snakemake", "results/claims.json")
    assert "judge_claims" in jobs_of(run)


def test_the_log_of_a_job_says_what_it_read_wrote_and_took(finished):
    folder, _ = finished
    log = (folder / "logs/simulate_escape/scalar.log").read_text()
    assert "read config/experiments/scalar.yaml: seed 1, digest " in log
    assert "read results/minimizers/scalar.safetensors: content " in log
    assert "wrote results/escape/scalar.parquet\n" in log
    assert re.search(
        r"^\d+\.\d s, \d+\.\d s of processor time, peak memory \d+ MB; Python \S+, dmf-sharpness ",
        log,
        re.MULTILINE,
    )


def test_a_replica_is_drawn_anew_and_costs_its_own_jobs_only(replica):
    (replica / "config/more.yaml").write_text("replicas: {scalar: 2}\n")
    target = "results/sharpness/scalar.r2.parquet"
    made = run_in(replica)("snakemake", target, "--configfile", "config/more.yaml")
    assert jobs_of(made) == ["generate_minimizers", "evaluate_sharpness"]
    again = content_digest(replica / target)
    assert again != content_digest(replica / "results/sharpness/scalar.parquet")


def test_the_plan_counts_jobs_and_hours_without_running_any(replica):
    (replica / "config/more.yaml").write_text("replicas: {scalar: 50, matrix: 50}\n")
    said = run_in(replica)("tools/plan.py", "config/more.yaml").stdout
    # Of each drawing: minimizers, sharpness, escape; of the first scalars also the map.
    assert "config/more.yaml: 313 jobs" in said
    cells = next(line for line in said.splitlines() if "generate_minimizers" in line).split("|")
    assert int(cells[2]) == 102
    assert float(cells[3]) > 0
    assert "102 submitted jobs" in said
    assert not (replica / "results/minimizers/scalar.r2.safetensors").exists()


def test_one_core_gives_the_same_results(finished, project):
    name = "check_reproducible"
    path = ROOT / f"tools/{name}.py"
    specification = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    run_in(project)("snakemake", "results/claims.json", "--cores", "1")
    one, all_cores = module.contents(project), module.contents(finished[0])
    assert len(one) > 10
    assert one == {key: all_cores[key] for key in one}
    # A difference is seen.
    assert module.compare({"1 core": one, "2 cores": one}) == 0
    assert module.compare({"1 core": one, "2 cores": one | {next(iter(one)): "else"}}) == 1
