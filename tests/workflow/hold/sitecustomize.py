"""Stops a process of the pipeline at a chosen moment, until a file says that it may go on.

Python imports this module when it starts, before anything else, if its folder is on PYTHONPATH.
``DMF_HOLD`` is a folder; ``DMF_HOLD_AT`` is what to stop, a word of the command line, and where: ``start``,
``import <module>``, or ``open <end of a path>``. The process writes its id to ``reached``, and waits for
``go``. One process is stopped, the first to come.
"""

import os
import sys
import time
from pathlib import Path


def _hold() -> None:
    folder = Path(os.environ["DMF_HOLD"])
    own = folder / f"{os.getpid()}.reached"
    own.write_text(str(os.getpid()), encoding="ascii")
    try:
        (folder / "reached").hardlink_to(own)
    except FileExistsError:  # another process was first
        return
    while folder.exists() and not (folder / "go").exists():
        time.sleep(0.02)


def _watch(moment: str) -> None:
    kind, _, wanted = moment.partition(" ")
    waiting = True

    def look(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal waiting
        if waiting and event == kind and str(arguments[0]).endswith(wanted):
            waiting = False  # what this function opens and imports itself is not meant
            _hold()

    sys.addaudithook(look)


if "DMF_HOLD" in os.environ:
    word, _, moment = os.environ["DMF_HOLD_AT"].partition(":")
    if any(word in argument for argument in sys.orig_argv):
        if moment == "start":
            _hold()
        else:
            _watch(moment)
