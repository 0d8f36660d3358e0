"""The sizes at which one method overtakes another, as measured in ``docs/speed.md``."""

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
