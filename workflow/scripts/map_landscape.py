"""Stage 3b: the loss on the plane of v_1 and v_N around a minimizer that gradient descent left."""

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import read_table, write_tensors
from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import ensembles
from dmf_sharpness.experiments.experiment import load_experiment
from dmf_sharpness.studies.landscape import loss_on_plane

import torch


def main() -> None:
    """Read EXPERIMENT, MINIMIZERS and TRAJECTORIES, write OUTPUT."""
    parser = cli.parser(
        __doc__,
        experiment="the experiment file (YAML), with a landscape section",
        minimizers="its minimizers (safetensors), from generate_minimizers.py",
        trajectories="its recorded paths (Parquet), from simulate_escape.py; the map spans them",
        output="where to write the map (safetensors)",
    )
    args = parser.parse_args()
    experiment = load_experiment(args.experiment, args.replica)
    if experiment.landscape_points is None:
        raise UserError(f"{args.experiment}: landscape: missing, expected a section")
    made = ensembles.load(args.minimizers, experiment)
    paths, _ = read_table(args.trajectories, "trajectories", experiment.identity)
    first = paths.iloc[0]
    ensemble, b = made[int(first.network)], int(first.minimizer)
    near = paths[(paths.network == first.network) & (paths.minimizer == b)]

    def axis(column: str) -> torch.Tensor:
        low, high = float(near[column].min()), float(near[column].max())
        margin = 0.15 * (high - low)
        return torch.linspace(
            low - margin, high + margin, experiment.landscape_points, dtype=torch.float64
        )

    top, flattening = axis("along_top"), axis("along_flattening")
    loss = loss_on_plane(ensemble.one(b), ensemble.problem.chosen(b), top, flattening)
    tensors = {"along_top": top, "along_flattening": flattening, "loss": loss}
    header = {**cli.header(experiment), "network": ensemble.network, "minimizer": b}
    write_tensors(args.output, "landscape", tensors, header)
    cli.log.info("%s: %d × %d points", args.output, len(top), len(flattening))


if __name__ == "__main__":
    cli.run(main)
