"""Stage 3: gradient descent from beside the minimizers, below and above the stability limit."""

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import write_table
from dmf_sharpness.errors import UserError
from dmf_sharpness.experiments import ensembles
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import EscapeSpec, load_experiment
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.studies.escape import Escapes, simulate

import numpy as np
import pandas as pd


def leave(ensemble: Ensemble, spec: EscapeSpec) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs of one network and the paths that are to be kept, as tables."""
    last = len(ensemble.kinds) - 1
    chosen = np.unique(np.linspace(0, last, min(spec.minimizers, last + 1)).round().astype(int))
    runs = simulate(
        [W[chosen] for W in ensemble.factors],
        ensemble.target[chosen],
        spec.step_ratios,
        spec.radii,
        spec.steps,
        ensemble.input_root,
    )
    table = runs.table
    minimizer = chosen[table.pop("start")]
    table.insert(0, "network", ensemble.network)
    table.insert(1, "minimizer", minimizer)
    table.insert(2, "kind", [ensemble.kinds[i] for i in minimizer])
    table.insert(3, "widths", "-".join(map(str, ensemble.widths)))
    table.insert(4, "depth", ensemble.depth)
    if ensemble.input_root is None:
        flat = np.asarray(flat_sharpness(ensemble.target, ensemble.depth))
        table["flat_sharpness"] = flat[minimizer]
    else:
        table["flat_sharpness"] = np.nan
    recorded = table[table.kind == spec.recorded].minimizer.unique()[:1]
    return table, _paths(runs, table, table.minimizer.isin(recorded).to_numpy())


def _paths(runs: Escapes, table: pd.DataFrame, kept: np.ndarray) -> pd.DataFrame:
    """The recorded paths in long form, a row per run and step."""
    path = runs.trajectory
    frames = [pd.DataFrame(columns=["network", "minimizer", "step_ratio", "radius", "step"])]
    for b in np.flatnonzero(kept):
        steps = int(table.steps.iloc[b]) + 1
        frame = table.iloc[np.full(steps, b)][["network", "minimizer", "step_ratio", "radius"]]
        frames.append(
            frame.assign(
                step=path.step[:steps].numpy(),
                loss=path.loss[:steps, b].numpy(),
                distance=path.distance[:steps, b].numpy(),
                along_top=path.projections[:steps, b, 0].numpy(),
                along_flattening=path.projections[:steps, b, 1].numpy(),
            )
        )
    return pd.concat(frames[1:] or frames, ignore_index=True)


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
    tables, paths = zip(*(leave(e, experiment.escape) for e in networks), strict=True)
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "experiment", experiment.name)
    trajectories = args.output.with_suffix(".trajectories.parquet")
    kept = [path for path in paths if len(path)] or list(paths[:1])
    header = cli.header(experiment)
    write_table(trajectories, "trajectories", pd.concat(kept, ignore_index=True), header)
    write_table(args.output, "escape", table, header)
    counts = table.outcome.value_counts().to_dict()
    cli.log.info("%s: %d runs, %s", args.output, len(table), counts)


if __name__ == "__main__":
    cli.run(main)
