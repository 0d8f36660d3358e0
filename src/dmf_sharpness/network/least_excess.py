"""The least excess sharpness that an imbalance allows; free of PyTorch, because figures draw it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Array = TypeVar("Array", "np.ndarray", "Tensor")


def least_excess(x: Array, depth: int) -> Array:
    """The least relative excess sharpness a relative product ``x`` allows, at depth 2 or for scalars.

    ``λ_max / λ_flat = mean_i x_i²`` there, and ``Π_i x_i ≥ 1``. With one product held at ``x`` the
    mean is least when the others are equal, ``x^{−1/(L−1)}``, which leaves

        ``(x² + (L−1) x^{−2/(L−1)}) / L − 1``,

    zero at ``x = 1`` and positive everywhere else.

    >>> import numpy as np
    >>> least_excess(np.array([1.0, 2.0]), depth=2)
    array([0.   , 1.125])
    """
    return (x**2 + (depth - 1) * x ** (-2 / (depth - 1))) / depth - 1
