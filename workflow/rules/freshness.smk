from dmf_sharpness.artifacts.lineage import (
    expected_lineage,
    is_current,
    set_back,
    stage_sources,
)
from dmf_sharpness.claims.ledger import read_ledger, to_verdict


def jobs_of_experiment(name):
    """The jobs on an experiment: outputs, rule, what further names its code, inputs, options."""
    experiment = EXPERIMENTS[name]
    file = EXPERIMENT.format(experiment=name.partition(".")[0])
    minimizers = f"results/minimizers/{name}.safetensors"
    trajectories = f"results/escape/{name}.trajectories.parquet"
    inputs = [file, minimizers]
    yield [minimizers], "generate_minimizers", "", [file], None
    if experiment.bottlenecked:
        table = f"results/bottleneck/{name}.parquet"
        yield [table], "measure_bottleneck", "", inputs, None
    elif experiment.has_dense_hessian:
        table = f"results/sharpness/{name}.parquet"
        yield [table], "evaluate_sharpness", "", inputs, None
    if experiment.escape:
        runs = f"results/escape/{name}.parquet"
        yield [runs, trajectories], "simulate_escape", "", inputs, None
    if experiment.landscape_points:
        mapped = f"results/landscape/{name}.safetensors"
        yield [mapped], "map_landscape", "", [*inputs, trajectories], None
    for study in experiment.studies:
        table = f"results/studies/{study}/{name}.parquet"
        yield [table], "run_study", study, inputs, None


def jobs_of_all():
    """The jobs on all experiments, whose outputs the verdict comes after; as above."""
    yield [CLAIMS, LEDGER], "judge_claims", "", all_judged_tables(), None
    style = {"width": figure_style("width"), "palette": figure_style("palette")}
    for figure in config["figures"]:
        tables = [path for paths in tables_of(figure).values() for path in paths]
        drawn = [f"figures/{figure}.{suffix}" for suffix in figure_suffixes()]
        yield drawn, "render_figure", figure, tables, style
    read = [CLAIMS, *figure_files("png"), *experiment_files()]
    yield [REPORT], "render_report", "", read, config


def animation_job():
    """The job of the optional animation, as above."""
    tables = [path for paths in mapped_tables().values() for path in paths]
    return [ANIMATION], "render_animation", "", tables, None


def set_back_what_is_not_current():
    """Give every result that does not belong to the files at hand the oldest time there is.

    Snakemake compares times, and the time of a result says little: a job that died has its old output
    put back with a new time, and an experiment may be edited while its job runs. What a result carries
    of its origin is compared instead; whatever is older than its inputs Snakemake then makes anew, and
    keeps until it has the new one.

    Snakemake also does not make a missing file anew if the target that it leads to is there and newer than
    everything else. So the outputs of a job are set back together, and the verdict with whatever comes before it.
    """
    for name in EXPERIMENTS:
        for job in jobs_of_experiment(name):
            set_back_unless_current(*job)
    if with_section("landscape_points"):
        set_back_unless_current(*animation_job())
    published = [set_back_unless_current(*job) for job in jobs_of_all()]
    if not all(published) or not is_verdict_of_ledger():
        set_back(Path(VERDICT))


def set_back_unless_current(outputs, rule, detail, inputs, options):
    """Whether all outputs of a job are there and of the files at hand; if not, set back those that are."""
    if any(Path(path).exists() for path in outputs):
        sources = stage_sources(rule, SCRIPTS, detail)
        expected = expected_lineage(sources, inputs, options)
        if expected is not None and all(
            is_current(Path(path), expected) for path in outputs
        ):
            return True
        for path in outputs:
            set_back(Path(path))
    return False


def is_verdict_of_ledger():
    """Whether the verdict, which carries no origin, says what the ledger says."""
    try:
        said = Path(VERDICT).read_text(encoding="utf-8")
        return said == to_verdict(read_ledger(Path(CLAIMS)))
    except (OSError, ValueError, UserError):
        return False


# Jobs on a cluster parse this file as well, while others write.
if workflow.is_main_process:
    try:
        set_back_what_is_not_current()
    except UserError as error:
        raise WorkflowError(str(error)) from None
