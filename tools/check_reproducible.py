"""Run the pipeline in several ways and compare what comes out: on 1 core, on 2, and by Slurm if there is one.

What is compared is the scientific content: of an artifact the digest of its numbers, which its header
carries and reading checks; of the ledger and the figures all bytes. Exit status 1 if anything differs.
"""

import argparse
import logging
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import content_digest, file_digest
from dmf_sharpness.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
BY_BYTES = (".json", ".md", ".png", ".pdf")


def has_slurm() -> bool:
    """Whether jobs can be submitted from here."""
    if shutil.which("sbatch") is None:
        return False
    try:
        return subprocess.run(["sinfo"], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def contents(folder: Path) -> dict[str, str]:
    """A digest of every result, by its path."""
    digests = {}
    for path in sorted([*folder.glob("results/**/*"), *folder.glob("figures/*")]):
        name = str(path.relative_to(folder))
        if path.name[0] == ".":
            continue
        if path.suffix in (".parquet", ".safetensors"):
            digests[name] = content_digest(path)
        elif path.suffix in BY_BYTES:
            digests[name] = file_digest(path)
    return digests


def run(options: list[str], configuration: Path, folder: Path) -> dict[str, str]:
    """Run the pipeline in an empty folder, and return its contents."""
    for name in ("workflow", "profiles", "src"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copytree(configuration, folder / "config")
    shutil.copy(ROOT / "Snakefile", folder)
    command = [sys.executable, "-m", "snakemake", *options]
    done = cli.said_by(command, folder)
    if done.returncode:
        raise UserError(f"{shlex.join(command)}: {cli.reason(done)}")
    return contents(folder)


def main() -> int:
    """Print a Markdown table, a line for every kind of result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "configuration", type=Path, help="a folder with config.yaml and experiments/"
    )
    parser.add_argument(
        "--slurm-options", default="", help="options of Snakemake for the run by Slurm, as one text"
    )
    args = parser.parse_args()
    cli.log.setLevel(logging.WARNING)
    ways = {"1 core": ["--cores", "1"], "2 cores": ["--cores", "2"]}
    if has_slurm():
        ways["Slurm"] = ["--workflow-profile", "profiles/slurm", *shlex.split(args.slurm_options)]
    else:
        print("no Slurm here (sinfo gives nothing): 1 core against 2", file=sys.stderr)
    found: dict[str, dict[str, str]] = {}
    for way, options in ways.items():
        # Beside the project, not in /tmp: the nodes of a cluster have to see it.
        with tempfile.TemporaryDirectory(dir=ROOT, prefix=".reproducible-") as scratch:
            began = time.perf_counter()
            found[way] = run(options, args.configuration, Path(scratch))
            print(f"{way}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return compare(found)


def compare(found: dict[str, dict[str, str]]) -> int:
    """Print what is the same in all ways; 1 if something is not."""
    first, *others = found
    different = defaultdict(list)
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set().union(*found.values())):
        kinds[str(Path(name).parent)].append(name)
        for other in others:
            if found[other].get(name) != found[first].get(name):
                different[other].append(name)
    print(f"| results | files | {' | '.join(f'{first} = {other}' for other in others)} |")
    print(f"| --- | ---: |{' --- |' * len(others)}")
    for kind, names in kinds.items():
        verdicts = ["no" if set(names) & set(different[other]) else "yes" for other in others]
        print(f"| {kind} | {len(names)} | {' | '.join(verdicts)} |")
    for other, names in different.items():
        for name in names:
            print(f"different: {name}, {first} and {other}")
    return int(any(different.values()))


if __name__ == "__main__":
    cli.run(main)
