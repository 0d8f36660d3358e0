"""Scripts run by hand with what is not there, empty, half a file, or of another system."""

import pytest

from tests.scripts import run_script
from tests.workflow.conftest import run_in

pytestmark = pytest.mark.pipeline

PLAN = "tools/plan.py"


def test_a_plan_without_logs_says_so(project):
    said = run_in(project)(PLAN, "config/config.yaml").stdout
    assert "config/config.yaml: 19 jobs" in said
    assert "Time, memory and disk come from the logs of a run" in said
    assert "core-hours" in said


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"error: no memory\n",
        b"1.0 s, 2.0 s of processor time, peak",
        b"x s, peak memory 1 MB; Python 3\n",
        bytes(range(256)),
    ],
)
def test_a_plan_does_without_logs_that_are_damaged(project, content):
    folder = project / "logs"
    folder.joinpath("evaluate_sharpness").mkdir(parents=True)
    folder.joinpath("evaluate_sharpness/matrix.log").write_bytes(content)
    folder.joinpath("generate_minimizers/matrix.log").mkdir(parents=True)
    run = run_in(project)(PLAN, "config/config.yaml")
    (row,) = [line for line in run.stdout.splitlines() if "evaluate_sharpness" in line]
    assert row == "| evaluate_sharpness | 4 | – | – | – | – | – |"


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("none.yaml", None, "none.yaml: expected a YAML file, got no such file"),
        ("config", None, "config: expected a readable file, got: Is a directory"),
        ("x.yaml", "experiments: [", "x.yaml: expected valid YAML, got an error: "),
        ("a list.yaml", "[matrix]", "a list.yaml: the file: expected keys with values"),
        (
            "of its own.yaml",
            "{experiments: [matrix], figures: [phase]}",
            "of its own.yaml: figures[0]: 'phase' expected an experiment with studies.phase",
        ),
        ("octal.yaml", "replicas: {matrix: 010}", "octal.yaml: replicas.matrix: expected a number"),
    ],
)
def test_a_plan_of_a_configuration_that_is_none_is_refused_in_one_line(
    project, path, content, reason
):
    if content is not None:
        (project / path).write_text(content)
    run = run_in(project)(PLAN, path, check=False)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"error: {reason}")


def test_a_configuration_from_windows_is_planned_and_numbers_may_have_points(project):
    (project / "from windows.yaml").write_bytes(
        b"\xef\xbb\xbfexperiments: [matrix]\r\nfigures: []\r\nreplicas: {matrix: 3.0}\r\n"
    )
    said = run_in(project)(PLAN, "from windows.yaml").stdout
    assert "3 submitted jobs" in said


def test_the_command_line_may_set_replicas(project):
    run = run_in(project)("snakemake", "--dry-run", "--config", "replicas={matrix: 2.0}")
    assert "results/sharpness/matrix.r2.parquet" in run.stdout + run.stderr
    run = run_in(project)(
        "snakemake", "--dry-run", "--config", "replicas={matrix: 010}", check=False
    )
    assert run.returncode != 0
    said = run.stdout + run.stderr
    assert "replicas.matrix: expected a value of type integer, got '010'" in said
    assert "Traceback" not in said


def test_a_damaged_benchmark_names_the_command_that_makes_it(tmp_path):
    damaged = tmp_path / "benchmark.parquet"
    damaged.write_bytes(b"PAR1")
    said = run_script("render_figure", "benchmark", tmp_path / "x", "--benchmark", damaged)
    assert said.error.startswith(f"{damaged}: not a readable Parquet file")
    assert said.error.endswith("; run make bench again")


def test_claims_are_not_judged_from_nothing(tmp_path):
    said = run_script("judge_claims", tmp_path / "c.json")
    assert said.error == "--sharpness, --escape, --bottleneck, --studies: expected tables, got none"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("sharpness", ["--repeats", "0"]),
        ("sharpness", ["--budget", "-1"]),
        ("sharpness", ["--limit", "nan"]),
        ("validate", ["--count", "0"]),
        ("generate_minimizers", ["m.safetensors", "--replica", "1.5"]),
    ],
)
def test_numbers_of_the_command_line_are_checked(script, options, tmp_path):
    said = run_script(script, tmp_path / "x", *options)
    assert said.status == 2
    assert "invalid positive_" in said.errors[-1]
    assert list(tmp_path.iterdir()) == []
