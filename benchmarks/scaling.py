"""Time and memory of one sharpness against width and depth, for each method and for other tools.

Times are medians of runs in turn. Memory and the time of the certificate are measured apart from them, each
in a process of its own, so that neither counts in the time.
"""

import math
import resource
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from time import perf_counter
from typing import Any

from dmf_sharpness import cli
from dmf_sharpness.artifacts.store import write_table, write_text
from dmf_sharpness.compiled.lanes import available
from dmf_sharpness.figures.benchmark_scaling import slopes
from dmf_sharpness.figures.benchmark_tables import OURS
from dmf_sharpness.hessian.certificate import (
    eigenmatrix_residual,
    low_rank_residual,
    sufficient_defect,
)
from dmf_sharpness.hessian.crossovers import DENSE_ORDER, suits_compiled
from dmf_sharpness.hessian.eigenmatrix import ThinEigenmatrix
from dmf_sharpness.hessian.result import Sharpness
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.network.chain import chain
from peers import LARGEST_DENSE, PEERS
from sharpness import count, problem
from turns import fresh_processes, in_turn

import pandas as pd
import psutil
import torch
from torch import Tensor

TOLERANCE = 1e-10
FAMILIES: dict[str, tuple[Sequence[int], Callable[[int], tuple[int, ...]]]] = {
    "square, depth 4": ((8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096), lambda n: (n,) * 5),
    "ends of 10, depth 4": (
        (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
        lambda n: (10, n, n, n, 10),
    ),
    "width 64": ((2, 3, 4, 6, 8, 12, 16, 24, 32), lambda n: (64,) * (n + 1)),
}
"""The sizes of each family, widths or depths, and the widths of its networks."""
METHODS = ("auto", "compiled", "dense", "lanczos", "low-rank")
"""Ours that are timed; ``auto`` on one thread, too."""
LARGEST_ORDER = 4096
"""The dense eigenproblem is tried up to this ``d_0 d_L``."""
WARM = (4, 4, 4, 4)
"""A network of these widths is solved first, so that imports do not count as memory."""
WHOLE = "compiled"
"""The certificate is a part of the call of this method, and cannot be timed apart."""
CERTIFIED = 5
"""The time of the certificate is the median of this number of runs."""


def solve_ours(widths: tuple[int, ...], method: Any, threads: int) -> dict[str, Any]:
    """The sharpness by one of the methods."""
    torch.set_num_threads(threads)
    return {"method": sharpness(problem(widths), method=method).method}


def solve_peer(widths: tuple[int, ...], tool: str) -> dict[str, Any]:
    """The sharpness by another tool."""
    PEERS[tool](problem(widths), TOLERANCE, None)
    return {"method": tool}


def memory_of(solve: partial[Any]) -> dict[str, float]:
    """The growth of this process while it solves, in bytes, and the time of the certificate.

    Args:
        solve: :func:`solve_ours` or :func:`solve_peer` with all its arguments.
    """
    widths, *rest = solve.args
    solve.func(WARM, *rest)
    factors = problem(widths)
    before = psutil.Process().memory_info().rss
    method = solve()["method"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"memory": float(max(0, peak - before))}
    if solve.func is solve_ours and method != WHOLE:
        result, times = sharpness(factors, method=rest[0]), []
        for _ in range(CERTIFIED):
            began = perf_counter()
            certify(factors, result)
            times.append(perf_counter() - began)
        found["certificate"] = statistics.median(times)
    return found


def alone(solve: partial[Any]) -> dict[str, float]:
    """:func:`memory_of` in a new process; nothing if that dies, as for lack of memory."""
    with ProcessPoolExecutor(1, fresh_processes()) as pool:
        try:
            return pool.submit(memory_of, solve).result()
        except BrokenProcessPool:
            return {}


def certify(factors: list[Tensor], found: Sharpness) -> float:
    """The residual of a result once more, from nothing but the factors and the eigenpair."""
    matrix, value = found._eigenmatrix, float(found.value)
    if isinstance(matrix, ThinEigenmatrix):
        defect = sufficient_defect(chain(factors), matrix.P, matrix.Q, value, found.tolerance)
        return low_rank_residual(factors, matrix.P, matrix.Q, value, defect=defect)
    return eigenmatrix_residual(factors, found.eigenmatrix, value)


def solvers(widths: tuple[int, ...], tools: Sequence[str]) -> dict[str, partial[Any]]:
    """Solvers that can be tried on a network: our methods, ``auto`` on one thread, the tools."""
    threads = torch.get_num_threads()
    order = widths[0] * widths[-1]
    fits = {
        "compiled": available() and suits_compiled(widths),
        "dense": order <= LARGEST_ORDER,
        "low-rank": order > DENSE_ORDER,
    }
    found = {
        f"{OURS}: {method}": partial(solve_ours, widths, method, threads)
        for method in METHODS
        if fits.get(method, True)
    }
    found[f"{OURS}: auto, one thread"] = partial(solve_ours, widths, "auto", 1)
    for tool in tools:
        if tool != "dense autograd Hessian" or count(widths) <= LARGEST_DENSE:
            found[tool] = partial(solve_peer, widths, tool)
    return found


def grow(family: str, tools: Sequence[str], longest: float, repeats: int) -> list[dict[str, Any]]:
    """Rows of one family: each solver goes on to larger sizes until one takes longer than ``longest``."""
    sizes, shape = FAMILIES[family]
    stopped: set[str] = set()
    rows = []
    for size in sizes:
        widths = shape(size)
        tried = {n: s for n, s in solvers(widths, tools).items() if n not in stopped}
        for name, result in in_turn(tried, repeats, longest, 3 * longest).items():
            seconds = result.get("seconds", math.nan)
            if result["status"] != "ok" or seconds > longest:
                stopped.add(name)
            if result["status"] == "ok":
                result |= alone(tried[name])
            parameters = count(widths)
            rows.append(
                {"family": family, "size": size, "parameters": parameters, "tool": name} | result
            )
            cli.log.info("%s, %d, %s: %s %.3g s", family, size, name, result["status"], seconds)
        if stopped >= set(tried):
            break
    return rows


def main() -> None:
    """Write OUTPUT and, beside it, the slopes as Markdown."""
    parser = cli.parser(
        __doc__, output="where to write the table (Parquet); NAME.md goes beside it"
    )
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--tools", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--repeats", type=cli.positive_integer, default=3)
    parser.add_argument(
        "--longest",
        type=cli.positive_number,
        default=10.0,
        help="seconds after which a tool gets no larger network",
    )
    args = parser.parse_args()
    columns = ["family", "size", "parameters", "tool", "method", "status", "seconds"]
    columns += ["cpu_seconds", "repeats", "memory", "certificate"]
    header = {"experiment": "scaling", "tolerance": TOLERANCE, "threads": torch.get_num_threads()}
    rows: list[dict[str, Any]] = []
    for family in args.families:
        rows += grow(family, args.tools, args.longest, args.repeats)
        table = pd.DataFrame(rows).reindex(columns=columns)
        # After each family, so that an interrupted run keeps the others.
        write_table(args.output, "benchmark", table, header)
        write_text(args.output.with_suffix(".md"), slopes(table))


if __name__ == "__main__":
    cli.run(main)
