"""A fork server that also runs Snakemake and the tools: ``python -m tests.workflow.warm.server SOCKET``."""

import os
import socket
import sys
from pathlib import Path

from workflow.forkserver.server import COMPUTING, DRAWING, run_script, serve


def run(arguments: list[str]) -> None:
    """Run a script, or Snakemake; a job meets its fate."""
    from tests.workflow.warm import fate

    sys.executable = os.environ["DMF_PYTHON"]
    if arguments[0] == "snakemake":
        from snakemake.cli import main

        os.setsid()
        Path(os.environ["DMF_FATE"]).with_suffix(".pid").write_text(str(os.getpid()))
        sys.argv = arguments
        main()
        return
    with fate.befalling(arguments):
        run_script(arguments)


if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen(64)
        print("ready", flush=True)
        further = ("jinja2", "matplotlib.animation", "PIL.Image", "snakemake.cli")
        serve(listening, [*DRAWING, *COMPUTING, *further], run=run)
