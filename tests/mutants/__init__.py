"""Systematic mutation: `make mutants` changes one symbol at a time, and some test must notice.

The mutants of Python are those of cosmic-ray and of :mod:`tests.mutants.operators`, those of C a
table (:mod:`tests.mutants.kernels`). Each runs in a forked process, under the tests that call the
changed function. A mutant that survives is a gap in the tests, or changes nothing that a test could
see; ``survivors.toml`` explains those of the second kind one by one.
"""
