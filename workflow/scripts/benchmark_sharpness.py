"""Time the engine beside other tools: same problems, same tolerance, one run on one machine."""

import math
import resource
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

from dmf_sharpness import cli
from dmf_sharpness.artifacts import write_table, write_text
from dmf_sharpness.benchmark_tables import OURS, to_markdown, to_short_markdown
from dmf_sharpness.closed_forms import dense
from dmf_sharpness.sharpness import Sharpness, sharpness
from sharpness_peers import LARGEST_DENSE, PEERS

import pandas as pd
import torch
from torch import Tensor

TOLERANCE = 1e-10
PROBLEMS: dict[str, tuple[tuple[int, ...], ...]] = {
    "small": ((10, 10, 10, 10), (4, 20, 20, 4), (10, 50, 50, 10), (64, 256, 256, 10)),
    "narrow": ((64, 1024, 1024, 1024, 10), (784, 512, 512, 512, 10)),
    "square": ((64,) * 4, (256,) * 5, (512,) * 4),
    "wide": ((1024,) * 5,),
}
TURN = 0.1
"""Seconds for which a tool runs at least, when it is its turn."""
BATCH = 1000
BILLION = (8192,) * 16
BILLION_TOLERANCE = 1e-4
COLUMNS = [
    "widths", "parameters", "tool", "status", "seconds", "cpu_seconds", "repeats", "method",
    "residual", "error", "memory",
]  # fmt: skip
Factors = list[Tensor]


def problem(widths: Sequence[int]) -> Factors:
    """Gaussian factors: a minimizer of their own product."""
    generator = torch.Generator().manual_seed(7)
    return [
        torch.randn(m, n, dtype=torch.float64, generator=generator).div_(n**0.5)
        for n, m in pairwise(widths)
    ]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what runs for longer; it shows at its next Python instruction."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_turn(
    solvers: dict[str, Callable[[], float]], repeats: int, budget: float, limit: float
) -> dict[str, dict[str, Any]]:
    """Values and medians of seconds, the tools one after the other in each round.

    So a machine that is busy for a while slows all of them; the processor seconds, of all threads,
    show it. In a turn a short solver runs again and again, for a tenth of a second. The first turn of
    a solver is not counted, if it is short: it imports and compiles. A tool takes no
    more turns when its budget is spent; one that exceeds the limit is stopped, and its time is a
    lower bound.
    """
    results: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = {tool: [] for tool in solvers}
    cpu: dict[str, list[float]] = {tool: [] for tool in solvers}
    for turn in range(repeats + 1):
        for tool, solve in solvers.items():
            known = results.get(tool)
            if known and (known["status"] != "ok" or sum(times[tool]) > budget):
                continue
            turn_began = time.perf_counter()
            while True:
                begin, begin_cpu = time.perf_counter(), time.process_time()
                try:
                    with time_limit(limit):
                        value = solve()
                except ImportError:
                    results[tool] = {"status": "absent"}
                    break
                except TimeoutError:
                    results[tool] = {"status": "stopped", "seconds": limit, "repeats": 1}
                    break
                seconds = time.perf_counter() - begin
                results[tool] = {"status": "ok", "value": value}
                if turn > 0 or seconds > budget / 4:
                    times[tool].append(seconds)
                    cpu[tool].append(time.process_time() - begin_cpu)
                if time.perf_counter() - turn_began > TURN:
                    break
    for tool, result in results.items():
        if result["status"] == "ok":
            result |= {
                "seconds": statistics.median(times[tool]),
                "cpu_seconds": statistics.median(cpu[tool]),
                "repeats": len(times[tool]),
            }
    return results


