"""Small tables for every figure, from formulas: no engine, no random numbers, the same everywhere."""

from itertools import product

import numpy as np
import pandas as pd

from dmf_sharpness.experiments import catalog
from dmf_sharpness.figures.tables import Tables

GOLDEN = (5**0.5 - 1) / 2


def spread(count: int, low: float, high: float, offset: float = 0.0) -> np.ndarray:
    """Numbers that fill an interval evenly and in no visible order."""
    return low + (high - low) * np.modf(GOLDEN * (np.arange(count) + 1) + offset)[0]


def sharpness() -> pd.DataFrame:
    """Flat and random minimizers of several depths; products equal, unequal, and of another value."""
    frames = []
    for depth, widths in ((2, "3-4-3"), (3, "3-4-4-3"), (6, "2-3-3-3-3-3-2"), (5, "1-3-3-3-3-1")):
        n = 24
        random = pd.DataFrame(
            {"kind": "random", "spectral_imbalance": 10 ** spread(n, -2, 0.5, depth / 7)}
        )
        random["excess"] = 4 * random.spectral_imbalance**2
        random["frobenius_imbalance"] = 1 + 2 * random.spectral_imbalance
        random["product_spread"] = random.spectral_imbalance
        flat = pd.DataFrame({"kind": "flat", "spectral_imbalance": spread(n, 0, 1e-15)})
        flat["excess"], flat["product_spread"] = spread(n, -2e-15, 2e-15), 0.0
        flat["frobenius_imbalance"] = 10 ** spread(n, 0, 2)
        scaled = pd.DataFrame({"kind": "scaled", "spectral_imbalance": [0.5, 1.0, 2.0]})
        scaled["excess"] = (1 + scaled.spectral_imbalance) ** 2 - 1
        scaled["frobenius_imbalance"], scaled["product_spread"] = 1.5, 0.0
        parts = [random, flat, scaled]
        if depth == 3:
            other = pd.DataFrame({"kind": "explicit", "spectral_imbalance": [0.05, 0.15]})
            other["excess"], other["product_spread"], other["frobenius_imbalance"] = 0.0, 0.0, 2.0
            live = pd.DataFrame({"kind": "flat_live", "frobenius_imbalance": [100.0, 150.0, 200.0]})
            live["spectral_imbalance"], live["excess"], live["product_spread"] = 1e-15, 1e-15, 0.0
            parts += [other, live]
        if depth in (3, 6):
            kinds = ["flat_unbalanced"] * (n - 1) + ["explicit"]
            uneven = pd.DataFrame({"kind": kinds, "spectral_imbalance": 10 ** spread(n, -1.9, 0)})
            uneven["excess"], uneven["product_spread"] = spread(n, 0, 3e-15), 0.3
            uneven["frobenius_imbalance"] = 1 + uneven.spectral_imbalance
            parts.append(uneven)
        frames.append(pd.concat(parts).assign(depth=depth, widths=widths))
    table = pd.concat(frames, ignore_index=True)
    table["flat_sharpness"] = 10 ** spread(len(table), -1, 3)
    table["sharpness"] = table.flat_sharpness * (1 + table.excess)
    table["oracle_sharpness"] = table.sharpness
    table["relative_difference"] = 10 ** spread(len(table), -16.5, -14.5)
    return table


def bottleneck() -> pd.DataFrame:
    """Random minimizers for which the closed form is exact, too low and too high, and those at the bounds."""
    rows = []
    for depth, tight in ((2, 2), (4, 2), (3, 1), (5, 0), (8, 0)):
        size = 10 ** (spread(12, -16, -15) if tight == 2 else spread(12, -6, -2))
        sign = np.where((np.arange(12) % 4 == 0) & (tight != 1), -1, 1)
        rows.append(
            pd.DataFrame({"excess": sign * size, "residual_ratio": spread(12, 0.1, 0.9)}).assign(
                kind="bottlenecked", depth=depth, tight_ends=tight
            )
        )
    q = np.array([0.2, 0.5, 0.9])
    for kind, bound in (("underestimated", 1 + q), ("overestimated", (1 + q) / (1 + 2 * q))):
        table = pd.DataFrame({"excess": bound - 1, "residual_ratio": q})
        rows.append(table.assign(kind=kind, depth=4, tight_ends=0))
    table = pd.concat(rows, ignore_index=True)
    return table.assign(expression=2.0, sharpness=2.0 * (1 + table.excess))


def trajectories() -> pd.DataFrame:
    """Runs whose distance grows or shrinks as the linear phase says, up to a size of one half."""
    frames = []
    for ratio in (0.8, 0.95, 1.1, 1.3):
        for radius in (1e-9, 1e-6, 1e-3):
            step = np.arange(160)
            size = np.minimum(radius * abs(1 - 2 * ratio) ** step.astype(float), 0.5)
            frames.append(
                pd.DataFrame(
                    {
                        "network": 0, "minimizer": 0, "step_ratio": ratio, "radius": radius,
                        "step": step, "loss": size**2, "distance": size,
                        "along_top": size * (-1.0) ** step, "along_flattening": size**2,
                    }
                )
            )  # fmt: skip
    return pd.concat(frames, ignore_index=True).assign(experiment="made")


