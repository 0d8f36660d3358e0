"""Tables about training from standard starts, on all data and on minibatches."""

import numpy as np
import pandas as pd

from tests.figures.spread import spread


def training() -> pd.DataFrame:
    """Runs that end where gradient flow does, or at the limit of stability where this is lower."""
    rows = []
    for widths, depth in (("1-4-1", 2), ("1-3-3-1", 3), ("3-4-3", 2), ("2-3-3-3-3", 4)):
        for start, flow in enumerate(spread(8, 1.05, 5, depth / 7)):
            for ratio in (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 1.1):
                end = min(flow, 0.97 / ratio)
                outcome = "converged" if ratio < 1 else "step_limit"
                rows.append((widths, depth, start, ratio, outcome, max(end, 1.0), flow))
    columns = [
        "widths",
        "depth",
        "repeat",
        "flat_ratio",
        "outcome",
        "sharpness_ratio",
        "flow_ratio",
    ]
    table = pd.DataFrame(rows, columns=columns)
    wide = [
        (f"4-{'-'.join([str(n)] * (depth - 1))}-3", depth, k, 0.01, "converged", flow, flow)
        for depth in (2, 3, 4)
        for n in (8, 16, 64)
        for k, flow in enumerate(spread(4, 1.0, 1.3, n / 7) * 2 * (1 + (depth - 1) * n / 4))
    ]
    table = pd.concat([table, pd.DataFrame(wide, columns=columns)], ignore_index=True)
    network = table.widths.rank(method="dense").astype(int)
    return table.assign(
        experiment="training", network=network, problem=0, start="fan_in", flat_sharpness=1.0
    )


def sharpening() -> pd.DataFrame:
    """A sharpness that rises to a value, or to the limit of stability, about which it swings."""
    frames = []
    for minimizer, flow in enumerate((2.0, 3.5)):
        for ratio in (0.02, 0.2, 0.4, 0.7):
            step = np.arange(200)
            time = ratio * step
            rise = 1 + (flow - 1) * (1 - np.exp(-time))
            swing = np.exp(-time / 20) * np.where(step % 2, 0.3, -0.3) * (flow * ratio > 1)
            value = np.minimum(rise, 1 / ratio) * (1 + swing)
            frames.append(
                pd.DataFrame({"step": step, "sharpness_ratio": value}).assign(
                    minimizer=minimizer, flat_ratio=ratio
                )
            )
    return pd.concat(frames, ignore_index=True).assign(
        experiment="training_sharpening", network=0, widths="2-5-5-3"
    )


def minibatches() -> pd.DataFrame:
    """Thresholds that rise with the batch size, and the growth beyond the first of them."""
    size = np.tile([1, 2, 3, 4], 2)
    depth = np.repeat([2, 3], 4)
    return pd.DataFrame(
        {
            "experiment": "one", "network": depth, "minimizer": 0, "depth": depth,
            "batch_size": size, "at": "full", "mean_square": size / 4,
            "almost_sure": np.where(size < 4, (size + 0.2 * depth) / 4, 1.0),
            "predicted": depth * 4 / size, "growth": depth * 4 / size,
        }
    )  # fmt: skip


def minibatch_runs() -> pd.DataFrame:
    """Runs on all data that stay up to the limit, and runs on batches that end at flatter minimizers."""
    ratio = np.linspace(0.4, 1.4, 11)
    full = pd.DataFrame(
        {"method": "full", "full_ratio": ratio, "end_ratio": np.minimum(1, 0.9 / ratio)}
    )
    part = full.assign(method="minibatch", end_ratio=0.6 + 0.1 * np.cos(9 * ratio))
    return pd.concat([full, part], ignore_index=True)


def trained() -> pd.DataFrame:
    """Networks on whitened data with other class shares, and on inputs of other condition numbers."""
    shared = [
        ("digits", centred, share, 1.0, value**0.5)
        for centred in (False, True)
        for share in (0.1, 0.3, 0.5, 0.7, 0.9)
        for value in [share * (1 - share) if centred else share]
    ]
    kinds = ("digits", "mnist", "diabetes")
    others = [(kind, True, np.nan, c, 1.0) for kind in kinds for c in (4.0, 20.0, 600.0)]
    columns = ["data", "centred", "largest_share", "condition", "least"]
    table = pd.DataFrame([*shared, *others], columns=columns)
    bound = 4 * 1797 * table.least
    whitened = table.condition == 1
    return table.assign(
        experiment="trained",
        network=range(len(table)),
        problem=0,
        depth=2,
        samples=1797,
        flat_sharpness=bound,
        flat_made=bound,
        made_sharpness=bound * np.where(whitened, 1, table.condition**0.4),
        sharpness=bound * spread(len(table), 1.2, 6),
        distance=np.where(table.condition > 100, 0.5, 1e-6),
    )
