"""A running server, and runs of scripts and of Snakemake through it."""

import atexit
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[3]
LIMIT = 1800.0
"""A run that takes longer than this many seconds has come to a deadlock."""


class WarmServer:
    """A server of processes that start in no time, for as long as this object is in use.

    Args:
        folder: An empty folder with a short path, since the path of a socket must be short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "socket"
        (folder / "bin").mkdir()
        self.python = folder / "bin" / "python"
        client = Path(__file__).with_name("client.py").read_text()
        self.python.write_text(f"#!{sys.executable} -SE\n{client}")
        self.python.chmod(0o755)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.workflow.warm.server", self.socket],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def run(
        self, folder: Path, source: Path, *command: str, **environment: str
    ) -> subprocess.CompletedProcess:
        """Run a script, or ``snakemake``, and what it starts.

        Args:
            folder: The working directory.
            source: The folder of the package to import.
            command: A script or ``snakemake``, and arguments.
            environment: Further variables of the environment.
        """
        variables = os.environ | {
            "PYTHONPATH": f"{source}{os.pathsep}{ROOT}",
            "DMF_PYTHON": str(self.python),
            "DMF_CLIENT": str(ROOT / "workflow" / "forkserver" / "client.py"),
            "DMF_FORKSERVER": str(self.socket),
            "DMF_FATE": str(self.folder / "fate"),
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(
            [self.python, *command],
            cwd=folder, env=variables | environment, capture_output=True, text=True, timeout=LIMIT,
        )  # fmt: skip

    def stop(self) -> None:
        """End the server, which waits for the end of its input."""
        self.process.communicate()


@cache
def warm_server() -> WarmServer:
    """The server of this test process, started when it is first needed."""
    folder = TemporaryDirectory(prefix="dmf")
    server = WarmServer(Path(folder.name))
    atexit.register(folder.cleanup)
    atexit.register(server.stop)
    return server
