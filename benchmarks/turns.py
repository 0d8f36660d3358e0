"""Solvers that take turns, each in a process of its own, and how long they take."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, NamedTuple

Solver = Callable[[], dict[str, Any]]
TURN = 0.1
"""Seconds for which a solver runs at least, again and again, when it is its turn."""
REST = 0.1
"""Seconds between turns: threads of a solver that has finished wait busily for a while."""
PRELOADED = ("torch", "pandas", "scipy.sparse.linalg", "sklearn.datasets")
"""Packages that all solvers and the measured package need. JAX, which no fork may copy, is not among them."""


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
        For each solver ``status`` (ok, absent, stopped, or died, as for lack of memory), ``seconds``,
        ``cpu_seconds``, ``repeats`` and what it returned.
    """
    workers = {name: _started(solve) for name, solve in solvers.items()}
    results: dict[str, dict[str, Any]] = {}
    runs: dict[str, list[Run]] = {name: [] for name in solvers}
    try:
        for worker in workers.values():
            worker.connection.recv()  # ready: starting a process is not of the tool
        for turn in range(repeats + 1):
            for name, worker in workers.items():
                known = results.get(name, {"status": "ok"})
                if known["status"] == "ok" and sum(run.seconds for run in runs[name]) <= budget:
                    time.sleep(REST)
                    results[name], new = _turn(worker, limit)
                    runs[name] += [run for run in new if turn > 0 or run.seconds > budget / 4]
    finally:
        for worker in workers.values():
            worker.process.kill()
            worker.process.join()
    for name, measured in runs.items():
        if results[name]["status"] == "ok":
            results[name] |= {
                "seconds": statistics.median(run.seconds for run in measured),
                "cpu_seconds": statistics.median(run.cpu_seconds for run in measured),
                "repeats": len(measured),
            }
    return results


def fresh_processes() -> ForkServerContext:
    """A context whose processes start in milliseconds, as copies of one that has imported packages only."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


@dataclass(frozen=True)
class _Worker:
    process: ForkServerProcess
    connection: Connection


def _started(solve: Solver) -> _Worker:
    context = fresh_processes()
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, solve), daemon=True)
    process.start()
    there.close()  # so that the end of the process is the end of the connection
    return _Worker(process, here)


def _serve(connection: Connection, solve: Solver) -> None:
    """Say that it is there, and then take a turn for every message."""
    connection.send("ready")
    while True:
        try:
            connection.recv()
        except EOFError:  # the parent has ended
            return
        try:
            connection.send(_timed(solve))
        except Exception as error:  # for the parent to raise
            connection.send(error)


def _turn(worker: _Worker, limit: float) -> tuple[dict[str, Any], list[Run]]:
    try:
        worker.connection.send("turn")
        if not worker.connection.poll(limit):
            worker.process.kill()
            return {"status": "stopped", "seconds": limit, "repeats": 1}, []
        answer = worker.connection.recv()
    except (EOFError, ConnectionError):
        return {"status": "died"}, []
    if isinstance(answer, ImportError):
        return {"status": "absent"}, []
    if isinstance(answer, Exception):
        raise answer
    found, runs = answer
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
