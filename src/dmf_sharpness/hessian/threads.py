"""One thread for SciPy's BLAS beside PyTorch's threads.

Either library has threads of its own, which wait busily for the next piece of work. Where the two take
turns, as in a Lanczos iteration of SciPy's on products of PyTorch's, they take the processors from each
other: up to ten times the time.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

# Not a BLAS that PyTorch may share: its name is of the libraries that SciPy and NumPy bring along.
NAME = "libscipy_openblas"
SUFFIXES = ("", "64_", "_64")
"""Of function names; some are built for integers of 64 bits."""


@cache
def _scipys_blas() -> list[tuple[Callable[[], int], Callable[[int], None]]]:
    """Functions that get and set the number of threads of each library.

    They are called directly: threadpoolctl ignores a number that is not set by the thread that set the
    first one, although it is the number of the whole process.
    """
    found = []
    for library in ThreadpoolController().select(prefix=NAME).info():
        if library["threading_layer"] != "pthreads":  # a number for each thread, of no use here
            continue
        functions = ctypes.CDLL(library["filepath"])
        for suffix in SUFFIXES:
            name = f"scipy_openblas_{{}}_num_threads{suffix}"
            if hasattr(functions, name.format("set")):
                get, put = (getattr(functions, name.format(verb)) for verb in ("get", "set"))
                found.append((get, put))
                break
    return found


class _SharedLimit:
    """A limit that holds as long as any thread is inside: the first in sets it, the last out lifts it.

    A limit for each thread would not do: one that enters while another is inside would find the limit
    of that one and restore it at its end, for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[int] = []

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = [get() for get, _ in _scipys_blas()]
                for _, put in _scipys_blas():
                    put(1)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for (_, put), number in zip(_scipys_blas(), self._before, strict=True):
                    put(number)


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
