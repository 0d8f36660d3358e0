"""Tests under a mutant, in a forked process, and the record of which test calls which function."""

import contextlib
import hashlib
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

import hypothesis.configuration
import pytest

from tests.mutants.replaced import PACKAGE, ROOT

# Imported once, before the forks; the package itself is imported in each of them.
PRELOADED = (
    "torch", "torch.func", "numpy", "scipy.sparse.linalg", "scipy.optimize", "pandas", "pyarrow.parquet",
    "safetensors.torch", "jsonschema", "yaml", "hypothesis.strategies", "mpmath", "sklearn.datasets",
)  # fmt: skip
OPTIONS = (
    "-q", "-x", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist",
    "-m", "not pipeline and not peers and not slurm", "--hypothesis-seed=0",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",  # hypothesis and others are imported before the forks
)  # fmt: skip


@dataclass(frozen=True)
class Test:
    """A test as it ran without a mutant: its processor time, and the functions that it called."""

    name: str
    seconds: float
    calls: frozenset[str]

    def calls_into(self, file, name):
        """Whether it calls a function of a file of the package; without a name, any function."""
        if name:
            return f"{file}:{name}" in self.calls
        return any(call.startswith(f"{file}:") for call in self.calls)


def forked(work, seconds=None):
    """The exit code of a function in a process of its own; None if it took longer than allowed.

    ``seconds`` are those of the processor; the wall clock may show five times as many.
    """
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            code = 99
            try:
                os.setsid()
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                if seconds is not None:
                    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
                    signal.alarm(5 * int(seconds) + 20)
                null = os.open(os.devnull, os.O_RDWR)
                for stream in (0, 1, 2):
                    os.dup2(null, stream)
                tempfile.tempdir = folder
                hypothesis.configuration.set_hypothesis_home_dir(folder)
                os.chdir(ROOT)
                code = work()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(int(code))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it started itself
    return None if code in (-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL) else code


def survives(tests, seconds, prepare):
    """Whether all tests pass after ``prepare()``; a process that ends or hangs does not."""

    def work():
        prepare()
        return pytest.main([*OPTIONS, *tests])

    return forked(work, seconds) == 0


def recorded(files, cache):
    """The tests of some files, with what they call; from the cache where a file's text is the same."""
    known = json.loads(cache.read_text()) if cache.exists() else {}
    for file in files:
        stamp = hashlib.sha256((ROOT / file).read_bytes()).hexdigest()
        if known.get(file, {}).get("stamp") == stamp:
            continue
        answer = Path(tempfile.mkdtemp()) / "answer"

        def work(file=file, answer=answer):
            recorder = Recorder()
            code = pytest.main([*OPTIONS, "--maxfail=1000", file], plugins=[recorder])
            passed = {
                name: test for name, test in recorder.tests.items() if name not in recorder.failed
            }
            answer.write_text(json.dumps([passed, sorted(recorder.failed)]))
            return code

        if forked(work) is None or not answer.exists():
            raise SystemExit(f"{file}: expected tests that run without a mutant")
        passed, failed = json.loads(answer.read_text())
        known[file] = {"stamp": stamp, "tests": passed}
        cache.write_text(json.dumps(known))
        taken = sum(seconds for seconds, _ in passed.values())
        print(f"{file}: {len(passed)} tests, {taken:.0f} s", *failed, flush=True)
    return [
        Test(name, seconds, frozenset(calls))
        for file in files
        for name, (seconds, calls) in known[file]["tests"].items()
    ]


class Recorder:
    """A plugin of pytest that notes the functions of the package that each test calls."""

    def __init__(self):
        self.tests = {}
        self.failed = set()

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.add(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        called, prefix = set(), f"{PACKAGE}/"

        def trace(frame, event, argument):
            code = frame.f_code
            if code.co_filename.startswith(prefix):
                called.add((code.co_filename, code.co_qualname))

        before = sum(os.times()[:4])
        sys.settrace(trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            names = {
                f"{name.removeprefix(prefix)}:{function(qualified)}" for name, qualified in called
            }
            self.tests[item.nodeid] = sum(os.times()[:4]) - before, sorted(names)


def function(qualified):
    """The name of the function that a code object belongs to: ``f`` for ``f.<locals>.<lambda>``."""
    return ".".join(part for part in qualified.split(".") if not part.startswith("<"))
