"""The benchmarks: their tables, the turns of the tools, growing networks, and the history."""

import json
import os
import time
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmf_sharpness.artifacts.store import write_table
from dmf_sharpness.errors import UserError
from dmf_sharpness.figures.benchmark_scaling import slopes
from dmf_sharpness.figures.benchmark_tables import to_markdown, to_short_markdown

NAN = float("nan")
TABLE = pd.DataFrame(
    [
        ("8-8-8", 128, "dmf_sharpness", "ok", 2e-4, 5, "dense", 1e-15, 1e-16, NAN, 1.0),
        ("8-8-8", 128, "slow", "ok", 2.0, 3, "", NAN, 1e-12, NAN, 1e4),
        ("8-8-8", 128, "wrong", "ok", 1e-3, 5, "", NAN, 1e-3, NAN, 5.0),
        ("8-8-8", 128, "missing", "absent", NAN, 0, "", NAN, NAN, NAN, NAN),
        ("9-9-9", 162, "dmf_sharpness", "ok", 0.5, 5, "low-rank", 1e-6, 2e-12, NAN, 1.0),
        ("9-9-9", 162, "slow", "stopped", 300.0, 1, "", NAN, NAN, NAN, 600.0),
        ("huge", 10**9, "dmf_sharpness", "ok", 90.0, 1, "low-rank", 8e-5, NAN, 1.2, 1.0),
    ],
    columns=[
        "widths", "parameters", "tool", "status", "seconds", "repeats", "method", "residual",
        "error", "memory", "ratio",
    ],
).assign(cpu_seconds=NAN)  # fmt: skip


def test_the_short_table_compares_with_the_fastest_accurate_tool():
    lines = to_short_markdown(TABLE).splitlines()[2:]
    assert lines[0] == "| 8-8-8 | 128 | 200 µs | 1e-16 | slow, 2 s | 1e+04 |"
    assert lines[1] == "| 9-9-9 | 162 | 500 ms | 2e-12 | slow, > 300 s | > 600 |"
    assert lines[2] == (
        "| huge | 1,000,000,000 | 90 s, memory 1.20 × the factors | residual 8e-05 | – | – |"
    )


def test_the_long_table_has_every_tool():
    lines = to_markdown(TABLE).splitlines()[2:]
    assert len(lines) == len(TABLE)
    assert lines[2] == "| 8-8-8 | 128 | wrong | 5 | 1 ms | – | 5 | 1e-03 |"
    assert lines[3] == "| 8-8-8 | 128 | missing | 0 | absent | – | – | – |"
    assert lines[5] == "| 9-9-9 | 162 | slow | 1 | > 300 s | – | > 600 | – |"


@pytest.fixture
def benchmarks(monkeypatch):
    """The folder of the benchmarks, where new processes find them too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return import_module


def test_solvers_take_turns_and_are_stopped(benchmarks):
    in_turn = benchmarks("turns").in_turn
    found = in_turn(
        {
            "quick": partial(dict, value=2.0),
            "absent": partial(import_module, "no_such_module"),
            "killed": partial(os._exit, 9),
        },
        repeats=2,
        budget=3600,
        limit=3600,
    )
    quick = found["quick"]
    assert quick["status"] == "ok"
    assert quick["value"] == 2.0
    assert quick["repeats"] >= 2
    assert quick["seconds"] > 0
    assert found["absent"] == {"status": "absent"}
    # A tool that ran out of memory is not one that took long.
    assert found["killed"] == {"status": "died"}
    # Nothing that is still to come depends on how fast this machine is.
    found = in_turn({"endless": partial(time.sleep, 100_000)}, repeats=2, budget=1, limit=0.1)
    assert found["endless"] == {"status": "stopped", "seconds": 0.1, "repeats": 1}


def test_a_solver_that_fails_is_no_lower_bound(benchmarks):
    with pytest.raises(ZeroDivisionError):
        benchmarks("turns").in_turn({"broken": partial(divmod, 1, 0)}, 1, 60, 3600)


def test_a_comparison_a_batch_and_a_small_billion(benchmarks):
    benchmark = benchmarks("sharpness")
    table = benchmark.compare((4, 5, 4), ["autograd + eigsh"], 1, 10, 3600)
    assert table.status.tolist() == ["ok", "ok"]
    assert table.error.max() < 1e-12
    row = benchmark.batch(1)
    assert row["error"] < 1e-12
    assert row["residual"] < 1e-10
    row = benchmark.billion((100,) * 4)
    assert row["status"] == "ok"
    assert row["residual"] <= benchmark.BILLION_TOLERANCE
    assert row["memory"] > 1


def test_a_family_grows_until_it_takes_too_long(benchmarks, monkeypatch):
    scaling = benchmarks("scaling")
    monkeypatch.setitem(scaling.FAMILIES, "tiny", ((4, 8), lambda n: (n, n, n)))
    monkeypatch.setattr(scaling, "METHODS", ("auto",))
    # The other tests keep the other cores busy.
    monkeypatch.setattr(scaling.torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(scaling, "alone", lambda solve: {"memory": len(solve.args)})
    rows = scaling.grow("tiny", [], 3600, 1)
    assert [row["size"] for row in rows] == [4, 4, 8, 8]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["memory"] for row in rows} == {3}
    # With no time at all, no tool gets a second network.
    rows = scaling.grow("tiny", ["dense autograd Hessian"], 1e-9, 1)
    assert [row["size"] for row in rows] == [4, 4, 4]


def test_memory_and_certificate_are_measured_in_a_process_of_their_own(benchmarks):
    scaling = benchmarks("scaling")
    found = scaling.alone(partial(scaling.solve_ours, (4, 4, 4), "lanczos", 1))
    assert found["memory"] >= 0
    assert found["certificate"] > 0


def test_slopes_are_those_of_power_laws():
    size = 2.0 ** np.arange(5)
    line = {"family": "square", "tool": "dmf_sharpness: auto", "status": "ok", "size": size}
    line |= {"seconds": 1e-3 * size**3, "memory": 1e7 * size**2, "certificate": 1e-4 * size**3}
    late = {"tool": "slow", "seconds": np.where(size < 8, 1.0, np.nan), "certificate": np.nan}
    table = pd.concat([pd.DataFrame(line), pd.DataFrame(line | late)])
    ours, slow = slopes(table[table.seconds.notna()]).splitlines()[2:]
    assert ours == "| square | closed form, auto | 16 | 4.1 s | width^3.0 | width^2.0 | 10% |"
    assert slow == "| square | slow | 4 | 1 s | width^0.0 | width^2.0 | – |"


def test_a_history_warns_of_ratios_that_fell(benchmarks, tmp_path, capsys, monkeypatch):
    history = benchmarks("history")
    path, kept = tmp_path / "table.parquet", tmp_path / "history.jsonl"
    write_table(path, "benchmark", TABLE, {"experiment": "benchmark"})

    def ran(*options):
        monkeypatch.setattr("sys.argv", ["history", str(path), "--history", str(kept), *options])
        history.main()
        return capsys.readouterr().out

    assert "no ratio has fallen" in ran("--keep")
    assert "no ratio has fallen" in ran("--keep")
    first, again = (json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines())
    assert first == again
    assert first["ratios"]
    faster = {
        w: {tool: 1.3 * x for tool, x in ratios.items()} for w, ratios in first["ratios"].items()
    }
    kept.write_text(json.dumps(first | {"ratios": faster}) + "\n", encoding="utf-8")
    count = sum(map(len, faster.values()))
    assert ran().count("warning: ") == count
    kept.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="expected a JSON object in each line"):
        history.read_history(kept)
