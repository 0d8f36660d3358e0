"""Calls of the whole public interface with arguments that nobody checked: `make fuzz`.

Each call is one of three. A plain one must return the right numbers; one with the same values in
another dress (strides, graphs, NumPy's numbers) the same; one with spoiled or extreme arguments
either that, or an exception that the docstring names, with a message of one line. The right numbers
come from :mod:`tests.fuzz.oracles`, which shares no code with the package.
"""
