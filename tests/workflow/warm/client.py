"""The client: a program that takes the place of ``python`` on the path of the jobs."""

import json
import os
import signal
import socket
import sys


def ask(path: str, arguments: list[str], session: bool = False) -> int:
    """Have the server run a script, or ``snakemake``, with this process's folder and environment."""
    request = {
        "arguments": arguments,
        "folder": os.getcwd(),  # noqa: PTH109  # pathlib takes as long to import as all the rest
        "environment": dict(os.environ),
        "python": os.environ["DMF_PYTHON"],
        "session": session,
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [b" "], [0, 1, 2])
        connection.sendall(json.dumps(request).encode() + b"\n")
        return int(connection.makefile().readline() or -signal.SIGKILL)


if __name__ == "__main__":
    is_pipeline = sys.argv[1] == "snakemake"
    status = ask(os.environ["DMF_SERVER"], sys.argv[1:], session=is_pipeline)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
