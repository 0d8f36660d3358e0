"""Where numbers come from: which files, versions and machine, and how long each rule took."""

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
    """What the jobs of one rule took.

    Attributes:
        rule: Its name.
        jobs: How many there were.
        seconds: Their wall-clock times, added up.
        longest: The wall-clock time of the longest one.
        longest_job: What that one was of, such as an experiment; empty if the rule has one job.
        memory_mb: The largest resident memory of a job, NaN where none ran long enough to be seen.
    """

    rule: str
    jobs: int
    seconds: float
    longest: float
    longest_job: str
    memory_mb: float


def read_benchmark(path: Path) -> pd.DataFrame:
    """Snakemake's measurements of a job, a row per run; none of a file that is damaged.

    Returns:
        Columns ``s`` (seconds), ``cpu_time`` (seconds of all threads) and ``max_rss`` (MB); the last two
        are NaN of a job that ended before Snakemake looked.
    """
    columns = ["s", "cpu_time", "max_rss"]
    try:
        table = pd.read_csv(path, sep="\t", na_values="-", encoding="utf-8")
    except (ValueError, OSError):  # such as half a file of a run that was killed
        table = pd.DataFrame()
    numbers = table.reindex(columns=columns).apply(pd.to_numeric, errors="coerce")
    return numbers[numbers.s.notna()].reset_index(drop=True)


def rule_times(folder: Path) -> list[RuleTime]:
    """Times of all rules, the costliest first, from Snakemake's benchmark files.

    Args:
        folder: ``results/benchmarks``: ``<rule>.tsv``, or ``<rule>/…/<job>.tsv`` where a rule has many jobs.
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
        memory = pd.Series([memory for _, _, memory in taken]).max()  # NaN where nothing was seen
        total = sum(seconds for seconds, _, _ in taken)
        times.append(RuleTime(rule, len(taken), total, longest, longest_job, float(memory)))
    return sorted(times, key=lambda time: -time.seconds)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    return {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def machine() -> dict[str, str]:
    """Processor, cores, memory and system of this machine; no name by which to find it."""
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
    """Paths as a shell would write them: ``results/sharpness/{boundary,digits}.parquet``."""
    folders: dict[tuple[str, str], list[str]] = {}
    for path in sorted(map(Path, paths)):
        stem, dot, suffix = path.name.partition(".")
        folders.setdefault((str(path.parent), dot + suffix), []).append(stem)
    return ", ".join(
        f"{folder}/{_braced(stems)}{suffix}" for (folder, suffix), stems in folders.items()
    )


def _braced(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else "{" + ",".join(names) + "}"
