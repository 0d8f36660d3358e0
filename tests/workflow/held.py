"""Runs of the pipeline that stop at a chosen moment of a chosen job, so that nothing depends on speed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

HOLD = Path(__file__).parent / "hold"
LIMIT = 1800.0
"""Seconds after which something that must come has not come: only a deadlock takes so long."""


def wait_until(reached: Callable[[], bool], what: str) -> None:
    """Wait for an event.

    Raises:
        TimeoutError: It does not come at all.
    """
    end = time.monotonic() + LIMIT
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)


@dataclass(frozen=True)
class Moment:
    """Where to stop: a word of the command line, and what then happens, see hold/sitecustomize.py."""

    word: str
    event: str

    def __str__(self) -> str:
        return f"{self.word}:{self.event}"


class HeldRun:
    """A run of Snakemake, with its own group of processes, whose words go into a file."""

    def __init__(
        self,
        project: Path,
        moment: Moment | None = None,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        # A folder of its own for each run: an orphan of an earlier one may not have looked yet.
        self.folder = Path(tempfile.mkdtemp(prefix=".held-", dir=project))
        variables = {**(environment or os.environ), "PYTHONPATH": str(project / "src")}
        if moment is not None:
            # A job that is held starts Python, whose first steps are moments too.
            variables |= {
                "DMF_FORKSERVER": "",
                "PYTHONPATH": os.pathsep.join([str(HOLD), str(project / "src")]),
                "BASH_ENV": str(HOLD / "shell.sh"),
                "DMF_HOLD": str(self.folder),
                "DMF_HOLD_AT": str(moment),
            }
        self._words = self.folder / "words"
        with self._words.open("wb") as words:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "snakemake", "--conda-not-block-search-path-envvars",
                    *arguments,
                ],
                cwd=project, env=variables, stdin=subprocess.DEVNULL, stdout=words,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def said(self) -> str:
        """All that the run and its jobs said on the terminal."""
        return self._words.read_text(encoding="utf-8", errors="replace")

    def reaches(self) -> bool:
        """Whether the moment comes; it does not in a run that ends before."""
        reached = self.folder / "reached"
        wait_until(lambda: reached.exists() or self.process.poll() is not None, "the moment")
        return reached.exists()

    def held_process(self) -> psutil.Process:
        """The process that is being held."""
        return psutil.Process(int((self.folder / "reached").read_text(encoding="ascii")))

    def let_go(self) -> None:
        """Have the held process go on, if it is still there."""
        (self.folder / "go").touch()

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it: to the pipeline and all its jobs."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self, jobs_too: bool) -> None:
        """SIGKILL to the pipeline, and to its jobs or not: orphans then go on writing."""
        family = psutil.Process(self.process.pid).children(recursive=True) if jobs_too else []
        self.process.kill()
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()

    def ended(self) -> int:
        """The exit status, once the run has ended."""
        return self.process.wait(timeout=LIMIT)


def has_ended(process: psutil.Process) -> bool:
    """Whether a process has ended; nobody may be there to collect an orphan's status."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
