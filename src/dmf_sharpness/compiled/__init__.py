"""The kernels in C and their loading; without them PyTorch does the same, more slowly."""
