from dmf_sharpness.artifacts import lineage
from dmf_sharpness.artifacts.lineage import expected_lineage, is_current, set_back, stage_sources


def results_of(name):
    """The results of an experiment: path, rule, what further names its code, and what it is made from."""
    experiment = EXPERIMENTS[name]
    file = str(CONFIG / "experiments" / f"{name.partition('.')[0]}.yaml")
    minimizers = f"results/minimizers/{name}.safetensors"
    trajectories = f"results/escape/{name}.trajectories.parquet"
    inputs = [file, minimizers]
    yield minimizers, "generate_minimizers", "", [file]
    if experiment.bottlenecked:
        yield f"results/bottleneck/{name}.parquet", "measure_bottleneck", "", inputs
        return
    yield f"results/sharpness/{name}.parquet", "evaluate_sharpness", "", inputs
    if experiment.escape:
        yield f"results/escape/{name}.parquet", "simulate_escape", "", inputs
        yield trajectories, "simulate_escape", "", inputs
    if experiment.landscape_points:
        mapped = f"results/landscape/{name}.safetensors"
        yield mapped, "map_landscape", "", [*inputs, trajectories]
    for study in experiment.studies:
        yield f"results/studies/{study}/{name}.parquet", "run_study", study, inputs


def results_of_all():
    """The ledger, the figures and the report: as above, and the options that decide them."""
    yield "results/claims.json", "judge_claims", "", all_judged_tables(), None
    yield "results/claims.md", "judge_claims", "", all_judged_tables(), None
    style = {"width": figure_style("width"), "palette": figure_style("palette")}
    for figure in config["figures"]:
        tables = [path for paths in tables_of(figure).values() for path in paths]
        for suffix in figure_suffixes():
            yield f"figures/{figure}.{suffix}", "render_figure", figure, tables, style
    shown = expand("figures/{figure}.png", figure=config["figures"])
    read = ["results/claims.json", *shown, *experiment_files()]
    yield "results/report.html", "render_report", "", read, config
    if with_section("landscape_points"):
        tables = [path for paths in mapped_tables().values() for path in paths]
        yield "figures/escape.gif", "render_animation", "", tables, None


def set_back_what_is_not_current():
    """Give every result that does not belong to the files at hand the oldest time there is.

    Snakemake compares times, and the time of a result says little: a job that died has its old output
    put back with a new time, and an experiment may be edited while its job runs. What a result carries
    of its origin is compared instead; whatever is older than its inputs Snakemake then makes anew, and
    keeps until it has the new one.
    """
    for name in EXPERIMENTS:
        for path, rule, detail, inputs in results_of(name):
            set_back_unless_current(path, rule, detail, inputs, None)
    for result in results_of_all():
        set_back_unless_current(*result)


def set_back_unless_current(path, rule, detail, inputs, options):
    if not Path(path).exists():
        return
    expected = expected_lineage(stage_sources(rule, SCRIPTS, detail), inputs, options)
    if expected is None or not is_current(Path(path), expected):
        set_back(Path(path))


# Jobs on a cluster parse this file as well, while others write.
if workflow.is_main_process:
    try:
        set_back_what_is_not_current()
    except UserError as error:
        raise WorkflowError(str(error)) from None
