"""Tables about the escape from a minimizer and about where it ends."""

import numpy as np
import pandas as pd

from tests.figures.spread import spread


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


def projections() -> pd.DataFrame:
    """Runs whose components change by ``|1 − ηλ_k|`` per step, up to a size of one tenth."""
    frames = []
    for ratio in (0.9, 1.1, 1.3):
        for place, share in enumerate((1.0, 0.85, 0.4, 0.1, 0.0), 1):
            step, c = np.arange(81), ratio * share
            component = np.clip(1e-8 * (1 - 2 * c) ** step.astype(float), -0.1, 0.1)
            frames.append(
                pd.DataFrame({"step": step, "component": component}).assign(
                    step_ratio=ratio, place=place, direction_ratio=c, growth=abs(1 - 2 * c)
                )
            )
    return pd.concat(frames, ignore_index=True).assign(experiment="made", network=0, minimizer=0)


def valley() -> pd.DataFrame:
    """A straight valley whose walls get lower, and runs that stop where they are low enough."""
    arc, a = np.linspace(0, 0.2, 13), np.linspace(-0.1, 0.1, 15)
    ratio = 1.5 - 2.5 * arc
    loss = np.outer(ratio, a**2) + 1e-6
    grid = pd.DataFrame(
        {
            "part": "map", "arc": np.repeat(arc, 15), "along_top": np.tile(a, 13),
            "loss": loss.ravel(), "curve_ratio": np.repeat(ratio, 15),
        }
    )  # fmt: skip
    frames = [grid]
    for c in (0.9, 1.0, 1.1, 1.3):
        step = np.arange(121)
        end = (1.5 - 1.5 / max(c, 1.0)) / 2.5 * 1.1
        size = 0.08 * (c - 0.85) * np.exp(-(((step - 40) / 25.0) ** 2))
        frames.append(
            pd.DataFrame(
                {
                    "part": "run", "step_ratio": c, "step": step,
                    "arc": end / (1 + np.exp((40 - step) / 8)),
                    "along_top": size * (-1.0) ** step, "loss": size**2 + 1e-12,
                    "end_ratio": 1.5 - 2.5 * end,
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True).assign(experiment="made", network=0, minimizer=0)