def landscape() -> dict[str, np.ndarray]:
    """A curved valley."""
    x, y = np.linspace(-0.6, 0.6, 31), np.linspace(-0.1, 0.5, 25)
    loss = (x[None, :] - y[:, None] ** 2) ** 2 + 1e-6
    return {"along_top": x, "along_flattening": y, "loss": loss}


def paths() -> pd.DataFrame:
    """Sharpness along two paths of each of two networks."""
    frames = []
    for network, (depth, widths) in enumerate(((2, "3-4-3"), (4, "1-3-3-3-1"))):
        for path in range(2):
            t = np.linspace(0, 1.2, 11)
            value = np.exp((path + 1) * t**2)
            frames.append(
                pd.DataFrame(
                    {
                        "experiment": "made", "network": network, "minimizer": 0, "path": path,
                        "depth": depth, "widths": widths, "t": t, "sharpness": value,
                        "oracle_sharpness": value, "flat_sharpness": 1.0,
                        "lower": value / depth, "upper": value * (1 + t),
                    }
                )
            )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def landing() -> pd.DataFrame:
    """Landings near the mirror, with errors that grow with the excess."""
    n = 80
    excess, refined = 10 ** spread(n, -4, -1), -(10 ** spread(n, -1, 2, 0.3))
    measured = excess / (1 + 2 * refined * -1 * excess)
    return pd.DataFrame(
        {
            "outcome": "landed", "second_ratio": 0.5, "flat_ratio": 0.5, "excess": excess,
            "refined": refined, "end_ratio": 1 - measured,
            "predicted": 1 - measured * (1 + 10 * excess),
            "predicted_refined": 1 - measured * (1 + 5 * excess**2),
        }
    )  # fmt: skip


