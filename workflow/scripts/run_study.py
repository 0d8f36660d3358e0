"""Stage 3c: one study on the minimizers of an experiment."""

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import write_table
from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import catalog, ensembles
from dmf_sharpness.experiments.experiment import load_experiment
from dmf_sharpness.studies.run import run


def main() -> None:
    """Read EXPERIMENT and MINIMIZERS, do what the study NAME asks for, write OUTPUT."""
    parser = cli.parser(
        __doc__,
        experiment="the experiment file (YAML), with a section studies",
        minimizers="its minimizers (safetensors), from generate_minimizers.py",
        output="where to write the table (Parquet)",
    )
    parser.add_argument("name", choices=tuple(catalog.studies()), help="which study")
    args = parser.parse_args()
    experiment = load_experiment(args.experiment, args.replica)
    if args.name not in experiment.studies:
        raise UserError(f"{args.experiment}: studies.{args.name}: missing, expected a section")
    made = ensembles.load(args.minimizers, experiment)
    networks = cli.progress(made, len(made), "networks")
    table = run(args.name, networks, experiment.studies[args.name])
    table.insert(0, "experiment", experiment.name)
    write_table(args.output, f"study_{args.name}", table, cli.header(experiment, args.name))
    counts = table.outcome.value_counts().to_dict() if "outcome" in table else {}
    cli.log.info("%s: %d rows %s", args.output, len(table), counts)


if __name__ == "__main__":
    cli.run(main)