def compare(
    widths: tuple[int, ...], tools: Sequence[str], repeats: int, budget: float, limit: float
) -> pd.DataFrame:
    """One row per tool; errors are relative to whole-matrix Lanczos at rounding level."""
    factors = problem(widths)
    exact = sharpness(factors, method="lanczos", tolerance=1e-13).value
    parameters = sum(W.numel() for W in factors)
    last: list[Sharpness] = []

    def ours() -> float:
        last[:] = [sharpness(factors)]
        assert isinstance(last[0].value, float)
        return last[0].value

    solvers: dict[str, Callable[[], float]] = {OURS: ours}
    for tool in tools:
        if tool != "dense autograd Hessian" or parameters <= LARGEST_DENSE:
            solvers[tool] = lambda peer=PEERS[tool]: peer(factors, TOLERANCE)  # type: ignore[misc]
    measured = in_turn(solvers, repeats, budget, limit)
    rows = []
    for tool in [OURS, *tools]:
        result = measured.get(tool, {"status": "too large"})
        value = result.pop("value", None)
        row = {"widths": "-".join(map(str, widths)), "parameters": parameters, "tool": tool}
        row |= {
            "seconds": math.nan,
            "cpu_seconds": math.nan,
            "repeats": 0,
            "method": "",
            "residual": math.nan,
        } | result
        row["error"] = math.nan if value is None else abs(value / exact - 1)
        if tool == OURS:
            row |= {"method": last[0].method, "residual": last[0].residual}
        rows.append(row)
        cli.log.info("%s %s: %s %.3g s", row["widths"], tool, row["status"], row["seconds"])
    return pd.DataFrame(rows)


def batch(repeats: int) -> dict[str, Any]:
    """A stack of 10 × 10 minimizers of depth 3; seconds are for one of them."""
    generator = torch.Generator().manual_seed(3)
    shape = (BATCH, 10, 10)
    stack = [
        torch.randn(shape, dtype=torch.float64, generator=generator) / 10**0.5 for _ in range(3)
    ]
    last: list[Sharpness] = []

    def ours() -> float:
        last[:] = [sharpness(stack)]
        return 0.0

    measured = in_turn({OURS: ours}, repeats, 60, 300)[OURS]
    value, residual = (torch.as_tensor(x) for x in (last[0].value, last[0].residual))
    return {
        "widths": f"{BATCH:,} × 10-10-10-10, each",
        "parameters": 300,
        "tool": OURS,
        "status": "ok",
        "seconds": measured["seconds"] / BATCH,
        "cpu_seconds": measured["cpu_seconds"] / BATCH,
        "repeats": measured["repeats"],
        "method": last[0].method,
        "residual": float(residual.max()),
        "error": float((value / dense(stack, None).value - 1).abs().max()),
    }


def billion(threads: int, widths: Sequence[int] = BILLION) -> dict[str, Any]:
    """One network of a billion parameters, in a process of its own, which shows its peak memory."""
    torch.set_num_threads(threads)
    factors = problem(widths)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    s = sharpness(factors, tolerance=BILLION_TOLERANCE)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    parameters = sum(W.numel() for W in factors)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "widths": f"{widths[0]}, {len(widths) - 1} layers",
        "parameters": parameters,
        "tool": OURS,
        "status": "ok" if s.converged else "not converged",
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "repeats": 1,
        "method": s.method,
        "residual": s.residual,
        "memory": peak / (8 * parameters),
    }


def main() -> None:
    """Write OUTPUT and, beside it, the same as Markdown."""
    parser = cli.parser(
        __doc__, output="where to write the table (Parquet); NAME.md goes beside it"
    )
    parser.add_argument("--problems", nargs="*", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--tools", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of repeats per tool")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one run of a tool")
    parser.add_argument(
        "--billion", action="store_true", help="a billion parameters too (minutes, 12 GB)"
    )
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tables = [
        compare(widths, args.tools, args.repeats, args.budget, args.limit)
        for name in args.problems
        for widths in PROBLEMS[name]
    ]
    if "small" in args.problems:
        tables.append(pd.DataFrame([batch(args.repeats)]))
    if args.billion:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            row = pool.submit(billion, args.threads).result()
        cli.log.info("a billion parameters: %.3g s", row["seconds"])
        tables.append(pd.DataFrame([row]))
    table = pd.concat(tables, ignore_index=True).reindex(columns=COLUMNS)
    ours = table[table.tool == OURS].set_index("widths").seconds
    table["ratio"] = table.seconds / table.widths.map(ours)
    header = {"experiment": "benchmark", "tolerance": TOLERANCE, "threads": args.threads}
    write_table(args.output, "benchmark", table, header)
    text = to_short_markdown(table) + "\n" + to_markdown(table)
    write_text(args.output.with_suffix(".md"), text)


if __name__ == "__main__":
    cli.run(main)
