"""The provenance of the numbers: files, versions and machine, and the time that each rule took."""

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd

PACKAGES = (
    "dmf-sharpness",
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "snakemake",
)


@dataclass(frozen=True)
class RuleTime:
    """The time and memory of the jobs of one rule.

    Attributes:
        rule: The name of the rule.
        jobs: The number of its jobs.
        seconds: The sum of their wall-clock times.
        longest: The wall-clock time of the longest job.
        longest_job: The name of that job, such as an experiment; empty if the rule has one job.
        memory_mb: The largest resident memory of a job in MB; NaN if no job ran long enough to be measured.
    """

    rule: str
    jobs: int
    seconds: float
    longest: float
    longest_job: str
    memory_mb: float


def read_benchmark(path: Path) -> pd.DataFrame:
    """Snakemake's measurements of a job, a row per run; no rows if the file is damaged.

    Returns:
        Columns ``s`` (seconds), ``cpu_time`` (seconds of all threads) and ``max_rss`` (MB). The last two are
        NaN for a job that ended before Snakemake's first measurement.
    """
    columns = ["s", "cpu_time", "max_rss"]
    try:
        table = pd.read_csv(path, sep="\t", na_values="-", encoding="utf-8")
    except (ValueError, OSError):  # for example half a file, from a run that was killed
        table = pd.DataFrame()
    numbers = table.reindex(columns=columns).apply(pd.to_numeric, errors="coerce")
    return numbers[numbers.s.notna()].reset_index(drop=True)


def rule_times(folder: Path) -> list[RuleTime]:
    """The times of all rules, the longest first, from Snakemake's benchmark files.

    Args:
        folder: The folder ``results/benchmarks`` with a file ``<rule>.tsv`` for each rule, or
            ``<rule>/…/<job>.tsv`` for each job of a rule that has many.
    """
    jobs: dict[str, list[tuple[float, str, float]]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        rule, *job = path.relative_to(folder).with_suffix("").parts
        table = read_benchmark(path)
        for seconds, memory in zip(table["s"], table["max_rss"], strict=True):
            jobs.setdefault(rule, []).append((float(seconds), " ".join(job), float(memory)))
    times = []
    for rule, taken in jobs.items():
        longest, longest_job, _ = max(taken)
        memory = pd.Series([memory for _, _, memory in taken]).max()  # NaN if nothing was measured
        total = sum(seconds for seconds, _, _ in taken)
        times.append(RuleTime(rule, len(taken), total, longest, longest_job, float(memory)))
    return sorted(times, key=lambda time: -time.seconds)


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that the numbers depend on."""
    return {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def machine() -> dict[str, str]:
    """The processor, cores, memory and system of this machine, but nothing that identifies it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def shortened(paths: Iterable[Path | str]) -> str:
    """Paths in the short form of a shell: ``results/sharpness/{boundary,digits}.parquet``."""
    folders: dict[tuple[str, str], list[str]] = {}
    for path in sorted(map(Path, paths)):
        stem, dot, suffix = path.name.partition(".")
        folders.setdefault((str(path.parent), dot + suffix), []).append(stem)
    return ", ".join(
        f"{folder}/{_braced(stems)}{suffix}" for (folder, suffix), stems in folders.items()
    )


def _braced(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else "{" + ",".join(names) + "}"
