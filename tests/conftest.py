"""Strict by default: warnings are errors (pyproject.toml), one thread, no hypothesis deadline."""

import os
import signal

import hypothesis
import pytest
import torch

import dmf_sharpness.cli  # noqa: F401

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


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Where the library is installed without the pipeline, a test that needs the pipeline is skipped."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if "DMF_LIBRARY_ONLY" not in os.environ or error.name.startswith("dmf_sharpness"):
            raise
        pytest.skip(f"needs {error.name}")
