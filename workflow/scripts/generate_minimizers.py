"""Stage 1: make the minimizers that an experiment asks for."""

from dmf_sharpness import cli
from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import ensembles
from dmf_sharpness.experiments.experiment import load_experiment


def main() -> None:
    """Read EXPERIMENT, write OUTPUT."""
    parser = cli.parser(
        __doc__,
        experiment="the experiment file (YAML)",
        output="where to write the minimizers (safetensors)",
    )
    args = parser.parse_args()
    experiment = load_experiment(args.experiment, args.replica)
    try:
        networks = ensembles.generate(experiment)
        made = list(cli.progress(networks, len(experiment.networks), "networks"))
    except (ValueError, ArithmeticError) as error:
        # What only the drawn target shows: too ill-conditioned, no room for what is asked.
        raise UserError(f"{args.experiment}: {error}") from None
    ensembles.save(args.output, experiment, made, cli.origin())
    count = sum(len(ensemble.kinds) for ensemble in made)
    cli.log.info("%s: %d minimizers of %d networks", args.output, count, len(made))


if __name__ == "__main__":
    cli.run(main)
