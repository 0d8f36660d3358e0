"""The least excess sharpness that an imbalance of the layers forces.

This module does not import PyTorch, because figures use it and should load fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Array = TypeVar("Array", "np.ndarray", "Tensor")


def least_excess(x: Array, depth: int) -> Array:
    """The least excess ``λ_max/λ_flat − 1`` of a minimizer with one relative product equal to ``x``.

    It holds at depth 2 and for scalar targets. With the relative products ``x_i = p_i / p*`` of
    :mod:`dmf_sharpness.network.balance`, ``λ_max / λ_flat`` is then the mean of the ``x_i²``, and
    ``Π_i x_i ≥ 1``. If one of them equals ``x``, the mean is least when all others equal
    ``x^{−1/(L−1)}``. The least excess is therefore

        ``(x² + (L−1) x^{−2/(L−1)}) / L − 1``,

    which is zero at ``x = 1`` and positive for all other ``x > 0``.

    Args:
        x: Positive numbers, of any shape.
        depth: ``L ≥ 2``.

    Returns:
        The excess, in the shape of ``x``.

    >>> import numpy as np
    >>> least_excess(np.array([1.0, 2.0]), depth=2)
    array([0.   , 1.125])
    """
    return (x**2 + (depth - 1) * x ** (-2 / (depth - 1))) / depth - 1
