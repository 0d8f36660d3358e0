"""The tolerances of the claims: from the arithmetic that a number takes, not from what came out."""

import math

# Arithmetic.
EXACT = 1e-12
"""Two ways to compute one number in float64 differ by no more."""
SPECTRUM = 1e-10
"""A whole spectrum, relative to its largest eigenvalue, is as exact as this."""
ITERATED = 1e-10
"""A Lanczos iteration in parameter space comes as near to the dense Hessian."""
DESCENDED = 1e-6
"""Spectra and norms are as exact at the end of a descent, which stops when the loss no longer changes."""
ATTAINED = 1e-6
"""A minimization of the sharpness has arrived at this relative excess."""

# Balance.
BALANCED = 1e-10
"""Spectral products, and layers along the top path, are called equal up to this relative difference."""
FLAT_BALANCE = 1e-5
"""A flat minimizer is balanced to this, about the root of EXACT: the excess is quadratic in the imbalance."""
UNBALANCED = 1e-2
"""From this relative deviation of a spectral product on the balance condition is plainly not met."""
UNBALANCED_FROBENIUS = 1.2
"""From this ratio of Frobenius norms on a minimizer is called not balanced."""
FAR_APART = 100 * (1 - 1e-9)
"""This ratio of Frobenius norms is called a hundred."""
SHARED = 1e-10
"""A singular pair is shared by two layers up to this relative defect."""

# Escape.
RATE = 1e-4
"""The growth per step in the linear phase is measured to this relative error."""
THRESHOLD = 1e-3
"""A measured threshold may deviate by this share from the predicted one."""
DIRECTION = 1e-6
"""``1 − |cos|`` with the top eigenvector is as small in the linear phase."""
SLOPE = 1e-2
"""The slope of the escape time is measured to this relative error."""
ROUNDING_SPAN = math.log(1e-3 / 2**-52)
"""Logarithm of the growth from rounding to the level at which a run has left."""

# Landing.
LANDING_EXCESS = 1e-3
"""The landing law is judged at this ``δ``."""
LANDING_REACH = 0.5
"""The law is judged up to this ``|a|δ``."""
LANDING_ERROR = 0.02
"""Relative error of ``1 − c_end`` from which a prediction has missed."""
LANDING_MISSES = 0.05
"""This share of the minimizers may miss it."""
SOFT_EXCESS = 0.01
"""The reduced map is judged up to this ``δ``: its error grows as ``δ``."""
CONFINED = 1e-6
"""This share of an orbit's variance may lie outside the top singular subspace."""
