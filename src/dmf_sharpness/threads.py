"""One thread for SciPy's BLAS beside PyTorch's threads.

Either library has threads of its own, which wait busily for the next piece of work. Where the two take
turns, as in a Lanczos iteration of SciPy's on products of PyTorch's, they take the processors from each
other: up to ten times the time.
"""

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _scipys_blas() -> ThreadpoolController:
    # Not a BLAS that PyTorch may share: its name is of the libraries that SciPy and NumPy bring along.
    return ThreadpoolController().select(prefix="libscipy_openblas")


def scipy_on_one_thread() -> AbstractContextManager[object]:
    """SciPy's BLAS takes one thread inside, and afterwards as many as before; PyTorch's stay."""
    limiter: AbstractContextManager[object] = _scipys_blas().limit(limits=1)
    return limiter
