"""The outcome of a call, and the error that tells of a property that does not hold."""

import torch

import dmf_sharpness as dmf
from tests.fuzz.calls import Call


class WrongError(AssertionError):
    """A property that does not hold."""


def require(condition, message):
    if not condition:
        raise WrongError(message)


def outcome_of(call: Call):
    """What the call returns, or its exception."""
    # The compiled kernels share their work; PyTorch's threads would wait for each other at each step.
    engine = call.given.get("engine")
    torch.set_num_threads(1 if isinstance(engine, str) and engine == "torch" else 2)
    try:
        return getattr(dmf, call.function)(**call.given), None
    except Exception as error:
        return None, error
