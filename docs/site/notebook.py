"""The cell magic ``%%bash`` of the tutorials.

That of IPython passes output on in pieces as it comes, and MyST-NB puts each on a line of its own.
"""

import subprocess
from typing import Any


def bash(line: str, cell: str) -> None:
    """Run a cell and print what it wrote to its standard output, or fail as it did."""
    done = subprocess.run(["bash", "-e", "-c", cell], capture_output=True, text=True)
    if done.stdout:
        print(done.stdout.strip())
    if done.returncode:
        raise RuntimeError(done.stderr)


def load_ipython_extension(shell: Any) -> None:
    """Take the place of the one of IPython."""
    shell.register_magic_function(bash, "cell")
