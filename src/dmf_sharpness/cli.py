"""Common parts of all stage scripts: command line, log, progress bar, and errors of one line.

The log of a stage names each file as it is read or written, and the seed. Its last line gives the run
time, the processor time, the peak memory and the versions of the packages.
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
from dmf_sharpness.artifacts.provenance import Account, versions
from dmf_sharpness.errors import UserError

if TYPE_CHECKING:
    from dmf_sharpness.experiments.experiment import Experiment

log = logging.getLogger("dmf_sharpness")

Item = TypeVar("Item")

_BEGAN = time.perf_counter()
"""About the start of the script, which imports this module first."""
SECONDS_BETWEEN_LINES = 10.0
"""A log gets a line about the progress at most this often."""

_UNWRITTEN = "standard output: expected to be able to write it, got: {}"

# Ctrl-C ends a script at once and without a message. Nothing needs to be cleaned up, because files are
# written under another name and then renamed. Python's own handler would first wait for compiled code.
signal.signal(signal.SIGINT, signal.SIG_DFL)


def parser(description: str | None, **positionals: str) -> argparse.ArgumentParser:
    """A parser for positional paths, given as ``name=help`` in order.

    If one of them is ``experiment``, the parser has the option ``--replica`` too.
    """
    result = argparse.ArgumentParser(description=description)
    for name, text in positionals.items():
        result.add_argument(name, metavar=name.upper(), type=Path, help=text)
    if "experiment" in positionals:
        result.add_argument(
            "--replica",
            type=positive_integer,
            default=1,
            metavar="N",
            help="the number of the replica; from 2 on the experiment is drawn with other seeds",
        )
    return result


def positive_integer(text: str) -> int:
    """The value of an option, an integer of at least 1; argparse shows this function's name in its error."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def positive_number(text: str) -> float:
    """The value of an option, a finite number above 0."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


def origin(detail: str = "", options: object = None) -> dict[str, Any]:
    """The lineage of the file that this script will write next (:mod:`dmf_sharpness.artifacts.lineage`)."""
    return lineage.lineage_of_this_run(Path(sys.argv[0]), detail, options)


def header(experiment: Experiment, detail: str = "") -> dict[str, Any]:
    """The header of a table or tensor file: experiment, lineage, and the engine that computed it.

    Args:
        experiment: The experiment that the artifact belongs to.
        detail: The name of the study, if the script runs one of several.
    """
    # Imported here, because it imports PyTorch, which the scripts that draw do not need.
    from dmf_sharpness.compiled.lanes import engine_name

    return {**experiment.identity, **origin(detail), "engine": engine_name()}


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """The same items; shows a progress bar on a terminal, and writes a line now and then into a log."""
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
    """The output of a command that runs Python, in any locale; a failure raises nothing.

    Args:
        command: The program and its arguments.
        folder: The working directory of the command; None means the present one.
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
    """The line of Snakemake's output that names the fault: the one after the kind of error."""
    words = f"{done.stdout}\n{done.stderr}".splitlines()
    lines = [line.strip() for line in words if line.strip()]
    for kind, line in itertools.pairwise(lines):
        if kind.startswith("WorkflowError"):
            return line
    return lines[-1].removeprefix("Error: ") if lines else f"ended with status {done.returncode}"


def run(main: Callable[[], int | None]) -> None:
    """Run a stage; an error that the user can correct becomes one line and exit status 2."""
    _write_any_character()
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)  # our own logger alone, because other packages log too much
    try:
        # A tool lies one folder below the project, and the script of a stage two folders below it.
        for folder in Path(sys.argv[0]).absolute().parents[1:3]:
            lineage.check_imported(folder)
        status = main()
        _flush_output()
    except ArtifactError as error:
        if error.in_workflow:
            lineage.set_back(error.path)  # so that the same command makes the file again
        _end(str(error))
    except UserError as error:
        _end(str(error))
    except UnicodeEncodeError as error:
        # Python decodes file names by the locale's encoding, but tables and texts must be UTF-8.
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
    log.info("%s", _account())
    sys.exit(status)


def _write_any_character() -> None:
    """Let standard output and standard error accept every character, in any locale.

    Files and pipes get UTF-8, like all files of the project. A terminal shows a question mark in place of
    a character that it cannot display.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _flush_output() -> None:
    """Write out the buffer of standard output now, while an error can still be reported in one line.

    Raises:
        UserError: The disk is full, or the reader of a pipe has gone.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # Discard the text that could not be written; otherwise Python would try again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError(_UNWRITTEN.format(error.strerror)) from None


def _end(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    with suppress(UserError):
        _flush_output()
    sys.exit(2)


def _account() -> str:
    """One line with the times, the peak memory and the versions."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes; bytes on macOS
    account = Account(
        seconds=time.perf_counter() - _BEGAN,
        processor_seconds=time.process_time(),
        memory_mb=peak / (1e6 if sys.platform == "darwin" else 1e3),
    )
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"{account}; {used}"
