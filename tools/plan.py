"""What a configuration will take, without running it: jobs, core-hours, memory and disk.

Snakemake says which jobs there are. What one takes is known from the logs of a run that was made and the
sizes of its artifacts: a replica takes what its original took, and a job that was never run what others of
its rule (and study) took, in proportion to the samples.
"""

import argparse
import logging
import math
import re
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from dmf_sharpness import cli
from dmf_sharpness.artifacts.provenance import read_account
from dmf_sharpness.artifacts.yaml_files import read_mapping
from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments.experiment import Experiment, load_experiment

IMPORTS_MB = 350.0
"""Memory that every job has before it does anything, which does not grow with the samples."""


@dataclass(frozen=True, eq=False)
class Job:
    """One job of Snakemake's plan."""

    rule: str
    local: bool
    outputs: tuple[Path, ...]
    log: Path | None
    wildcards: dict[str, str]

    @property
    def task(self) -> tuple[str, str]:
        """What else takes alike: the rule, and the study if it is one."""
        return self.rule, self.wildcards.get("study", "")

    @property
    def experiment(self) -> str | None:
        """The experiment with its replica; None for a job on all of them."""
        name = self.wildcards.get("experiment")
        return None if name is None else name + self.wildcards["replica"]


@dataclass(frozen=True)
class Cost:
    """What a job took or may take: seconds of one core, busy and in all, megabytes of memory and of disk."""

    busy: float
    seconds: float
    memory: float
    disk: float


