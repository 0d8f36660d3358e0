"""Run a script in a process that the fork server starts: ``python -SE client.py SOCKET SCRIPT [ARGUMENT…]``.

The script gets the folder, the environment and the open files of this process, and this process ends as the
script does. If this process is killed, the server kills the script. Without a server the script is run as
ever, by the same interpreter. Only light modules are imported here, because every job waits for them.
"""

import json
import os
import signal
import socket
import sys


def connect(path: str) -> "socket.socket | None":
    """A connection to the server; None if there is no server."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


def ask(connection: socket.socket, arguments: "list[str]") -> int:
    """The exit status of a script that the server runs; the negative number of a signal that ended it."""
    request = {
        "arguments": arguments,
        "folder": os.getcwd(),  # noqa: PTH109  # pathlib takes as long to import as all the rest
        "environment": dict(os.environ),
    }
    with connection:
        socket.send_fds(connection, [b" "], [0, 1, 2])
        connection.sendall(json.dumps(request).encode() + b"\n")
        return int(connection.makefile().readline() or -signal.SIGKILL)


def end(status: int) -> None:
    """End this process in the way that the script ended."""
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    server = connect(sys.argv[1])
    if server is None:
        os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
    end(ask(server, sys.argv[2:]))
