"""Gradient descent on many networks at once, the outcomes of its runs, and the landing law."""