def planned(configuration: Path, everything: bool) -> list[Job]:
    """The jobs of Snakemake's dry run."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--configfile", str(configuration)]
    done = cli.said_by([*command, *(["--forceall"] if everything else [])])
    if done.returncode:
        raise UserError(cli.reason(done))
    jobs = []
    for block in re.split(r"\n(?=\[)", done.stdout + done.stderr):
        head = re.search(r"^(local)?rule (\w+):$", block, re.MULTILINE)
        if head is None:
            continue
        field = dict(re.findall(r"^    (\w+): (.*)$", block, re.MULTILINE))
        pairs = re.findall(r"(\w+)=([^,]*)", field.get("wildcards", ""))
        outputs = field.get("output", "").replace(" (update)", "").split(", ")
        jobs.append(
            Job(
                rule=head[2],
                local=head[1] is not None,
                outputs=tuple(Path(name) for name in outputs if name),
                log=Path(field["log"].split(" ")[0]) if "log" in field else None,
                wildcards=dict(pairs),
            )
        )
    return jobs


def original(path: Path) -> Path:
    """The same file of the first drawing."""
    return path.with_name(re.sub(r"\.r\d+(?=\.)", "", path.name))


def measured(job: Job) -> Cost | None:
    """What the same job, or its original, took; None if it was never run."""
    account = None if job.log is None else read_account(original(job.log))
    if account is None:
        return None
    files = [original(path) for path in job.outputs]
    disk = sum(path.stat().st_size for path in files if path.is_file()) / 1e6
    return Cost(account.processor_seconds, account.seconds, account.memory_mb, disk)


def samples(job: Job, experiment: Experiment) -> int:
    """Minimizers that a job makes or looks at, or runs that it starts, in all networks."""
    made = experiment.target.count * sum(spec.count for spec in experiment.minimizers)
    if job.rule == "simulate_escape" and experiment.escape is not None:
        spec = experiment.escape
        made = min(made, spec.minimizers) * len(spec.step_ratios) * len(spec.radii)
    if job.rule == "run_study":
        study = experiment.studies[job.wildcards["study"]]
        axes = ("step_ratios", "radii", "momenta", "product_ratios", "regularizations")
        made *= math.prod(len(getattr(study, axis)) or 1 for axis in axes) * study.repeats
    return made * len(experiment.networks)


def costs(jobs: list[Job]) -> dict[Job, Cost | None]:
    """What every job took, or what it should take going by others of its kind."""
    experiments: dict[str, Experiment] = {}
    known: dict[tuple[str, str], list[tuple[int, Cost]]] = defaultdict(list)
    result = {job: measured(job) for job in jobs}

    def size(job: Job) -> int:
        name = job.wildcards.get("experiment")
        if name is None:
            return 1
        if name not in experiments:
            experiments[name] = load_experiment(Path(f"config/experiments/{name}.yaml"))
        return samples(job, experiments[name])

    # Also what is not part of this plan: the coarse phase diagrams tell of the fine ones.
    for path in Path("logs").rglob("*.log"):
        rule, *folders = path.relative_to("logs").parent.parts or ("",)
        study, name = "".join(folders), path.stem
        if not Path(f"config/experiments/{name}.yaml").is_file():
            continue
        if study and study not in load_experiment(Path(f"config/experiments/{name}.yaml")).studies:
            continue  # of an earlier version of the file
        job = Job(
            rule,
            False,
            _artifacts(rule, study, name),
            path,
            {"experiment": name, "study": study, "replica": ""},
        )
        cost = measured(job)
        if cost is not None:
            known[job.task].append((size(job), cost))
    for job, cost in result.items():
        if cost is not None or job.task not in known:
            continue
        count = size(job)
        share = count / fmean(n for n, _ in known[job.task])
        mean = {
            field: fmean(getattr(other, field) for _, other in known[job.task])
            for field in ("busy", "seconds", "memory", "disk")
        }
        result[job] = Cost(
            busy=mean["busy"] * share,
            seconds=mean["seconds"] * share,
            memory=IMPORTS_MB + max(0.0, mean["memory"] - IMPORTS_MB) * share,
            disk=mean["disk"] * share,
        )
    return result


def _artifacts(rule: str, study: str, name: str) -> tuple[Path, ...]:
    folders = {"run_study": f"studies/{study}", "generate_minimizers": "minimizers"}
    folder = Path("results") / folders.get(rule, rule.partition("_")[2])
    return tuple(folder.glob(f"{name}.*"))


def main() -> None:
    """Print the plan as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configuration", type=Path, help="such as config/full.yaml")
    parser.add_argument("--left", action="store_true", help="only what has not been made yet")
    args = parser.parse_args()
    cli.log.setLevel(logging.WARNING)
    read_mapping(args.configuration)  # of a file that is none Snakemake says little
    began = time.perf_counter()
    jobs = planned(args.configuration, everything=not args.left)
    seconds = time.perf_counter() - began
    cost = costs(jobs)
    print(f"{args.configuration}: {len(jobs)} jobs, planned by Snakemake in {seconds:.0f} s\n")
    print("| rule | jobs | core-hours | CPU-hours | longest, min | memory, MB | disk, MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    # Snakemake gives the jobs in another order each time.
    for rule in sorted({job.rule for job in jobs}):
        rows = [cost[job] for job in jobs if job.rule == rule]
        _line(rule, [row for row in rows if row is not None], len(rows))
    _line("**all**", [row for row in cost.values() if row is not None], len(jobs))
    chains: dict[str, float] = defaultdict(float)
    for job, one in cost.items():
        if job.experiment is not None and one is not None:
            chains[job.experiment] += one.seconds
    submitted = {job.experiment for job in jobs if not job.local and job.experiment}
    print(f"\nOn a cluster: {len(submitted)} submitted jobs, one per experiment and drawing.")
    if chains:
        longest = max(sorted(chains), key=lambda name: chains[name])
        print(f"The longest is {longest}, {chains[longest] / 60:.1f} min on one core.")
        print(
            "Source: logs of the last run here. Core-hours are wall-clock time, too long if the machine was "
            "busy."
        )
    else:
        print("Time, memory and disk come from the logs of a run: `make replicate` first.")


def _line(name: str, rows: list[Cost], jobs: int) -> None:
    if not rows:
        print(f"| {name} | {jobs} | – | – | – | – | – |")
        return
    hours, busy = (
        sum(times) / 3600 for times in ([r.seconds for r in rows], [r.busy for r in rows])
    )
    longest = max(row.seconds for row in rows) / 60
    memory, disk = max(row.memory for row in rows), sum(row.disk for row in rows)
    print(
        f"| {name} | {jobs} | {hours:.2f} | {busy:.2f} | {longest:.1f} | {memory:.0f} | {disk:.0f} |"
    )


if __name__ == "__main__":
    cli.run(main)
