"""Stage 1: make the minimizers that an experiment asks for."""

from dmf_sharpness import cli, ensembles
from dmf_sharpness.experiments import load_experiment


def main() -> None:
    """Read EXPERIMENT, write OUTPUT."""
    parser = cli.parser(
        __doc__,
        experiment="the experiment file (YAML)",
        output="where to write the minimizers (safetensors)",
    )
    args = parser.parse_args()
    experiment = load_experiment(args.experiment)
    made = list(ensembles.generate(experiment))
    ensembles.save(args.output, experiment, made)
    count = sum(len(ensemble.kinds) for ensemble in made)
    cli.log.info("%s: %d minimizers of %d networks", args.output, count, len(made))


if __name__ == "__main__":
    cli.run(main)
