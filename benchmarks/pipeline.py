"""Time the pipeline in a scratch copy: all of it, a second call, and the figures redrawn."""

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dmf_sharpness import cli
from dmf_sharpness.errors import UserError

import psutil

ROOT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 0.2


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak resident memory (MB, summed over the tree of processes) of a command."""
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _resident(watched))
            time.sleep(POLL_SECONDS)
    if process.returncode:
        raise UserError(f"{shlex.join(command)}: failed with status {process.returncode}")
    return time.perf_counter() - began, peak / 1e6


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for member in [process, *process.children(recursive=True)]:
            total += member.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it ended while we looked; the next look counts the rest
    return total


def prepare(folder: Path) -> Path:
    """A copy of the workflow in which nothing has run."""
    for name in ("workflow", "profiles", "config", "src"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    return folder


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", default="all", help="cores that Snakemake may use")
    parser.add_argument(
        "--speedup",
        action="store_true",
        help="run it on one core, too, and say what the others add",
    )
    args = parser.parse_args()
    snakemake = [sys.executable, "-m", "snakemake", "--cores"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = prepare(Path(scratch) / "first")
        print(f"| on {args.cores} cores | seconds | peak memory, MB |\n| --- | ---: | ---: |")

        def row(name: str, digits: int, command: list[str], folder: Path) -> float:
            seconds, peak = measure([*snakemake, *command], folder)
            print(f"| {name} | {seconds:.{digits}f} | {peak:.0f} |", flush=True)
            return seconds

        many = row("whole pipeline", 0, [args.cores], folder)
        row("second call", 1, [args.cores], folder)
        shutil.rmtree(folder / "figures")
        row("figures redrawn", 1, [args.cores, "figures"], folder)
        if args.speedup:
            one = row("whole pipeline, 1 core", 0, ["1"], prepare(Path(scratch) / "second"))
            print(f"| 1 core over {args.cores} | {one / many:.2f} × | |")


if __name__ == "__main__":
    cli.run(main)
