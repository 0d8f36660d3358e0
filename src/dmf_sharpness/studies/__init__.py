"""Studies: each module measures the minimizers of an ensemble and returns one table."""
