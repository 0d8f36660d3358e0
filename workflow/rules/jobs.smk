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


def is_to_draw(arguments):
    """Whether a command line asks for figures, and not only what there would be to do."""
    return any(word.startswith("figures") for word in arguments) and not any(
        word in ("-n", "--dry-run", "--dryrun") for word in arguments
    )


def start_forkserver():
    """Start the server with the libraries of the figures; it ends with this process, which holds its input."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(FORKSERVER)
        listening.listen(64)
        return subprocess.Popen(
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


def prepare_forkserver():
    """Start the server if enough jobs are to be run, and have it import what these need."""
    if not FORKSERVER or (len(workflow.dag) < FEWEST_JOBS and SERVER is None):
        return
    if SERVER is None and Path(FORKSERVER).exists():  # that of a test
        return
    server = SERVER or start_forkserver()
    if any(job.rule.name != "render_figure" for job in workflow.dag.needrun_jobs()):
        server.stdin.write(b"+")
        server.stdin.flush()


# If the command line names figures, the server imports what these need while Snakemake finds out what to do.
# A folder that cannot be written to is refused in common.smk.
SERVER = None
if FORKSERVER and not Path(FORKSERVER).exists() and is_to_draw(sys.argv[1:]):
    if os.access(".snakemake", os.W_OK):
        SERVER = start_forkserver()
