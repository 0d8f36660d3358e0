"""Strict by default: warnings are errors (pyproject.toml), one thread, no hypothesis deadline."""

import os
import signal

import hypothesis
import pytest
import torch

import dmf_sharpness.cli  # noqa: F401
from tests.chromium import browser  # noqa: F401  (a fixture)

# `make mutants` installs what these modules import.
collect_ignore = ["mutants"]
# That module is for scripts, which Ctrl-C ends at once; a test session is to say what it was at.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
# The machine may be busy: a slow example is no failure.
hypothesis.settings.register_profile(
    "default",
    deadline=None,
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
# The lowest versions are to have the same interfaces; for this a few examples are enough.
hypothesis.settings.register_profile(
    "few", hypothesis.settings.get_profile("default"), max_examples=5
)
hypothesis.settings.load_profile("default")


LONGEST = (
    "workflow/test_histories.py", "workflow/test_killed.py", "workflow/test_slurm.py",
    "workflow/test_readme.py", "workflow/test_places.py", "workflow/test_languages.py",
    "workflow/test_forkserver.py", "compiled/test_sanitizers.py", "workflow/",
)  # fmt: skip
"""Files that come first, in this order: if they came last, one worker would be left alone with them."""


def pytest_collection_modifyitems(items):
    """Long files first; `make test` hands out files in this order."""

    def place(item):
        name = item.nodeid.removeprefix("tests/")
        return next((k for k, start in enumerate(LONGEST) if name.startswith(start)), len(LONGEST))

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Where the library is installed without the pipeline, a test that needs the pipeline is skipped."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if "DMF_LIBRARY_ONLY" not in os.environ or error.name.startswith("dmf_sharpness"):
            raise
        pytest.skip(f"needs {error.name}")
