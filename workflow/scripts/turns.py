"""Solvers that take turns, each in a process of its own, and how long they take."""

import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing import TimeoutError, get_context
from multiprocessing.pool import Pool
from typing import Any, NamedTuple

Solver = Callable[[], dict[str, Any]]
TURN = 0.1
"""Seconds for which a solver runs at least, again and again, when it is its turn."""
REST = 0.1
"""Seconds between turns: threads of a solver that has finished wait busily for a while."""


class Run(NamedTuple):
    """Wall-clock seconds, and processor seconds of all threads."""

    seconds: float
    cpu_seconds: float


def in_turn(
    solvers: Mapping[str, Solver], repeats: int, budget: float, limit: float
) -> dict[str, dict[str, Any]]:
    """What the solvers return, and the medians of their seconds, one after the other in each round.

    So a machine that is busy for a while slows all of them; the processor seconds, of all threads, show
    it. Processes of their own keep caches, threads and settings of one from another. The first turn of
    a solver is not counted, if it is short: it imports and compiles.

    Args:
        solvers: Functions that a new process can import, with what they return.
        repeats: Turns after the first.
        budget: Seconds of runs after which a solver takes no more turns.
        limit: Seconds after which a run is stopped; they are a lower bound of its time then.

    Returns:
        For each solver ``status`` (ok, absent or stopped), ``seconds``, ``cpu_seconds``,
        ``repeats`` and what it returned.
    """
    pools = {name: get_context("spawn").Pool(1) for name in solvers}
    results: dict[str, dict[str, Any]] = {}
    runs: dict[str, list[Run]] = {name: [] for name in solvers}
    try:
        # Starting a process and its imports is not of the tool.
        for started in [pools[name].apply_async(callable, (solvers[name],)) for name in solvers]:
            started.get()
        for turn in range(repeats + 1):
            for name, solve in solvers.items():
                known = results.get(name, {"status": "ok"})
                if known["status"] == "ok" and sum(run.seconds for run in runs[name]) <= budget:
                    time.sleep(REST)
                    results[name], new = _turn(pools[name], solve, limit)
                    runs[name] += [run for run in new if turn > 0 or run.seconds > budget / 4]
    finally:
        for pool in pools.values():
            pool.terminate()
    for name, measured in runs.items():
        if results[name]["status"] == "ok":
            results[name] |= {
                "seconds": statistics.median(run.seconds for run in measured),
                "cpu_seconds": statistics.median(run.cpu_seconds for run in measured),
                "repeats": len(measured),
            }
    return results


def _turn(pool: Pool, solve: Solver, limit: float) -> tuple[dict[str, Any], list[Run]]:
    try:
        found, runs = pool.apply_async(_timed, (solve,)).get(limit)
    except ImportError:
        return {"status": "absent"}, []
    except TimeoutError:
        pool.terminate()
        return {"status": "stopped", "seconds": limit, "repeats": 1}, []
    return {"status": "ok"} | found, runs


def _timed(solve: Solver) -> tuple[dict[str, Any], list[Run]]:
    """What it returned last, and seconds and processor seconds of each run."""
    runs: list[Run] = []
    end = time.perf_counter() + TURN
    while True:
        began, began_cpu = time.perf_counter(), time.process_time()
        found = solve()
        ended = time.perf_counter()
        runs.append(Run(ended - began, time.process_time() - began_cpu))
        if ended > end:
            return found, runs
