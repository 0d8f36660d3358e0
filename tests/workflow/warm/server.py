"""The server: ``python -m tests.workflow.warm.server SOCKET``."""

import contextlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path

LIBRARIES = (
    "jinja2", "jsonschema", "lazy_loader", "matplotlib.animation", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf", "pandas", "PIL.Image", "pyarrow.parquet", "safetensors.torch",
    "scipy.linalg", "scipy.optimize", "scipy.sparse.linalg", "seaborn", "sklearn.datasets",
    "snakemake.cli", "threadpoolctl", "torch", "tueplots.bundles", "yaml",
)  # fmt: skip


def serve(path: str) -> None:
    """Fork a process for each request, until the one that started this server is gone."""
    for name in LIBRARIES:
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listening, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                attend(connection)
                os._exit(0)
            connection.close()


def attend(connection: socket.socket) -> None:
    """Run what is asked for in a process of its own; kill it when the client goes."""
    content, handles, _, _ = socket.recv_fds(connection, 2**20, 3)
    while not content.endswith(b"\n"):
        content += connection.recv(2**20)
    request = json.loads(content)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    alive, held = os.pipe()
    process = os.fork()
    if process == 0:
        connection.close()
        os.close(alive)
        os.set_inheritable(held, False)
        status = 1
        with contextlib.suppress(BaseException):
            status = become(request, handles)
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    os.close(held)
    for handle in handles:
        os.close(handle)
    ready, _, _ = select.select([alive, connection], [], [])
    if alive not in ready:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(OSError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def become(request: dict, handles: list[int]) -> int:
    """Be the process that was asked for, and return its exit status."""
    for number, handle in enumerate(handles):
        os.dup2(handle, number)
        os.close(handle)
    # New streams, because those of the server belong to what it was started with.
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
    if request["session"]:
        os.setsid()
        Path(request["environment"]["DMF_FATE"]).with_suffix(".pid").write_text(str(os.getpid()))
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    arguments = request["arguments"]
    if arguments[0].startswith("-"):  # neither a script nor Snakemake: Python as it is
        os.execv(sys.executable, [sys.executable, *arguments])
    sys.executable = request["python"]
    sys.path[:0] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = arguments
    # A process that starts has default signals, and Python's own one for Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if arguments[0] == "snakemake":
            from snakemake.cli import main

            main()
            return 0
        from tests.workflow.warm import fate

        sys.path.insert(0, str(Path(arguments[0]).parent))
        with fate.befalling(arguments):
            runpy.run_path(arguments[0], run_name="__main__")
        return 0
    except SystemExit as ending:
        code = ending.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
        return code if isinstance(code, int) else int(code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1


if __name__ == "__main__":
    serve(sys.argv[1])
