"""Experiment files, their checks, and the ensembles of minimizers that they ask for."""
