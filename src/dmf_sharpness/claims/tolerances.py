"""The tolerances of the claims, each chosen from the arithmetic behind a number and not from results."""

import math

# Arithmetic.
EXACT = 1e-12
"""Two exact ways to compute one number in float64 differ by at most this relative amount."""
DIGITS = 1e-50
"""Two exact ways to compute one number with eighty digits have at least fifty of them in common."""
SPECTRUM = 1e-10
"""A whole spectrum is exact to this error, relative to its largest eigenvalue."""
ITERATED = 1e-10
"""A Lanczos iteration in parameter space agrees with the dense Hessian to this relative error."""
DESCENDED = 1e-6
"""Spectra and norms at the end of a descent have this error, because the loss stops changing earlier."""
ATTAINED = 1e-6
"""A minimization of the sharpness has reached ``λ_flat`` when the relative excess is at most this."""

SHARP = 5e-7
"""A minimizer counts as not flat if its relative excess sharpness is above this, far above ``EXACT``.

No experiment prescribes an excess near it. At a prescribed excess of 1e-6 rounding would decide.
"""
TRACE_FLAT = 1e-6
"""Eigenvalues at a minimizer of the trace are exact to this error. It is the root of ``EXACT``, because the
excess of the trace is quadratic in the deviation."""
BOUND_REACHED = 1e-5
"""A family with the parameter ``γ = 1e-3`` comes within a few ``γ²`` of the bound that it tends to."""
SHARPEST = 1e6
"""Convexity on orbits is judged at minimizers up to so many times too sharp. Rounding errors of 1e-16 change
the product of such large layers by up to the root of it times as much, a tenth of ``EXACT``."""

# Data.
NEAR_END = 1e-3
"""A network counts as trained to a minimizer if one is so near. An error of 1e-7 in each of ``1e4`` steps of
single precision adds up to it at most."""
WHITE = 1e-9
"""Inputs count as whitened if their condition number is 1 up to this."""

# Balance.
BALANCED = 1e-10
"""Spectral products, and the layers' gains along the top path, are equal up to this relative difference."""
FLAT_BALANCE = 1e-5
"""The spectral products of a flat minimizer deviate by at most this. It is about the root of ``EXACT``,
because the excess is quadratic in the deviation."""
UNBALANCED = 1e-2
"""A minimizer counts as not balanced if a spectral product deviates by at least this relative amount."""
UNBALANCED_FROBENIUS = 1.2
"""A minimizer counts as not balanced in the Frobenius norm if two norms have at least this ratio."""
FAR_APART = 100 * (1 - 1e-9)
"""Frobenius norms count as a factor of a hundred apart from this ratio on, which allows for rounding."""

# Escape.
RATE = 1e-4
"""The growth per step in the linear phase is measured to this relative error."""
THRESHOLD = 1e-5
"""A measured threshold may deviate by this share, a hundred times the relative distance of the starts: beside
a minimizer the sharpness is another one, by a share of about that distance."""
DIRECTION = 1e-6
"""``1 − |cos|`` of the angle to the top eigenvector is at most this in the linear phase."""
SLOPE = 1e-2
"""The slope of the escape time is measured to this relative error."""
ROUNDING_SPAN = math.log(1e-3 / 2**-52)
"""This is the logarithm of the growth from a rounding error to the level at which a run has left."""

# Landing.
ATTAINED_EXCESSES = (1e-4, 1e-2)
"""The approach to the limit of stability is judged at the first ``δ``, and its control at the second."""
LANDING_EXCESS = 1e-3
"""The landing law is judged at this ``δ``."""
LANDING_REACH = 0.5
"""The landing law is judged for ``|ã|δ`` up to this."""
SETTLED = 10
"""A direction settles within the time of an escape, of the order of ``1/δ``, if ``ηλ_k`` is so many ``δ``."""
LANDING_ERROR = 0.2
"""The law leaves out the third order, which is of the order of ``|ã|δ`` of the second, so up to a half."""
SECOND_ORDER_EXCESSES = (1e-4, 3e-4)
"""The coefficient of the second order is extrapolated to 0 from these two ``δ``."""
SECOND_ORDER_REACH = 0.02
"""It is judged for ``|ã|δ`` up to this at the larger ``δ``, so that the extrapolation leaves 1e-3 of it."""
SECOND_ORDER = 0.1
"""``ã`` is measured to this. It is a fifteenth of the term 3/2; about 0.01 of it comes from the displacement
of the starts, and up to 0.07 from the third order that the extrapolation leaves."""
MOMENTUM_ORDER = 0.05
"""The landing's deviation from the mirror image is predicted to this share of the sizes of its terms. It was
set before a run and is below ``ν²δ``, ``ν = (1 + β_m)/(1 − β_m)``, the next order, which is up to 0.081."""
LANDING_COEFFICIENT = 1e-6
"""Landing coefficients agree with their closed forms to this share of the sizes of their terms:
``b`` is a central difference over 1e-4 of the factors, with an error of about the square of that."""
PEAK_EXCESS = 3e-4
"""The largest displacement is judged for ``δ`` up to this, as it is predicted to leading order only."""
PEAK = 0.05
"""The largest displacement is right to this relative error, which is of the order ``(|ã| + ν²) δ``."""
SOFT_ERROR = 2.0
"""The reduced map is of first order: its relative error is of the order of ``δ``, with a factor near 1."""

# Orbits.
PERIOD_TWO = math.sqrt(5) - 1
"""Up to this ``c = ηλ_flat/2`` the balanced orbit of period two is stable at depth 2, where the layers'
top singular value follows the map ``x ↦ (1 + c)x − cx³``; at greater depths up to a little more."""
SECOND_MARGIN = 0.01
"""The second direction counts as stable or unstable if ``ηλ_2/2`` is so far from 1."""
CLOSED = 1e-6
"""An orbit of period two returns after two steps to this share of its step."""
CONFINED = 1e-6
"""This share of the variance of an orbit may lie outside of the target's top singular subspace."""

# Training.
FLOW_BALANCE = 4e-6
"""The extrapolation to gradient flow is continued until its last order changes the end by 1e-6 or less. The
conserved quantities are quadratic in the factors, and each of them contains two."""
FLOW_SHARPNESS = 2e-5
"""The sharpness at the end of the flow is that of a point with this error, at depths up to 8."""
FOLLOWING = 0.25
"""The end of training differs from that of gradient flow by a share of the order of ``ηλ/2``, with a factor
that is not known. This was set after a run with other seeds."""
BELOW_LIMIT = 0.2
"""A last escape lands this far below ``2/η``, as a rule. This was set after a run with other seeds."""
WIDTH_ERROR = 2.0
"""The sharpness of a wide network is right to its leading correction, with a factor near 1."""
