import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path


def braced(text):
    """A text for Snakemake to format: its own braces stay."""
    return str(text).replace("{", "{{").replace("}", "}}")


def quoted(text):
    """A word of a shell command, for Snakemake to format."""
    return braced(shlex.quote(str(text)))


# The socket of the fork server, relative because its path must be short. The server is for jobs on this machine:
# each gets a process that has PyTorch and the other libraries already. Elsewhere, or if DMF_FORKSERVER is
# empty, a job starts Python. A test has a server of its own, which DMF_FORKSERVER then names.
FORKSERVER = os.environ.get("DMF_FORKSERVER", f".snakemake/forkserver.{os.getpid()}")
if PROJECT is None or sys.platform != "linux" or not workflow.is_main_process:
    FORKSERVER = ""
# The server takes three seconds to start, and a job that starts Python two.
FEWEST_JOBS = 6

# `job python SCRIPT` runs the script. A shell has its background processes ignore Ctrl-C, which otherwise
# would have Python print a traceback while it starts; `job` waits for the script and ends it by a signal
# that Python leaves alone.
RUN = '"$@"'
if FORKSERVER:
    CLIENT = (PROJECT / "workflow" / "forkserver" / "client.py").absolute()
    RUN = f'shift; python -SE {quoted(CLIENT)} {quoted(FORKSERVER)} "$@"'

# A prefix of one's own takes the place of Snakemake's strict mode, which has to be said again.
# The interpreter that runs Snakemake runs the scripts, whether or not its environment is active.
# Jobs run side by side: a pool of threads in each would have them fight over the cores.
shell.prefix(
    "set -euo pipefail; "
    f"export PATH={quoted(Path(sys.executable).parent)}:$PATH OMP_NUM_THREADS=1; "
    f"job() {{{{ trap 'kill ${{{{!:-}}}} 2> /dev/null || :; exit 130' INT TERM; {RUN} & wait $!; }}}}; "
)


def start_forkserver():
    """Start the server if enough jobs are to be run; it ends with this process, which holds its input."""
    if not FORKSERVER or Path(FORKSERVER).exists() or len(workflow.dag) < FEWEST_JOBS:
        return
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(FORKSERVER)
        listening.listen(64)
        subprocess.Popen(
            [
                sys.executable,
                str(PROJECT / "workflow" / "forkserver" / "server.py"),
                str(listening.fileno()),
            ],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
