"""Minimizers of given targets: constructions, counterexamples, paths and searches."""
