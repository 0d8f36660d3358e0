"""A limit of one thread for SciPy's BLAS while PyTorch uses its own threads.

Each of the two libraries has its own threads, which keep a processor busy while they wait for work.
If the two are called in turns, as in a Lanczos iteration of SciPy with products by PyTorch, the
waiting threads of one take the processors from the other. The computation then takes up to ten
times longer.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

NAME = "libscipy_openblas"
"""The file name of the BLAS that is part of the SciPy and NumPy packages.

Another BLAS is left alone, because PyTorch may use it as well.
"""
SUFFIXES = ("", "64_", "_64")
"""The suffixes of its function names, which depend on whether it was built for 64-bit integers."""


@cache
def _scipys_blas() -> list[tuple[Callable[[], int], Callable[[int], None]]]:
    """The functions that get and set the number of threads, for each loaded copy of SciPy's BLAS.

    They are called directly and not through threadpoolctl. The number is one of the whole process,
    but threadpoolctl accepts changes only from the thread that changed it first.
    """
    found = []
    for library in ThreadpoolController().select(prefix=NAME).info():
        # With another threading layer each thread has a number of its own, so the limit would not work.
        if library["threading_layer"] != "pthreads":
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
    """A limit that holds as long as any thread needs it.

    The first thread that enters sets the limit, and the last one that leaves restores the old
    number. If each thread did this for itself, a thread that enters second would read the limit as
    the old number, and would restore the limit at its end, for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[int] = []

    def enter(self) -> None:
        """Set the limit, unless another thread has set it."""
        with self._lock:
            if self._inside == 0:
                self._before = [get() for get, _ in _scipys_blas()]
                for _, put in _scipys_blas():
                    put(1)
            self._inside += 1

    def leave(self) -> None:
        """Restore the old number, unless another thread still needs the limit."""
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for (_, put), number in zip(_scipys_blas(), self._before, strict=True):
                    put(number)


_limit = _SharedLimit()
"""The single limit of this process."""


@contextmanager
def scipy_on_one_thread() -> Iterator[None]:
    """Limit SciPy's BLAS to one thread inside the ``with`` block; PyTorch's threads are not affected.

    Several threads may be inside such blocks at once. The old number is restored when the last one
    leaves.
    """
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()
