"""The provenance of the numbers: files, versions and machine, and the time that each rule took."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

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


_ACCOUNT = re.compile(
    r"^([\d.]+) s, ([\d.]+) s of processor time, peak memory (\d+) MB; Python ", re.MULTILINE
)


@dataclass(frozen=True)
class Account:
    """The time and memory that a script took, as the last line of its log gives them.

    Attributes:
        seconds: The wall-clock time since about the start of the script.
        processor_seconds: The processor time of all threads. A script that the fork server started has
            not imported the libraries itself.
        memory_mb: The peak resident memory in MB.
    """

    seconds: float
    processor_seconds: float
    memory_mb: float

    def __str__(self) -> str:
        return (
            f"{self.seconds:.1f} s, {self.processor_seconds:.1f} s of processor time, "
            f"peak memory {self.memory_mb:.0f} MB"
        )


def read_account(log: Path) -> Account | None:
    """The account at the end of a log; None if there is none, because the script failed or has not run."""
    try:
        found = _ACCOUNT.findall(log.read_text(encoding="utf-8", errors="replace"))
        return Account(*map(float, found[-1])) if found else None
    except (OSError, ValueError):  # for example a folder of that name
        return None


@dataclass(frozen=True)
class RuleTime:
    """The time and memory of the jobs of one rule.

    Attributes:
        rule: The name of the rule.
        jobs: The number of its jobs.
        seconds: The sum of their wall-clock times.
        longest: The wall-clock time of the longest job.
        longest_job: The name of that job, such as an experiment; empty if the rule has one job.
        memory_mb: The largest resident memory of a job in MB.
    """

    rule: str
    jobs: int
    seconds: float
    longest: float
    longest_job: str
    memory_mb: float


def rule_times(folder: Path) -> list[RuleTime]:
    """The times of all rules, the longest first, from the logs of their last jobs.

    Args:
        folder: The folder ``logs`` with a file ``<rule>.log`` for each rule, or ``<rule>/…/<job>.log`` for
            each job of a rule that has many.
    """
    jobs: dict[str, list[tuple[float, str, float]]] = {}
    for path in sorted(folder.rglob("*.log")):
        rule, *job = path.relative_to(folder).with_suffix("").parts
        account = read_account(path)
        if account is not None:
            taken = (account.seconds, " ".join(job), account.memory_mb)
            jobs.setdefault(rule, []).append(taken)
    times = []
    for rule, of_rule in jobs.items():
        longest, longest_job, _ = max(of_rule)
        total = sum(seconds for seconds, _, _ in of_rule)
        memory = max(memory for _, _, memory in of_rule)
        times.append(RuleTime(rule, len(of_rule), total, longest, longest_job, memory))
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
