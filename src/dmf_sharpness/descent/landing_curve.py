"""The landing law as a function of NumPy arrays; imports no PyTorch, because a figure draws it."""

import numpy as np
from scipy.special import lambertw

# Taylor coefficients of the conjugation w ↦ w_e of (w − 1) e^w at its minimum, from w² on: the branch
# exchange of the Lambert function (Corless et al., Adv. Comput. Math. 5, 1996, section 4).
_EXCHANGE = (2 / 3, 4 / 9, 44 / 135, 104 / 405, 40 / 189, 7648 / 42525)
# The series is used where |w| is below this; both it and the Lambert function are right to 1e-12 there.
_SERIES_BELOW = 0.02


def landing_curve(coefficient: np.ndarray, step_ratio: np.ndarray) -> np.ndarray:
    """``c_end`` by the law of :func:`dmf_sharpness.predict_landing`, entry by entry.

    Args:
        coefficient: ``a``, finite.
        step_ratio: ``c`` of the start, finite and at least 1, of the same shape.

    Returns:
        The step ratio where the run lands; NaN where the law has no landing.
    """
    delta = step_ratio - 1

    # c_end = 1 + δ w_e/w_0, with w_e/w_0 = −(1 + 2w/3 + 4w²/9 + …) next to the branch point.
    with np.errstate(all="ignore"):
        w = 2 * (coefficient * delta)
        series = -np.polynomial.polynomial.polyval(w, [1.0, *_EXCHANGE])
        # Far below zero the exponential underflows to zero, and w_e tends to 1.
        argument = np.where(w < -800, 0.0, np.where(w < 1, (w - 1) * np.exp(w - 1), np.nan))
        u = np.where(w > 0, lambertw(argument, -1).real, lambertw(argument, 0).real)
        quotient = np.where(np.abs(w) < _SERIES_BELOW, series, (u + 1) / w)
        return np.asarray(1 + delta * quotient)
