"""Stage 3: gradient descent from beside the minimizers, below and above the stability limit."""

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import write_table
from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import ensembles
from dmf_sharpness.experiments.experiment import load_experiment
from dmf_sharpness.studies.escape import recorded_paths, study

import pandas as pd


def main() -> None:
    """Read EXPERIMENT and MINIMIZERS, write OUTPUT and, beside it, the recorded paths."""
    parser = cli.parser(
        __doc__,
        experiment="the experiment file (YAML)",
        minimizers="its minimizers (safetensors), from generate_minimizers.py",
        output="where to write the table (Parquet), a row per run; recorded paths go beside it, "
        "as NAME.trajectories.parquet",
    )
    args = parser.parse_args()
    experiment = load_experiment(args.experiment, args.replica)
    if experiment.escape is None:
        raise UserError(
            f"{args.experiment}: escape: missing, expected a section that says what to run"
        )
    made = ensembles.load(args.minimizers, experiment)
    networks = cli.progress(made, len(made), "networks")
    escapes = [study(ensemble, experiment.escape) for ensemble in networks]
    table = pd.concat([one.table for one in escapes], ignore_index=True)
    table.insert(0, "experiment", experiment.name)
    trajectories = args.output.with_suffix(".trajectories.parquet")
    paths = [recorded_paths(one, experiment.escape.recorded) for one in escapes]
    kept = [path for path in paths if len(path)] or paths[:1]
    header = cli.header(experiment)
    write_table(trajectories, "trajectories", pd.concat(kept, ignore_index=True), header)
    write_table(args.output, "escape", table, header)
    counts = table.outcome.value_counts().to_dict()
    cli.log.info("%s: %d runs, %s", args.output, len(table), counts)


if __name__ == "__main__":
    cli.run(main)
