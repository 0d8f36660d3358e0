"""Points of the set of minimizers: targets, constructions, paths and searches."""
