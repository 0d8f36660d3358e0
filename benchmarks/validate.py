"""The engine against independent Hessians on thousands of minimizers of every kind, depth 2 to 20."""

from itertools import pairwise
from pathlib import Path

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import write_table
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.minimizers.basic import balanced_minimizer, flat_minimizer, random_minimizer
from dmf_sharpness.minimizers.targets import gaussian_matrix, matrix_with_singular_values
from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.oracles import dense_spectrum, lanczos_sharpness

import numpy as np
import pandas as pd
import torch
from torch import Tensor

DEPTHS = (2, 3, 4, 5, 7, 10, 14, 20)
KINDS = (
    "random",
    "flat",
    "balanced",
    "rank-deficient",
    "ill-conditioned target",
    "ill-conditioned",
)
CONDITION = 1e6
LARGE = (
    (20, 60, 60, 20),
    (10, 100, 100, 100, 10),
    (64, 70, 10),
    (40, 40, 40, 40),
    (1, 60, 60, 60, 1),
)
LARGEST_DENSE = 4000


def make(kind: str, widths: tuple[int, ...], rng: np.random.Generator) -> list[Tensor]:
    """Factors of one kind. Any factors are a minimizer of their own product."""
    d_L, d_0, hidden = widths[-1], widths[0], widths[1:-1]
    rank = min(widths)
    spread = 0.3 if len(hidden) < 10 else 0.1  # gauges of twenty layers multiply up
    if kind == "ill-conditioned":
        factors = [gaussian_matrix(m, n, rng) / n**0.5 for n, m in pairwise(widths)]
        i = int(rng.integers(len(factors)))
        m, n = factors[i].shape
        factors[i] = matrix_with_singular_values(m, n, _spread(min(m, n)), rng)
        return factors
    target = gaussian_matrix(d_L, d_0, rng)
    if kind == "rank-deficient":
        target = matrix_with_singular_values(
            d_L, d_0, rng.uniform(0.5, 3, max(1, rank - 2)).tolist(), rng
        )
        return random_minimizer(target, hidden, rng, spread)
    if kind == "ill-conditioned target":
        target = matrix_with_singular_values(d_L, d_0, _spread(rank), rng)
        return flat_minimizer(target, hidden, rng)
    if kind == "flat":
        return flat_minimizer(target, hidden, rng)
    if kind == "balanced":
        return balanced_minimizer(target, hidden, rng)
    return random_minimizer(target, hidden, rng, spread)


def _spread(count: int) -> list[float]:
    return np.geomspace(1, 1 / CONDITION, count).tolist() if count > 1 else [1.0]


def row(kind: str, factors: list[Tensor]) -> dict[str, object]:
    """The engine's value beside the oracle's."""
    s = sharpness(factors)
    parameters = sum(W.numel() for W in factors)
    target = end_to_end(factors)
    large = parameters > LARGEST_DENSE
    oracle = (
        lanczos_sharpness(factors, target) if large else float(dense_spectrum(factors, target)[0])
    )
    assert isinstance(s.value, float)
    return {
        "kind": kind,
        "widths": "-".join(map(str, [factors[0].shape[1], *(W.shape[0] for W in factors)])),
        "depth": len(factors),
        "parameters": parameters,
        "method": s.method,
        "oracle": "Lanczos" if large else "dense",
        "sharpness": s.value,
        "residual": s.residual,
        "converged": s.converged,
        "relative_difference": abs(s.value / oracle - 1),
    }


def main() -> None:
    """Write OUTPUT, a row per minimizer."""
    parser = cli.parser(__doc__, output="where to write the table (Parquet)")
    parser.add_argument(
        "--count", type=cli.positive_integer, default=45, help="minimizers per kind and depth"
    )
    args = parser.parse_args()
    rows = []
    for depth in DEPTHS:
        for k, kind in enumerate(KINDS):
            for n in range(args.count):
                rng = np.random.default_rng([depth, k, n])
                top = 7 if depth <= 5 else 5
                ends = rng.integers(1, top, 2)
                inner = rng.integers(int(ends.min()), top + 1, depth - 1)
                widths = (int(ends[0]), *map(int, inner), int(ends[1]))
                rows.append(row(kind, make(kind, widths, rng)))
        cli.log.info("depth %d: %d minimizers", depth, len(rows))
    for k, kind in enumerate(KINDS):
        for n, widths in enumerate(LARGE):
            rows.append(row(kind, make(kind, widths, np.random.default_rng([99, k, n]))))
    table = pd.DataFrame(rows)
    write_table(Path(args.output), "validation", table, {"minimizers": len(table)})
    summary = table.groupby(["oracle", "kind"]).relative_difference.agg(["count", "median", "max"])
    cli.log.info("%s\nworst %.2g", summary.to_string(), table.relative_difference.max())


if __name__ == "__main__":
    torch.set_num_threads(1)
    cli.run(main)
