"""Whatever dies and whatever is edited, a verdict belongs to the files that lie there.

Random histories of a project: experiments, configuration and code are edited, also while jobs run; jobs
die in every rule, in five ways, at four moments; results are damaged, deleted, and replaced by those of
another state with new times. After each the plain command must end with what a run from nothing makes,
byte for byte. Six histories by default; DMF_HISTORIES=300 makes 300.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as parquet
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from dmf_sharpness.artifacts.headers import KEY, read_header
from tests.workflow.conftest import ROOT, jobs_of, make_project
from tests.workflow.warm.fate import MOMENTS, WAYS
from tests.workflow.warm.running import warm_server

pytestmark = pytest.mark.pipeline

HISTORIES = int(os.environ.get("DMF_HISTORIES", "6"))
JOBS = {
    "generate_minimizers": ("matrix",),
    "evaluate_sharpness": ("matrix",),
    "simulate_escape": ("matrix",),
    "map_landscape": ("scalar",),
    "judge_claims": ("claims",),
    "render_figure": ("flatness", "exactness"),
    "render_report": ("report",),
    "check_verdict": ("claims",),
}
"""The scripts of the rules, and a word from the arguments of the job that is meant."""
DAMAGED = (
    "results/minimizers/matrix.safetensors", "results/sharpness/matrix.parquet",
    "results/escape/scalar.trajectories.parquet", "results/landscape/scalar.safetensors",
    "results/claims.json", "results/claims.md", "figures/flatness.png", "figures/contour.pdf",
    "results/report.html",
)  # fmt: skip


CHECKED = (".safetensors", ".parquet", ".json", ".png")
"""Formats in which every byte is checked when it is read."""


@dataclass(frozen=True)
class State:
    """The inputs of a project, as far as histories edit them."""

    seed: int = 3
    code: str = ""
    fewer_figures: bool = False

    def content(self) -> dict[str, str]:
        """The files that it stands for, whole."""
        experiment = (ROOT / "tests/workflow/smoke/experiments/matrix.yaml").read_text()
        figures = "[flatness, contour]" if self.fewer_figures else "[contour, exactness, flatness]"
        texts = {
            "config/experiments/matrix.yaml": experiment.replace("seed: 3", f"seed: {self.seed}"),
            "config/config.yaml": (
                f"experiments: [scalar, matrix, digits, boundary]\nfigures: {figures}\n"
            ),
        }
        for path in CODE:
            edited = "# Edited.\n" if path == self.code else ""
            texts[path] = (ROOT / path).read_text() + edited
        return texts


EDITED = ("studies/escape", "figures/flatness", "claims/ledger")
CODE = tuple(f"src/dmf_sharpness/{name}.py" for name in EDITED)
STATES = st.builds(State, st.sampled_from([3, 4]), st.sampled_from(["", *CODE]), st.booleans())


DEATH = {
    "script": st.sampled_from(sorted(JOBS)),
    "which": st.integers(0, 1),
    "moment": st.sampled_from(MOMENTS),
    "way": st.sampled_from(WAYS),
    "change": STATES,
}


class FinishedProjects:
    """Runs in processes that start in no time, and what runs made of each state from nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[State, Path] = {}

    def snakemake(self, project: Path, *arguments: str) -> subprocess.CompletedProcess:
        """Run the pipeline in a project, with what befalls its jobs."""
        fate = str(project / ".fate")
        return warm_server().run(project, project / "src", "snakemake", *arguments, DMF_FATE=fate)

    def finished(self, state: State) -> Path:
        """A project in a state that has run from nothing."""
        if state not in self.known:
            project = make_project(self.folder / str(len(self.known)))
            write(project, state)
            done = self.snakemake(project)
            assert done.returncode == 0, done.stdout + done.stderr
            self.known[state] = project
        return self.known[state]


def write(project: Path, state: State) -> None:
    """Edit a project's files to a state, those that differ only."""
    for name, text in state.content().items():
        if (project / name).read_text() != text:
            (project / name).write_text(text)


def published(project: Path) -> dict[str, bytes]:
    """What a finished project shows; in the report all but times, the machine and the day."""
    found = {}
    for path in sorted([*(project / "results").rglob("*"), *(project / "figures").iterdir()]):
        name = str(path.relative_to(project))
        if path.is_file() and not path.name.startswith("."):
            content = path.read_bytes()
            if path.name == "report.html":
                content = content[content.index(b"lineage:") :][:72]
            found[name] = content
    return found


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> FinishedProjects:
    return FinishedProjects(tmp_path_factory.mktemp("histories"))


