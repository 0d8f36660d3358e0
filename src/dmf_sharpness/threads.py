"""One thread for SciPy's BLAS beside PyTorch's threads.

Either library has threads of its own, which wait busily for the next piece of work. Where the two take
turns, as in a Lanczos iteration of SciPy's on products of PyTorch's, they take the processors from each
other: up to ten times the time.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


@cache
def _scipys_blas() -> ThreadpoolController:
    # Not a BLAS that PyTorch may share: its name is of the libraries that SciPy and NumPy bring along.
    return ThreadpoolController().select(prefix="libscipy_openblas")


class _SharedLimit:
    """A limit that holds as long as any thread is inside: the first in sets it, the last out lifts it.

    A limit for each thread would not do: one that enters while another is inside would find the limit
    of that one and restore it at its end, for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limiter: Any = None

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limiter = _scipys_blas().limit(limits=1)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limiter.restore_original_limits()


_limit = _SharedLimit()


@contextmanager
def scipy_on_one_thread() -> Iterator[None]:
    """SciPy's BLAS takes one thread inside, and afterwards as many as before; PyTorch's stay.

    Several threads may be inside at once; the number is restored when the last of them leaves.
    """
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()
