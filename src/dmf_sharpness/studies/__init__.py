"""One module per table: each measures the minimizers of an ensemble in its own way."""