def test_every_published_file_that_is_missing_is_made_anew_by_the_same_command(warm, tmp_path):
    """Snakemake by itself does not: the verdict, which they lead to, is there and newer."""
    project = tmp_path / "project"
    shutil.copytree(warm.finished(State()), project, copy_function=shutil.copy2)
    before = published(project)
    # And of the artifacts one that only a figure reads, and one that nothing reads.
    names = [name for name in before if name.endswith((".json", ".md", ".txt", ".html"))]
    names += [name for name in before if name.startswith("figures/")]
    names += ["results/landscape/scalar.safetensors", "results/escape/matrix.trajectories.parquet"]
    assert len(names) == 4 + 3 * 2 + 2
    for name in names:
        (project / name).unlink()
        done = warm.snakemake(project)
        assert done.returncode == 0, f"{name}: {done.stdout} {done.stderr}"
        assert published(project) == before, name
    assert "Nothing to be done" in warm.snakemake(project).stderr


@pytest.mark.parametrize(
    "text", ["", "All 99 claims hold, and each one's negative control fails.\n"]
)
def test_a_verdict_that_is_not_of_the_ledger_is_made_anew(warm, text, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(warm.finished(State()), project, copy_function=shutil.copy2)
    before = published(project)
    (project / "results/verdict.txt").write_text(text)
    assert warm.snakemake(project).returncode == 0
    assert published(project) == before


def with_older_header(header: dict[str, Any], schema: int) -> str:
    """A header as the versions of one flat package wrote it; the first schema named no code."""
    body = {key: value for key, value in header.items() if key != "seal"} | {"schema": schema}
    body["code"] = "0.1.0" if schema == 1 else "0123456789abcdef"
    if schema == 1:
        del body["made_from"], body["options"], body["version"]
    seal = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps(body | {"seal": seal})


def make_older(path: Path, schema: int) -> None:
    """Rewrite a result as the versions of one flat package wrote it, with the same numbers."""
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        older = with_older_header(read_header(path), schema)
        parquet.write_table(table.replace_schema_metadata({KEY: older}), path)
    elif path.suffix == ".safetensors":
        older = with_older_header(read_header(path), schema)
        safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, {KEY: older})
    else:
        content = path.read_bytes()
        for fingerprint in set(re.findall(rb"lineage\W{1,4}([0-9a-f]{64})", content)):
            content = content.replace(fingerprint, 64 * (b"-" if schema == 1 else b"0"))
        path.write_bytes(content)


