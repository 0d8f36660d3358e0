"""Sharpness of minima in deep matrix factorization: the exact expression and its consequences.

``factors`` is always ``[W_1, …, W_L]``, float64 tensors, ``W_i`` of shape ``(d_i, d_{i-1})``.
"""

import lazy_loader

# Names are loaded lazily, because every Snakemake job reads experiment files, and that needs no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
