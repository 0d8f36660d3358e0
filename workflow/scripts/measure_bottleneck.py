"""Stage 2 for bottlenecked minimizers: the exact expression beside the true sharpness."""

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import write_table
from dmf_sharpness.experiments import ensembles
from dmf_sharpness.experiments.experiment import load_experiment
from dmf_sharpness.studies.bottleneck import measure

import pandas as pd


def main() -> None:
    """Read EXPERIMENT and MINIMIZERS, write OUTPUT."""
    parser = cli.parser(
        __doc__,
        experiment="the experiment file (YAML), of bottlenecked minimizers",
        minimizers="its minimizers (safetensors), from generate_minimizers.py",
        output="where to write the table (Parquet), a row per minimizer",
    )
    args = parser.parse_args()
    experiment = load_experiment(args.experiment, args.replica)
    made = ensembles.load(args.minimizers, experiment)
    tables = [measure(ensemble) for ensemble in cli.progress(made, len(made), "networks")]
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "experiment", experiment.name)
    write_table(args.output, "bottleneck", table, cli.header(experiment))
    most = (table.sharpness / table.expression).max() - 1
    cli.log.info("%s: %d minimizers, excess of up to %.2g", args.output, len(table), most)


if __name__ == "__main__":
    cli.run(main)