@pytest.mark.parametrize("schema", [1, 2])
def test_results_of_an_older_version_are_made_anew_and_not_read(warm, schema, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(warm.finished(State()), project, copy_function=shutil.copy2)
    before = published(project)
    for name in before:
        make_older(project / name, schema)
    assert all(published(project)[name] != before[name] for name in before if "verdict" not in name)
    # The log of a rule that is no more, whose time the report would show.
    old_log = project / "logs/study_escape/phase.log"
    old_log.parent.mkdir()
    shutil.copy(project / "logs/judge_claims.log", old_log)
    done = warm.snakemake(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(jobs_of(done)) == 18  # all that there are
    assert published(project) == before
    assert "study_escape" not in (project / "results/report.html").read_text()


@pytest.mark.parametrize("script", sorted(JOBS))
def test_a_job_killed_after_an_edit_is_run_again_by_the_same_command(warm, script, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(warm.finished(State()), project, copy_function=shutil.copy2)
    edited = State(seed=4, code=CODE[0])
    write(project, edited)
    word = JOBS[script][0]
    fate = {"script": script, "of": word, "moment": "start", "way": "kill"}
    (project / ".fate").write_text(json.dumps(fate))
    killed = warm.snakemake(project)
    assert (project / ".fate.taken").exists()
    assert killed.returncode != 0
    again = warm.snakemake(project)
    assert again.returncode == 0, again.stdout + again.stderr
    assert published(project) == published(warm.finished(edited))
    assert "Nothing to be done" in warm.snakemake(project).stderr


def test_a_verdict_belongs_to_the_files_at_hand(warm):
    stale: list[str] = []
    counts = {"histories": 0, "runs": 0, "deaths": 0}

    class Histories(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.folder = TemporaryDirectory(prefix="dmf")
            self.project = Path(self.folder.name) / "project"
            self.state = State()
            self.told: list[str] = []
            shutil.copytree(warm.finished(self.state), self.project, copy_function=shutil.copy2)

        @rule(state=STATES)
        def edit(self, state: State) -> None:
            self.told.append(f"edit: {state}")
            self.state = state
            write(self.project, state)

        @initialize(**DEATH)
        def die_first(self, **death: Any) -> None:
            self.die(**death)

        @rule(**DEATH)
        def die(self, script: str, which: int, moment: str, way: str, change: State) -> None:
            """Edit something, so that there is work, and have a job of it die."""
            change = replace(change, seed=7 - self.state.seed)
            if script == "map_landscape":  # of an experiment whose seed stays
                change = replace(change, code="" if self.state.code == CODE[0] else CODE[0])
            self.edit(change)
            words = JOBS[script]
            fate = {"script": script, "of": words[which % len(words)], "moment": moment, "way": way}
            self.run_with(fate)

        @rule(
            script=st.sampled_from(sorted(JOBS)), moment=st.sampled_from(MOMENTS),
            before=STATES, after=STATES,
        )  # fmt: skip
        def edit_meanwhile(self, script: str, moment: str, before: State, after: State) -> None:
            """Somebody edits a file while a job runs."""
            self.edit(before)
            for name, text in replace(after, fewer_figures=before.fewer_figures).content().items():
                if text != before.content()[name]:
                    fate = {"script": script, "of": "", "moment": moment, "way": "edit"}
                    self.run_with(fate | {"edit": json.dumps({"path": name, "text": text})})
                    break
            # The file may have been edited or not: it is what it is from here on.
            self.edit(replace(after, fewer_figures=before.fewer_figures))

        @rule(
            path=st.sampled_from(DAMAGED),
            how=st.sampled_from(["truncate", "empty", "alter", "delete"]),
        )
        def damage(self, path: str, how: str) -> None:
            self.told.append(f"{how} {path}")
            file = self.project / path
            if not file.exists():
                return
            content = file.read_bytes()
            middle = len(content) // 2
            match how:
                case "truncate":
                    file.write_bytes(content[:middle])
                case "empty":
                    file.write_bytes(b"")
                case "alter" if file.suffix in CHECKED:
                    file.write_bytes(content[:middle] + bytes(8) + content[middle + 8 :])
                case "delete":
                    file.unlink()

        @rule(path=st.sampled_from(DAMAGED), state=STATES, new_time=st.booleans())
        def put_back_another(self, path: str, state: State, new_time: bool) -> None:
            """Somebody copies a result of another state over, with its own time or a new one."""
            other = warm.finished(state) / path
            if other.exists():
                self.told.append(f"{path} of {state}, new time: {new_time}")
                copy = shutil.copy if new_time else shutil.copy2
                copy(other, self.project / path)

        def run_with(self, fate: dict[str, str]) -> None:
            self.told.append(str(fate))
            (self.project / ".fate").write_text(json.dumps(fate))
            done = warm.snakemake(self.project)
            counts["runs"] += 1
            taken = (self.project / ".fate.taken").exists()
            counts["deaths"] += taken and fate["way"] != "edit"
            for rest in (".fate", ".fate.taken"):
                (self.project / rest).unlink(missing_ok=True)
            if done.returncode == 0 and fate["way"] != "edit":
                self.compare(done)

        def compare(self, done: subprocess.CompletedProcess) -> None:
            fresh, here = published(warm.finished(self.state)), published(self.project)
            wrong = [name for name, content in fresh.items() if here.get(name) != content]
            if wrong:
                story = "\n".join([*self.told, f"wrong: {wrong}", done.stdout, done.stderr])
                stale.append(story)
                raise AssertionError(story)

        def teardown(self) -> None:
            """The plain command mends everything; where a run found damage, it may take a second one."""
            for _ in range(3):
                done = warm.snakemake(self.project)
                counts["runs"] += 1
                if done.returncode == 0:
                    break
            assert done.returncode == 0, "\n".join([*self.told, done.stdout, done.stderr])
            self.compare(done)
            counts["histories"] += 1
            self.folder.cleanup()
            print(f"{counts}, {len(stale)} stale", flush=True)

    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=HISTORIES, stateful_step_count=2, deadline=None, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            derandomize=HISTORIES < 100,
        ),
    )  # fmt: skip
    assert counts["histories"] >= HISTORIES
    assert not stale
