"""Hessian eigenvalues: the exact sharpness and spectrum at a minimizer, and the sharpness elsewhere."""
