"""Gradient descent on many networks at once, what becomes of a run, and where it lands."""
