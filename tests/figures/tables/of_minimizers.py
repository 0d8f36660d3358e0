"""Tables about minimizers: their sharpness, bottlenecks, paths, searches, completions."""

from itertools import product

import numpy as np
import pandas as pd

from tests.figures.spread import spread


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


def benchmark() -> pd.DataFrame:
    """Three tools on square networks and on others of growing widths; one tool is inaccurate."""
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
                    "family": "square" if slower == 1 else "narrow ends", "size": parameters**0.5,
                    "memory": 80.0 * parameters * (k + 1), "certificate": 1e-5 * parameters**0.5,
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def spectrum() -> pd.DataFrame:
    """Four spectra with a known number of zeros, which come out as rounding errors."""
    frames = []
    for network, (widths, rank, nonzero, size) in enumerate(
        (("1-3-3-1", 1, 1, 15), ("3-2-3", 2, 8, 12), ("3-4-3", 3, 9, 24), ("2-2-2-2", 2, 4, 12))
    ):
        place = np.arange(1, size + 1)
        value = np.where(place <= nonzero, 0.8 ** (place - 1.0), 0.0)
        rounding = 1e-16 * np.linspace(1, -1, size)
        frames.append(
            pd.DataFrame({"place": place, "closed_form": value, "dense": value + rounding}).assign(
                network=network,
                widths=widths,
                rank=rank,
                zeros=size - nonzero,
                predicted_zeros=size - nonzero,
            )
        )
    return pd.concat(frames, ignore_index=True).assign(experiment="made", minimizer=0)
