"""The sizes at which one method overtakes another, as measured in ``docs/speed.md``."""

from collections.abc import Sequence

DENSE_ORDER = 256
"""Up to this ``d_0 d_L`` a dense eigenproblem is faster than an iteration with PyTorch."""
COMPILED_ORDER = 128**2
"""Up to this ``d_0 d_L`` one compiled call is faster than products by PyTorch."""
COMPILED_END, COMPILED_WIDTH = 512, 2048
"""The same for ``max(d_0, d_L)``, and for all widths."""
WIDE_END = 96
"""If both ``d_0`` and ``d_L`` are at least this, the low-rank iteration is faster than ``lanczos``."""
LARGEST_SPLIT = 1024
"""Up to this ``max(d_0, d_L)`` the dense eigenproblems of ``depth-2`` are fast enough."""
BATCH_SIZE = 16
"""From this number of minimizers on, one iteration for the whole batch is faster than LAPACK."""
EXACT_ORDER = 256
"""Up to this ``d_0 d_L`` the eigenpair is computed to rounding, as LAPACK would do it."""


def suits_compiled(sizes: Sequence[int]) -> bool:
    """Whether one compiled call is the fastest method for a single minimizer of these widths.

    Scalar networks and least squares have formulas. So has depth 2, as long as its eigenproblems of
    order ``d_0`` and ``d_L`` are not slower than starting them.
    """
    depth, order = len(sizes) - 1, sizes[0] * sizes[-1]
    if depth < 2 or order == 1:
        return False
    return (
        order <= (EXACT_ORDER if depth == 2 else COMPILED_ORDER)
        and max(sizes[0], sizes[-1]) <= COMPILED_END
        and max(sizes) <= COMPILED_WIDTH
    )
