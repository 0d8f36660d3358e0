"""The fork server: ``python server.py DESCRIPTOR``, started by the Snakefile for the jobs of one run.

To import PyTorch, SciPy, pandas and Matplotlib takes a job longer than most have to compute. This process
imports them once, and forks a process for each job, which starts in milliseconds. Those that figures need
come first, and the others when a byte arrives on the standard input. Nothing of the project is imported here:
a job imports the package as it is when the job starts, so an edited file is never missed.

The server ends when its standard input does, which the Snakefile holds open. Jobs that run then go on.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path

DRAWING = (
    "pandas", "pyarrow.parquet", "safetensors", "matplotlib.figure", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf", "tueplots.bundles", "jsonschema", "yaml",
)  # fmt: skip
"""Modules that take long to import and that every figure needs."""
COMPUTING = (
    "torch", "torch.fx.experimental.symbolic_shapes", "mpmath", "scipy.linalg", "scipy.optimize",
    "scipy.sparse.linalg", "safetensors.torch", "threadpoolctl", "lazy_loader", "seaborn",
    "sklearn.datasets",
)  # fmt: skip
"""Those that other jobs need."""

Run = Callable[[list[str]], None]
"""Runs a script with its arguments, the script being the first of them."""


def run_script(arguments: list[str]) -> None:
    """Run a script as Python does."""
    script = Path(arguments[0]).absolute()
    main = types.ModuleType("__main__")
    main.__file__ = str(script)
    sys.modules["__main__"] = main
    sys.argv = arguments
    sys.path.insert(0, str(script.parent))
    exec(compile(script.read_bytes(), script, "exec"), main.__dict__)


def serve(
    listening: socket.socket,
    libraries: Sequence[str] = DRAWING,
    further: Sequence[str] = COMPUTING,
    run: Run = run_script,
) -> None:
    """Fork a process for each request, until standard input ends.

    Args:
        listening: The socket; clients that connect before the imports are done wait for them.
        libraries: The modules to import first.
        further: The modules to import when a byte arrives on standard input.
        run: How a forked process runs the script that it is asked for.
    """
    # It is the clients that Snakemake stops and that Ctrl-C reaches.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_those_installed(libraries)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        # The Snakefile sends the byte before any job connects.
        if sys.stdin in ready:
            if not os.read(sys.stdin.fileno(), 1):
                return
            import_those_installed(further)
            continue
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            attend(connection, run)
            os._exit(0)
        connection.close()


def import_those_installed(names: Sequence[str]) -> None:
    """Import modules; the jobs that need one that is missing will say so.

    The garbage collector of the jobs leaves alone what the modules hold, and pauses during the imports.
    """
    gc.disable()
    for name in names:
        with contextlib.suppress(ImportError):
            __import__(name)
    gc.freeze()
    gc.enable()


def attend(connection: socket.socket, run: Run) -> None:
    """Run what is asked for in a process of its own; kill it when the client goes."""
    content, handles, _, _ = socket.recv_fds(connection, 2**20, 3)
    while content and not content.endswith(b"\n"):
        received = connection.recv(2**20)
        content = content + received if received else b""
    if not content:  # the client was killed before it had asked
        return
    request = json.loads(content)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    alive, held = os.pipe()
    process = os.fork()
    if process == 0:
        connection.close()
        os.close(alive)
        os.set_inheritable(held, False)
        os._exit(become(request, handles, run))
    os.close(held)
    for handle in handles:
        os.close(handle)
    ready, _, _ = select.select([alive, connection], [], [])
    if alive not in ready:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(OSError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def become(request: dict, handles: list[int], run: Run) -> int:
    """Be the process that was asked for, and return its exit status."""
    for number, handle in enumerate(handles):
        os.dup2(handle, number)
        os.close(handle)
    # New streams, because those of the server belong to what it was started with.
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    # A process that starts has default signals, and Python's own one for Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(request["arguments"])
        status = 0
    except SystemExit as ending:
        code = ending.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
        status = code if isinstance(code, int) else int(code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    if status < 0:  # Python ends by Ctrl-C in this way
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    del sys.path[0]  # this folder, which has no modules for others
    with socket.socket(fileno=int(sys.argv[1])) as given:
        try:
            serve(given)
        finally:
            Path(given.getsockname()).unlink(missing_ok=True)
