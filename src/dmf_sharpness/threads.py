"""Threads where they pay: on small products PyTorch's threads wait for each other longer than they work."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dmf_sharpness.factors import Factors


@contextmanager
def threads_that_pay(factors: Factors, serial: int) -> Iterator[None]:
    """One PyTorch thread, if no layer has more than ``serial`` numbers; otherwise as many as before."""
    threads = torch.get_num_threads()
    small = max(W.shape[-1] * W.shape[-2] for W in factors) <= serial
    if threads == 1 or not small or factors[0].device.type != "cpu":
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
