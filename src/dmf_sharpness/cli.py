"""What every stage script does alike: paths on the command line, its log, progress, errors of one line.

A stage's log says what it read, what it wrote and the seed (as it happens), and at the end with which
versions, in what time and with how much memory.
"""

from __future__ import annotations

import argparse
import errno
import io
import itertools
import logging
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dmf_sharpness.artifacts import lineage
from dmf_sharpness.artifacts.headers import ArtifactError
from dmf_sharpness.errors import UserError

if TYPE_CHECKING:
    from dmf_sharpness.experiments.experiment import Experiment

log = logging.getLogger("dmf_sharpness")

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0

_UNWRITTEN = "standard output: expected to be able to write it, got: {}"

# Ctrl-C ends a script at once, and in silence: files are written under another name and renamed, so
# there is nothing to tidy up, and Python would first finish a call into compiled code.
signal.signal(signal.SIGINT, signal.SIG_DFL)


def parser(description: str | None, **positionals: str) -> argparse.ArgumentParser:
    """A parser of positional paths, ``name=help`` in order; an experiment may be drawn anew."""
    result = argparse.ArgumentParser(description=description)
    for name, text in positionals.items():
        result.add_argument(name, metavar=name.upper(), type=Path, help=text)
    if "experiment" in positionals:
        result.add_argument(
            "--replica",
            type=positive_integer,
            default=1,
            metavar="N",
            help="from 2 on: the experiment drawn anew, from other seeds",
        )
    return result


def positive_integer(text: str) -> int:
    """An option's value of 1 or more; the name is part of the parser's message."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def positive_number(text: str) -> float:
    """An option's value above 0, finite."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


def origin(detail: str = "", options: object = None) -> dict[str, Any]:
    """The lineage of what the running script is about to write (:mod:`dmf_sharpness.artifacts.lineage`)."""
    return lineage.lineage_of_this_run(Path(sys.argv[0]), detail, options)


def header(experiment: Experiment, detail: str = "") -> dict[str, Any]:
    """The header of a table or tensor file: experiment, lineage, and the engine that computed it.

    Args:
        experiment: Of which the artifact is.
        detail: The study, where the script runs one of several.
    """
    from dmf_sharpness.compiled.lanes import (
        engine_name,  # with torch, which scripts that draw do without
    )

    return {**experiment.identity, **origin(detail), "engine": engine_name()}


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """The same items, with a bar on a terminal and now and then a line in a log."""
    if sys.stderr is not None and sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=what, leave=False)
        return
    said = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - said > SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            log.info("%s: %d of %d", what, done, total)
        yield item


def said_by(command: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What a command of Python's says, on both outputs, whatever the locale; it may fail.

    Args:
        command: The program and its arguments.
        folder: Where to run it; None for here.
    """
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """The line of what Snakemake said that tells what is wrong: the one after the kind of error."""
    words = f"{done.stdout}\n{done.stderr}".splitlines()
    lines = [line.strip() for line in words if line.strip()]
    for kind, line in itertools.pairwise(lines):
        if kind.startswith("WorkflowError"):
            return line
    return lines[-1].removeprefix("Error: ") if lines else f"ended with status {done.returncode}"


def run(main: Callable[[], int | None]) -> None:
    """Run a stage; what a user can put right is one line on standard error and exit status 2."""
    _write_any_character()
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)  # only our own: font subsetting, say, has a lot to tell
    began = time.perf_counter()
    try:
        # The project is the folder of a tool's folder, and one further up for a stage's script.
        for folder in Path(sys.argv[0]).absolute().parents[1:3]:
            lineage.check_imported(folder)
        status = main()
        _flush_output()
    except ArtifactError as error:
        if error.in_workflow:
            lineage.set_back(error.path)  # so that the same command makes it anew
        _end(str(error))
    except UserError as error:
        _end(str(error))
    except UnicodeEncodeError as error:
        # Python decodes file names as the locale has them; tables and texts hold UTF-8 alone.
        given = error.object[error.start : error.end]
        _end(f"expected file names in UTF-8, got {given!r}; if they are, run it with PYTHONUTF8=1")
    except OSError as error:
        unwritten = error.filename is None and error.errno in (errno.ENOSPC, errno.EPIPE)
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _end(_UNWRITTEN.format(error.strerror) if unwritten else named)
    except MemoryError:
        _end("out of memory: give the job more of it, or the experiment fewer minimizers or starts")
    except RuntimeError as error:
        if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        _end("out of memory: give the job more of it, or the experiment fewer minimizers or starts")
    log.info("%s", _account(time.perf_counter() - began))
    sys.exit(status)


def _write_any_character() -> None:
    """Have standard output and error take whatever is written, in every locale.

    Files and pipes are UTF-8, as all files of the project; a terminal shows a question mark for what it
    does not have.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _flush_output() -> None:
    """Bring standard output to its file now: at its end Python would not say which one is the matter.

    Raises:
        UserError: The disk is full, or the reader of a pipe has gone.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # What could not be written is given up, or Python tries again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError(_UNWRITTEN.format(error.strerror)) from None


def _end(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    with suppress(UserError):
        _flush_output()
    sys.exit(2)


def _account(seconds: float) -> str:
    """Time, peak memory and versions, in one line."""
    from dmf_sharpness.artifacts.provenance import (
        versions,  # with pandas, for which --help would have to wait
    )

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes; bytes on macOS
    megabytes = peak / (1e6 if sys.platform == "darwin" else 1e3)
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"{seconds:.1f} s, peak memory {megabytes:.0f} MB; {used}"
