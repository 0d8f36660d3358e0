"""Sharpness of minima in deep matrix factorization: the exact expression and what follows from it.

``factors`` is always ``[W_1, …, W_L]``, float64 tensors, ``W_i`` of shape ``(d_i, d_{i-1})``.
"""

import lazy_loader

# Lazy, so that reading an experiment file (as every job's Snakefile does) does not import torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
