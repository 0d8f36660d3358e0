"""The program that takes the place of ``python``: it runs scripts, and ``snakemake``, by the fork server."""

import os
import sys

if __name__ == "__main__":
    if sys.argv[1].startswith("-"):  # neither a script nor Snakemake: Python as it is
        command = sys.argv[1:]
    else:
        command = ["-SE", os.environ["DMF_CLIENT"], os.environ["DMF_FORKSERVER"], *sys.argv[1:]]
    os.execv(sys.executable, [sys.executable, *command])
