"""The public interface under arguments that nobody checked; `make fuzz` makes more calls."""

import os
import subprocess
import sys
from pathlib import Path

import dmf_sharpness
from tests.fuzz.calls import FUNCTIONS

ROOT = Path(__file__).parents[2]
CALLS = int(os.environ.get("DMF_FUZZ", "1000"))


def fuzzed(*arguments, **environment):
    """The command in a process of its own, so that nothing takes the session with it."""
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_public_function_is_called():
    classes = {
        name for name in dmf_sharpness.__all__ if isinstance(getattr(dmf_sharpness, name), type)
    }
    assert set(FUNCTIONS) == set(dmf_sharpness.__all__) - classes


def test_calls_return_the_right_numbers_or_a_documented_exception_of_one_line():
    run = fuzzed("--calls", str(CALLS))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 functions with a call that is wrong" in run.stdout
