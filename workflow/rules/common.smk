import ast
import hashlib
import json
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import load_config

# The interpreter that runs Snakemake runs the scripts, whether or not its environment is active.
# Jobs run side by side: a pool of threads in each would have them fight over the cores.
# A prefix of one's own takes the place of Snakemake's strict mode, which has to be said again.
shell.prefix(
    "set -euo pipefail; "
    f'export PATH="{Path(sys.executable).parent}:$PATH" OMP_NUM_THREADS=1; '
)

# On a full disk Snakemake cannot even log what went wrong; a whole run writes half of this.
LEAST_FREE_BYTES = 50e6

PACKAGE = Path("src/dmf_sharpness")

# Snakemake's own folder comes first, and Snakemake would say so with a traceback.
if not os.access(".snakemake" if Path(".snakemake").exists() else ".", os.W_OK):
    raise WorkflowError(f"{Path.cwd()}: expected a folder that can be written to")

try:
    # The last --configfile of the command line has the last word, and its name goes into messages.
    EXPERIMENTS = load_config(config, CONFIG_FILES[-1], Path("config/experiments"))
except UserError as error:
    raise WorkflowError(str(error)) from None


def check_writable(*folders):
    """Refuse to start where nothing can be written; what was written before stays as it is."""
    for folder in map(Path, folders):
        try:
            folder.mkdir(exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise WorkflowError(
                f"{folder}: expected to be able to write there, got: {error.strerror}"
            ) from None
        free = shutil.disk_usage(folder).free
        if free < LEAST_FREE_BYTES:
            raise WorkflowError(
                f"{folder}: expected at least {LEAST_FREE_BYTES / 1e6:.0f} MB free on the disk, "
                f"got {free / 1e6:.1f} MB"
            )


@cache
def imported_modules(source):
    """The files of our package that a Python file imports, by name."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "dmf_sharpness"
        ):
            below = node.module.split(".")[1:]
            found.add(PACKAGE.joinpath(*below).with_suffix(".py"))
            found |= {
                PACKAGE.joinpath(*below, name.name).with_suffix(".py")
                for name in node.names
            }
    return {source for source in found if source.is_file()}


@cache
def digest_of(*scripts):
    """A digest of what scripts import of our package: a parameter, so that editing it re-runs the stage.

    As inputs, thirty modules would make the plan of ten thousand jobs three times as slow.
    """
    found, waiting = set(), [Path(path) for path in scripts]
    while waiting:
        source = waiting.pop()
        if source not in found and source.is_file():
            found.add(source)
            waiting.extend(imported_modules(source))
            if source.name == "lanes.py":  # loads the compiled kernels
                found.update(source.parent.glob("_*.[ch]"))
    digest = hashlib.sha256()
    for source in sorted(found):
        digest.update(f"{source} ".encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def with_section(section):
    """Names of the experiments that have a section."""
    return [
        name for name, experiment in EXPERIMENTS.items() if getattr(experiment, section)
    ]


def study_tables(*names):
    """The tables of the studies of these names, or of all."""
    return [
        f"results/studies/{study}/{experiment}.parquet"
        for experiment in with_section("studies")
        for study in EXPERIMENTS[experiment].studies
        if not names or study in names
    ]


def without_bottleneck():
    """Names of the experiments whose minimizers the exact expression covers."""
    narrow = with_section("bottlenecked")
    return [name for name in EXPERIMENTS if name not in narrow]


def recorded():
    """Names of the experiments that keep the paths of their runs."""
    return [
        name for name in with_section("escape") if EXPERIMENTS[name].escape.recorded
    ]


def mapped_tables():
    """The runs and the map of the first experiment with a contour map."""
    mapped = with_section("landscape_points")[:1]
    return {
        "trajectories": expand("results/escape/{e}.trajectories.parquet", e=mapped),
        "landscape": expand("results/landscape/{e}.safetensors", e=mapped),
    }


def figure_style(key):
    """What the configuration says about how figures look."""
    own = {"width": "own", "palette": "colorblind", "formats": ["pdf"]}
    return {**own, **config.get("style", {})}[key]


def figure_suffixes():
    """The formats of every figure: PNG always, for the report and the README."""
    return sorted({"png", *figure_style("formats")})


def figure_tables(wildcards):
    """The artifacts that a figure draws, by the name of the option that takes them."""
    sharpness = expand(
        "results/sharpness/{experiment}.parquet", experiment=without_bottleneck()
    )
    trajectories = expand(
        "results/escape/{experiment}.trajectories.parquet", experiment=recorded()
    )
    tables = {
        "contour": mapped_tables(),
        "exactness": {"sharpness": sharpness},
        "growth": {"trajectories": trajectories},
        "flatness": {"sharpness": sharpness},
        "balance": {"sharpness": sharpness},
        "boundary": {"sharpness": sharpness},
        "gauge_path": {"studies": study_tables("paths")},
        "landing": {"studies": study_tables("landing")},
        "digits": {"studies": study_tables("soft")},
        "threshold": {"studies": study_tables("threshold")},
        "orbits": {"studies": study_tables("orbits")},
        "phase": {"studies": study_tables("phase")},
        "timing": {"studies": study_tables("timing", "starts")},
        "bottleneck": {
            "bottleneck": expand(
                "results/bottleneck/{e}.parquet", e=with_section("bottlenecked")
            )
        },
    }
    if wildcards.figure not in tables:
        raise WorkflowError(
            f"figures/{wildcards.figure}: expected one of {', '.join(tables)}"
        )
    return tables[wildcards.figure]


def replica_option(wildcards):
    """The option that has a script draw its experiment anew."""
    number = wildcards.replica.removeprefix(".r")
    return f"--replica {number}" if number else ""


def figure_options(wildcards, input):
    """The tables of a figure as options of its script."""
    return " ".join(f"--{name} {input[name]}" for name in figure_tables(wildcards))


wildcard_constraints:
    experiment="[a-z0-9_]+",
    replica=r"(\.r[0-9]+)?",
    figure="[a-z0-9_]+",
    study="[a-z]+",
