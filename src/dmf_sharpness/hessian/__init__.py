"""Hessian eigenvalues at a point: the exact sharpness of a minimizer, the spectrum, and any other point."""
