"""The fork server runs scripts as Python does, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.workflow.conftest import make_project
from tests.workflow.held import HeldRun, has_ended, wait_until
from tests.workflow.test_killed import written

FOLDER = Path(__file__).parents[2] / "workflow" / "forkserver"
SERVE = """
import socket, sys
sys.path.insert(0, sys.argv[2])
from server import serve
serve(socket.socket(fileno=int(sys.argv[1])), ["nowhere"], ["nowhere", "fractions"])
"""
"""A server that imports hardly anything, and one more module later."""

Start = Callable[..., subprocess.Popen]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen]:
    """A running server with the socket ``socket`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        listening.listen(64)
        number = listening.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(number), FOLDER], stdin=subprocess.PIPE, pass_fds=[number]
        )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a client that runs a script of a text."""

    def started(text: str, *arguments: str, **options: object) -> subprocess.Popen:
        script = tmp_path / "script.py"
        if not script.exists() or script.read_text() != text:
            script.write_text(text)
        return subprocess.Popen(
            [sys.executable, "-SE", FOLDER / "client.py", "socket", "script.py", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    return started


SCRIPTS = {
    "success": "print('done')",
    "status": "import sys; print('a'); sys.exit(3)",
    "message": "import sys; sys.exit('no such thing')",
    "traceback": "def f():\n    raise ValueError('bad')\nf()",
    "streams": "import sys; print(sys.stdin.read()); print('said', file=sys.stderr)",
    "signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "interrupt": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "arguments": "import sys; print(sys.argv, __name__, __file__)",
    "place": "import os; print(os.getcwd(), os.environ['OF_THE_CLIENT'])",
    "neighbour": "import beside; print(beside.VALUE)",
    "no syntax": "print(",
    "character": "import sys; sys.stderr.write('Πλ\\udcff\\n')",
    "handlers": "import signal; print([signal.getsignal(s) for s in (2, 13, 15, 17)])",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_runs_as_in_python(server, start, script, tmp_path):
    (tmp_path / "beside.py").write_text("VALUE = 4")
    environment = os.environ | {"OF_THE_CLIENT": "yes"}
    by_server = start(script, "a b", "", env=environment)
    said = by_server.communicate("input")
    plain = subprocess.run(
        [sys.executable, "script.py", "a b", ""],
        env=environment, input="input", capture_output=True, text=True,
    )  # fmt: skip
    assert by_server.returncode == plain.returncode
    assert said[0] == plain.stdout
    # The traceback has the frames of the server too.
    assert said[1].splitlines()[-1:] == plain.stderr.splitlines()[-1:]


def test_without_a_server_python_runs_the_script(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = start("import sys; print(sys.argv); sys.exit(5)", "x")
    assert client.communicate()[0] == "['script.py', 'x']\n"
    assert client.returncode == 5


def test_a_server_that_was_killed_is_done_without(server, start):
    server.kill()
    server.wait()
    assert Path("socket").exists()
    assert start("print(1)").communicate()[0] == "1\n"


def test_many_at_once_each_get_their_own_answer(server, start):
    clients = [start("import sys; sys.exit(int(sys.argv[1]))", str(k)) for k in range(30)]
    for client in clients:
        client.communicate()
    assert [client.returncode for client in clients] == list(range(30))


WAITING = "import os, time; print(os.getpid(), flush=True); time.sleep(1000)"


def test_a_byte_on_its_input_has_the_server_import_the_further_libraries(server, start):
    text = "import sys; print('fractions' in sys.modules)"
    assert start(text).communicate()[0] == "False\n"
    server.stdin.write(b"+")
    server.stdin.flush()
    assert start(text).communicate()[0] == "True\n"


def test_a_client_that_is_killed_takes_its_script_along(server, start):
    client = start(WAITING)
    script = psutil.Process(int(client.stdout.readline()))
    client.kill()
    wait_until(lambda: has_ended(script), "the end of the script")
    assert start("print(1)").communicate()[0] == "1\n"
    client.communicate()


def test_a_client_ends_as_its_script_that_is_killed(server, start):
    client = start(WAITING)
    os.kill(int(client.stdout.readline()), signal.SIGKILL)
    client.communicate()
    assert client.returncode == -signal.SIGKILL


def test_a_script_goes_on_when_the_server_ends_with_its_input(server, start):
    client = start("import os; print(os.getpid(), flush=True); input(); print('to the end')")
    client.stdout.readline()
    server.stdin.close()
    assert server.wait(60) == 0
    assert client.communicate("go\n")[0] == "to the end\n"
    assert client.returncode == 0


def has_server(run: HeldRun) -> bool:
    """Whether a run of Snakemake has a fork server now."""
    for process in psutil.Process(run.process.pid).children():
        with suppress(psutil.Error):  # it ended while we looked
            if "server.py" in " ".join(process.cmdline()):
                return True
    return False


@pytest.mark.pipeline
@pytest.mark.parametrize("way", ["kill", "interrupt"])
def test_a_stopped_run_leaves_no_process_and_the_same_command_finishes(finished, tmp_path, way):
    project = make_project(tmp_path / "project")
    run = HeldRun(project)
    wait_until(lambda: list(project.glob("results/*/*.*")), "the first result")
    assert has_server(run)
    family = psutil.Process(run.process.pid).children(recursive=True)
    run.kill(jobs_too=False) if way == "kill" else run.interrupt()
    assert run.ended() != 0
    for process in family:
        wait_until(lambda process=process: has_ended(process), "the end of what the run started")
    assert not list(project.glob(".snakemake/forkserver.*"))
    assert "Traceback" not in run.said
    again = HeldRun(project, None, *(["results/sharpness/matrix.parquet"] if way == "kill" else []))
    assert again.ended() == 0, again.said
    assert way == "kill" or written(project) == written(finished[0])


@pytest.mark.pipeline
@pytest.mark.parametrize("target", ["figures/exactness.png", "results/sharpness/matrix.parquet"])
def test_few_jobs_start_no_server_but_a_figure_to_be_drawn_does(replica, target):
    (replica / target).unlink()
    run = HeldRun(replica, None, target)
    seen = []
    wait_until(lambda: seen.append(has_server(run)) or run.process.poll() is not None, "the end")
    assert any(seen) == target.startswith("figures")
    assert run.ended() == 0
    assert not list(replica.glob(".snakemake/forkserver.*"))


@pytest.mark.pipeline
def test_a_dry_run_starts_no_server(replica):
    (replica / "figures/exactness.png").unlink()
    run = HeldRun(replica, None, "--dry-run", "figures/exactness.png")
    seen = []
    wait_until(lambda: seen.append(has_server(run)) or run.process.poll() is not None, "the end")
    assert not any(seen)
