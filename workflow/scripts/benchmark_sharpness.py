"""Time the engine beside other tools: same problems, same tolerance, one run on one machine."""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness import cli
from dmf_sharpness.artifacts import write_table, write_text
from dmf_sharpness.sharpness import Sharpness, sharpness
from sharpness_peers import LARGEST_DENSE, PEERS

TOLERANCE = 1e-10
PROBLEMS: dict[str, tuple[tuple[int, ...], ...]] = {
    "small": ((10, 10, 10, 10), (4, 20, 20, 4), (10, 50, 50, 10), (64, 256, 256, 10)),
    "narrow": ((64, 1024, 1024, 1024, 10), (784, 512, 512, 512, 10)),
    "square": ((64,) * 4, (256,) * 5, (512,) * 4),
    "wide": ((1024,) * 5,),
}
Factors = list[Tensor]


def problem(widths: Sequence[int]) -> Factors:
    """Gaussian factors: a minimizer of their own product."""
    generator = torch.Generator().manual_seed(7)
    return [
        torch.randn(m, n, dtype=torch.float64, generator=generator) / n**0.5
        for n, m in pairwise(widths)
    ]


def timed(solve: Callable[[], float], repeats: int, budget: float) -> tuple[float, float, int]:
    """The value, the median of the seconds, and how many repeats the budget allowed.

    Short runs are warmed up once, so that imports and first calls are not counted.
    """
    begin = time.perf_counter()
    value = solve()
    seconds = [time.perf_counter() - begin]
    if seconds[0] < budget / 4:
        seconds = []
        while len(seconds) < repeats and sum(seconds) < budget:
            begin = time.perf_counter()
            value = solve()
            seconds.append(time.perf_counter() - begin)
    return value, statistics.median(seconds), len(seconds)


def compare(
    widths: tuple[int, ...], tools: Sequence[str], repeats: int, budget: float
) -> pd.DataFrame:
    """One row per tool; errors are relative to whole-matrix Lanczos at rounding level."""
    factors = problem(widths)
    exact = sharpness(factors, method="lanczos", tolerance=1e-13).value
    parameters = sum(W.numel() for W in factors)
    base = {"widths": "-".join(map(str, widths)), "parameters": parameters}
    results: list[Sharpness] = []

    def ours() -> float:
        results.append(sharpness(factors))
        assert isinstance(results[-1].value, float)
        return results[-1].value

    rows = []
    for tool in ["dmf_sharpness", *tools]:
        entry = base | {"tool": tool, "seconds": None, "error": None, "repeats": 0, "status": "ok"}
        if tool == "dense autograd Hessian" and parameters > LARGEST_DENSE:
            entry["status"] = "too large"
            rows.append(entry)
            continue
        peer = PEERS.get(tool)
        solve = ours if peer is None else lambda peer=peer: peer(factors, TOLERANCE)
        try:
            value, seconds, count = timed(solve, repeats, budget)
        except ImportError:
            entry["status"] = "absent"
        else:
            error = abs(value / exact - 1)
            entry |= {"seconds": seconds, "error": error, "repeats": count}
        rows.append(entry)
        measured = {key: entry[key] for key in ("seconds", "error", "status")}
        cli.log.info("%s %s: %s", entry["widths"], tool, measured)
    table = pd.DataFrame(rows)
    table["method"] = [results[-1].method] + [""] * (len(table) - 1)
    table["residual"] = [torch.as_tensor(results[-1].residual).item()] + [float("nan")] * (
        len(table) - 1
    )
    table["ratio"] = table.seconds.astype(float) / float(table.seconds[0])
    return table


def batch_seconds(count: int, repeats: int) -> float:
    """Seconds per minimizer for a stack of 10 × 10 minimizers of depth 3."""
    generator = torch.Generator().manual_seed(3)
    shape = (count, 10, 10)
    stack = [
        torch.randn(shape, dtype=torch.float64, generator=generator) / 10**0.5 for _ in range(3)
    ]
    _, seconds, _ = timed(lambda: float(torch.as_tensor(sharpness(stack).value).sum()), repeats, 60)
    return seconds / count


def to_markdown(table: pd.DataFrame) -> str:
    """Times, their ratio to ours, and errors."""
    lines = [
        "| widths | parameters | tool | time | ratio | relative error |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for row in table.to_dict("records"):
        measured = row["status"] == "ok"
        seconds = f"{row['seconds'] * 1e3:.3g} ms" if measured else row["status"]
        ratio = f"{row['ratio']:.3g}" if measured else "–"
        error = f"{row['error']:.1e}" if measured else "–"
        name = f"{row['tool']} ({row['method']})" if row["method"] else row["tool"]
        cells = [row["widths"], f"{row['parameters']:,}", name, seconds, ratio, error]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write OUTPUT and, beside it, the same as Markdown."""
    parser = cli.parser(
        __doc__, output="where to write the table (Parquet); NAME.md goes beside it"
    )
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--tools", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of repeats per tool")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    chosen = [widths for name in args.problems for widths in PROBLEMS[name]]
    tables = [compare(widths, args.tools, args.repeats, args.budget) for widths in chosen]
    table = pd.concat(tables, ignore_index=True)
    if "small" in args.problems:
        seconds = batch_seconds(1000, args.repeats)
        row = {"widths": "1,000 × 10-10-10-10", "parameters": 300, "tool": "dmf_sharpness"}
        row |= {"seconds": seconds, "method": "batched", "status": "ok", "ratio": 1.0, "error": 0.0}
        table.loc[len(table)] = pd.Series(row)
    write_table(
        args.output,
        "benchmark",
        table,
        {"experiment": "benchmark", "tolerance": TOLERANCE, "threads": args.threads},
    )
    write_text(args.output.with_suffix(".md"), to_markdown(table))


if __name__ == "__main__":
    cli.run(main)
