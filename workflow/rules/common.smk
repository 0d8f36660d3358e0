import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from snakemake.exceptions import WorkflowError

from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import catalog
from dmf_sharpness.experiments.data_sets import missing_packages
from dmf_sharpness.experiments.experiment import load_config

# Absolute where the workflow lies in a folder, whose name may hold braces; else beside the rules.
ENVIRONMENT = "../envs/replication.yaml"
if PROJECT is not None:
    ENVIRONMENT = braced(
        (PROJECT / "workflow" / "envs" / "replication.yaml").absolute()
    )

# Patterns and places that several rules name; replicas share the file of their experiment.
EXPERIMENT = str(CONFIG / "experiments" / "{experiment}.yaml")
MINIMIZERS = "results/minimizers/{experiment}{replica}.safetensors"
TRAJECTORIES = "results/escape/{experiment}{replica}.trajectories.parquet"
CLAIMS, LEDGER = "results/claims.json", "results/claims.md"
REPORT = "results/report.html"
VERDICT = "results/verdict.txt"
ANIMATION = "figures/escape.gif"

# An input of every rule: a folder that is older than any result but those that were set back
# (freshness.smk). That these are older than a script or an experiment would not do: Snakemake takes a file
# that has the content of last time for old, however new it is. A folder has no content to compare.
OLDEST = ".snakemake/oldest"

# The stage scripts, and the parts of the page that one of them fills in.
PAGE_PARTS = [f"render_report.{suffix}" for suffix in ("html", "css", "js")]
STAGES = (
    "generate_minimizers",
    "evaluate_sharpness",
    "measure_bottleneck",
    "simulate_escape",
    "map_landscape",
    "run_study",
    "judge_claims",
    "render_figure",
    "render_animation",
    "render_report",
    "check_verdict",
)
SCRIPT_FILES = [*(f"{stage}.py" for stage in STAGES), *PAGE_PARTS]

# On a full disk Snakemake cannot even log what went wrong; a whole run writes half of this.
LEAST_FREE_BYTES = 50e6

# Whoever takes the workflow as a module may rename its rules, but results have their places.
if workflow.modifier.modify_path(VERDICT) != VERDICT:
    raise WorkflowError(
        "prefix: expected a module without one, got one that moves "
        f"{VERDICT} to {workflow.modifier.modify_path(VERDICT)}; "
        "for another place of the results use --directory"
    )

# Snakemake's own folder comes first, and Snakemake would say so with a traceback.
if not os.access(".snakemake" if Path(".snakemake").exists() else ".", os.W_OK):
    raise WorkflowError(f"{Path.cwd()}: expected a folder that can be written to")

Path(OLDEST).mkdir(parents=True, exist_ok=True)
os.utime(OLDEST, (2, 2))

try:
    # The last --configfile of the command line has the last word, and its name goes into messages.
    EXPERIMENTS = load_config(config, CONFIG_FILES[-1], CONFIG / "experiments")
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


def scripts_folder():
    """The folder of the stage scripts: the workflow's own, or a copy if that is in no folder here."""
    if PROJECT is not None:
        return PROJECT / "workflow" / "scripts"
    folder = Path(".snakemake") / "workflow" / "scripts"
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCRIPT_FILES:
        content = Path(workflow.source_path(f"../scripts/{name}")).read_bytes()
        copy = folder / name
        # A copy that stays as it is keeps its time, and so nothing that was made by it is made anew.
        if not copy.is_file() or copy.read_bytes() != content:
            new = folder / f".{os.getpid()}.{name}"
            new.write_bytes(content)
            new.replace(copy)
    return folder


def inputs_of(rule, **further):
    """The inputs of a job by a script: the files that it reads, the script itself, the oldest folder."""
    return {**further, "script": str(SCRIPTS / f"{rule}.py"), "age": OLDEST}


def inputs_of_stage(rule, **further):
    """The same for a stage on the minimizers of one experiment."""
    return inputs_of(rule, experiment=EXPERIMENT, minimizers=MINIMIZERS, **further)


def experiment_files():
    """The files of all experiments of the configuration."""
    return expand(
        EXPERIMENT, experiment=[e for e in config["experiments"] if e in EXPERIMENTS]
    )


def say_what_is_left_out():
    """Name the experiments whose data come with a package that is not installed."""
    absent = [name for name in config["experiments"] if name not in EXPERIMENTS]
    if absent:
        print(
            f"Left out: {', '.join(absent)}. Their data come with {', '.join(missing_packages())}, "
            "which is not installed.",
            file=sys.stderr,
        )


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


def recorded():
    """Names of the experiments that keep the paths of their runs."""
    return [
        name for name in with_section("escape") if EXPERIMENTS[name].escape.recorded
    ]


def mapped_tables():
    """The runs and the map of the first experiment with a contour map."""
    mapped = with_section("landscape_points")[:1]
    return {
        "trajectories": expand(TRAJECTORIES, experiment=mapped, replica=""),
        "landscape": expand("results/landscape/{e}.safetensors", e=mapped),
    }


def judged_tables():
    """The tables that claims are judged from, by the name of the option that takes them."""
    return {
        "sharpness": expand(
            "results/sharpness/{experiment}.parquet",
            experiment=with_section("has_dense_hessian"),
        ),
        "bottleneck": expand(
            "results/bottleneck/{experiment}.parquet",
            experiment=with_section("bottlenecked"),
        ),
        "escape": expand(
            "results/escape/{experiment}.parquet", experiment=with_section("escape")
        ),
        "studies": study_tables(),
    }


def all_judged_tables():
    """The same, as one list."""
    return [path for paths in judged_tables().values() for path in paths]


def figure_style(key):
    """What the configuration says about how figures look."""
    own = {"width": "own", "palette": "colorblind", "formats": ["pdf"]}
    return {**own, **config.get("style", {})}[key]


def figure_suffixes():
    """The formats of every figure: PNG always, for the report and the README."""
    return sorted({"png", *figure_style("formats")})


def figure_files(*suffixes):
    """The figures of the configuration in these formats, or in all."""
    return [
        f"figures/{figure}.{suffix}"
        for figure in config["figures"]
        for suffix in suffixes or figure_suffixes()
    ]


def figure_tables(wildcards):
    """The artifacts that the figure of a job draws, by the name of the option that takes them."""
    return tables_of(wildcards.figure)


def animated_tables(wildcards):
    """The artifacts that the animation draws, by the name of the option that takes them."""
    return mapped_tables()


def tables_of(figure):
    """The artifacts that a figure draws, by the name of the option that takes them."""
    kinds = catalog.figures()[figure].tables
    every = {
        **judged_tables(),
        "trajectories": expand(TRAJECTORIES, experiment=recorded(), replica=""),
    }
    if "landscape" in kinds:
        every |= mapped_tables()
    studies = [kind.removeprefix("studies/") for kind in kinds if "/" in kind]
    tables = {kind: every[kind] for kind in kinds if "/" not in kind}
    return {**tables, "studies": study_tables(*studies)} if studies else tables


def replica_option(wildcards):
    """The option that has a script draw its experiment anew."""
    number = wildcards.replica.removeprefix(".r")
    return f"--replica {number}" if number else ""


def figure_options(wildcards, input):
    """The tables of a figure as options of its script."""
    return " ".join(f"--{name} {input[name]}" for name in figure_tables(wildcards))


SCRIPTS = scripts_folder()


wildcard_constraints:
    experiment="[a-z0-9_]+",
    replica=r"(\.r[0-9]+)?",
    figure="[a-z0-9_]+",
    study="[a-z0-9_]+",
