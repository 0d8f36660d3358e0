"""Stage 2: the exact sharpness of every minimizer, beside the dense autograd Hessian's."""

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import write_table
from dmf_sharpness.experiments import ensembles
from dmf_sharpness.experiments.experiment import load_experiment
from dmf_sharpness.studies.exactness import evaluate

import pandas as pd


def main() -> None:
    """Read EXPERIMENT and MINIMIZERS, write OUTPUT."""
    parser = cli.parser(
        __doc__,
        experiment="the experiment file (YAML)",
        minimizers="its minimizers (safetensors), from generate_minimizers.py",
        output="where to write the table (Parquet), a row per minimizer",
    )
    args = parser.parse_args()
    experiment = load_experiment(args.experiment, args.replica)
    made = ensembles.load(args.minimizers, experiment)
    tables = [
        evaluate(e, ensembles.regression_of(experiment, e.network))
        for e in cli.progress(made, len(made), "networks")
    ]
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "experiment", experiment.name)
    write_table(args.output, "sharpness", table, cli.header(experiment))
    worst = table.relative_difference.max()
    cli.log.info(
        "%s: %d minimizers, worst relative difference %.2g", args.output, len(table), worst
    )


if __name__ == "__main__":
    cli.run(main)