def landing_momentum() -> pd.DataFrame:
    """Landings of three momenta on their lines, next to which the larger excess lies."""
    n = 12
    frames = []
    for momentum in (0.3, 0.6, 0.8):
        term = 1.5 * ((1 + momentum) / (1 - momentum)) ** 2
        for excess in (1e-4, 1e-3):
            coefficient = -(10 ** spread(n, 0, 2))
            beyond = coefficient + term * (1 + 100 * excess)
            frames.append(
                pd.DataFrame(
                    {
                        "outcome": "landed", "depth": [2, 3, 4] * (n // 3), "momentum": momentum,
                        "excess": excess, "coefficient": coefficient,
                        "end_ratio": 1 - excess - 4 / 3 * beyond * excess**2,
                    }
                )
            )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def phase() -> pd.DataFrame:
    """Outcomes by the two predicted borders."""
    rows = []
    for depth in (2, 3):
        for minimizer, sharp in enumerate(np.geomspace(1, 4, 9)):
            for ratio in np.geomspace(0.7, 6, 13):
                outcome = (
                    "returned" if ratio < 1 else "landed" if ratio < sharp else "period_two"
                    if ratio < 1.3 * sharp else "bounded" if ratio < 1.5 * sharp else "diverged"
                )  # fmt: skip
                if minimizer == 4 and outcome == "bounded":
                    outcome = "undecided"
                rows += [(depth, minimizer, sharp, ratio, outcome)] * 2
    columns = ["depth", "minimizer", "sharpness_ratio", "step_ratio", "outcome"]
    return pd.DataFrame(rows, columns=columns)


def timing() -> pd.DataFrame:
    """Times on the predicted line, and of starts at the minimizer itself."""
    frames = []
    for ratio in (1.05, 1.3):
        radius = np.append(10.0 ** np.arange(-14, -2), 0.0)
        slope = 1 / np.log(2 * ratio - 1)
        time = slope * np.append(-np.log(radius[:-1] / 0.1), 33)
        frames.append(
            pd.DataFrame(
                {
                    "step_ratio": ratio, "radius": radius, "level": 0.1, "escape_time": time,
                    "predicted_slope": slope, "second_ratio": 0.5, "direction": "top",
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def starts() -> pd.DataFrame:
    """Starts of all kinds; those on the stable manifold mostly stay."""
    frames = []
    span = np.log(1e-3 / 2**-52) / np.log(1.2)
    kinds = ("top", "random", "orthogonal", "flattening", "manifold", "stable", "exact")
    for k, kind in enumerate(kinds):
        time = span * spread(20, 0.1 * k, 0.1 * k + 0.4)
        if k > 3:
            time = np.where(np.arange(20) % (k + 1) == 0, span * spread(20, 1, 1.4), np.nan)
        frames.append(pd.DataFrame({"start": kind, "step_ratio": 1.1, "escape_time": time}))
    return pd.concat(frames, ignore_index=True)


def threshold() -> pd.DataFrame:
    """Measured thresholds on the predicted lines; a minimizer of data has no flat one to compare with."""
    frames = []
    for momentum, nesterov in ((0.0, False), (0.5, False), (0.5, True), (0.9, True)):
        predicted = (2 + 2 * momentum) / (1 + 2 * momentum * nesterov)
        ratio = np.append(10 ** spread(8, 0, 0.6), np.nan)
        frames.append(
            pd.DataFrame(
                {
                    "momentum": momentum, "nesterov": nesterov, "predicted": predicted,
                    "threshold": predicted, "sharpness_ratio": ratio, "depth": [2, 3, 5] * 3,
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def soft() -> pd.DataFrame:
    """Ends of runs on the predicted curve, for two minimizers of each of two networks."""
    frames = []
    for network, widths in enumerate(("64-10-10", "64-20-20-10")):
        for minimizer in range(2):
            excess = np.geomspace(1e-3, 0.3, 6)
            end = excess * 0.5 ** (network + minimizer)
            frames.append(
                pd.DataFrame(
                    {
                        "experiment": "digits", "network": network, "minimizer": minimizer, "widths": widths,
                        "depth": 2 + network, "excess": excess, "end_ratio": 1 - end,
                        "predicted": 1 - 1.05 * end, "settled": 1 - 0.3 * excess, "steps": 5000,
                    }
                )
            )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def orbits() -> pd.DataFrame:
    """Runs in which the layers become equal; the share of their oscillation in the top subspace."""
    frames = []
    for run in range(6):
        ratio, start = (0.9, 1.05, 1.3)[run % 3], ("identity", "minimizer")[run // 3]
        step = np.arange(0, 400, 20)
        frames.append(
            pd.DataFrame(
                {
                    "experiment": "made", "network": 0, "run": run, "ended": 0, "start": start,
                    "flat_ratio": ratio, "second_ratio": 0.9 * ratio, "step": step,
                    "top_gap": 0.5 * 0.93**step * (run // 3), "in_top": 1.0 if ratio < 1.2 else 0.6,
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def flattest() -> pd.DataFrame:
    """Searches that end balanced at depth 2 and for scalars, and some that do not with more factors."""
    frames = []
    for depth, widths, ends in (
        (2, "3-4-3", -9),
        (4, "1-2-2-2-1", -8),
        (3, "2-4-4-3", -5),
        (5, "2-3-3-3-3-2", -0.5),
    ):
        imbalance = 10 ** spread(20, ends - 3, min(ends + 4, 0), depth / 7)
        start = 10 ** spread(20, -0.5, 1.2, depth / 5)
        frames.append(
            pd.DataFrame({"start_imbalance": start, "imbalance": imbalance}).assign(
                depth=depth, widths=widths, end_ratio=1.0
            )
        )
    return pd.concat(frames, ignore_index=True)


def benchmark() -> pd.DataFrame:
    """Three tools, one of them inaccurate, on square networks and on others."""
    frames = []
    for (k, tool), (widths, slower) in product(
        enumerate(("dmf_sharpness", "autograd + eigsh", "PyHessian")),
        (("10-10-10", 1.0), ("4-20-4", 0.1)),
    ):
        parameters = 10.0 ** np.arange(2, 7)
        frames.append(
            pd.DataFrame(
                {
                    "tool": tool, "widths": widths, "parameters": parameters, "status": "ok",
                    "seconds": slower * 1e-4 * (k + 1) * parameters**0.5, "error": 1e-3 if k == 2 else 1e-12,
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def tables() -> Tables:
    """All of them; the table of a study is the function of its name."""
    return Tables(
        sharpness=sharpness(),
        bottleneck=bottleneck(),
        benchmark=benchmark(),
        escape=pd.DataFrame(),
        trajectories=trajectories(),
        landscape=landscape(),
        studies={name: globals()[name]() for name in catalog.studies() if name in globals()},
    )


def unbalanced() -> pd.DataFrame:
    """Three grids of networks, two of which have the corner where balance is necessary."""
    rows = []
    for rank, share in ((1, 1.0), (2, 1.0), (2, 0.4)):
        for widths in product((rank, rank + 1), repeat=4):
            ends = (widths[:2], widths[2:])
            necessary = share == 1 and all(rank in end for end in ends)
            rows.append(
                {
                    "depth": 3,
                    "widths": "-".join(map(str, widths)),
                    "rank": rank,
                    "least_share": share,
                    "necessary": necessary,
                    "unbalanced_excess": 0.0024 if necessary else 1e-15,
                }
            )
    return pd.DataFrame(rows)


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


def recovery() -> pd.DataFrame:
    """Four completions, of which two get better with the share of observed entries."""
    rows = []
    for share in (0.4, 0.55, 0.7, 0.85):
        for k in range(4):
            good = 0.5 * 10 ** (-10 * (share - 0.4)) * (1 + k / 4)
            errors = {"flat": 1 + k / 20, "random": 0.9 - k / 10, "trace_flat": good}
            errors["gradient_descent"] = (good + 1e-3) * 1.2
            rows += [(share, solution, error) for solution, error in errors.items()]
    return pd.DataFrame(rows, columns=["observed_share", "solution", "recovery_error"])
