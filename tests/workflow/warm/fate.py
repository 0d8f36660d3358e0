"""What befalls a job: how it dies, at which moment, or what somebody edits in the meantime.

A test writes it into the file that ``DMF_FATE`` names; the first job that it is meant for takes it.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MOMENTS = ("start", "write", "written", "end")
"""Before the script begins; before and after the first of its files takes its name; after all."""
WAYS = ("kill", "memory", "disk", "error", "power")
"""SIGKILL; no memory left; no room on the disk; an exception; everything at once, Snakemake included."""


@contextmanager
def befalling(arguments: Sequence[str]) -> Iterator[None]:
    """Inside runs a script; at the moment that its fate names, that befalls it."""
    fate = _taken(arguments)
    if fate is None:
        yield
        return
    replace, times = Path.replace, [0]

    def watched(self: Path, target: Path) -> Path:
        times[0] += 1
        if times[0] == 1 and fate["moment"] == "write":
            strike(fate)
        result = replace(self, target)
        if times[0] == 1 and fate["moment"] == "written":
            strike(fate)
        return result

    if fate["moment"] == "start":
        strike(fate)
    Path.replace = watched  # type: ignore[method-assign]
    try:
        yield
    except SystemExit as ending:
        if not ending.code and fate["moment"] == "end":
            strike(fate)
        raise
    if fate["moment"] == "end":
        strike(fate)


def _taken(arguments: Sequence[str]) -> dict[str, str] | None:
    """The fate of this job, which it alone has; None if there is none."""
    path = Path(os.environ.get("DMF_FATE", ""))
    if not path.is_file():
        return None
    fate = json.loads(path.read_text())
    if Path(arguments[0]).stem != fate["script"] or fate["of"] not in " ".join(arguments):
        return None
    try:
        path.rename(path.with_suffix(".taken"))
    except FileNotFoundError:
        return None
    return fate


def strike(fate: dict[str, str]) -> None:
    """Let it happen."""
    match fate["way"]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            resource.setrlimit(resource.RLIMIT_AS, (2**20, 2**20))
            bytearray(2**28)
        case "disk":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
        case "error":
            raise RuntimeError("an error in the script")
        case "power":
            pipeline = int(Path(os.environ["DMF_FATE"]).with_suffix(".pid").read_text())
            os.killpg(pipeline, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        case "edit":
            edit = json.loads(fate["edit"])
            Path(edit["path"]).write_text(edit["text"])
        case other:
            sys.exit(f"way: expected one of {WAYS}, got {other!r}")
