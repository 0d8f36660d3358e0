"""The compiled kernels, written in C, and their loading; PyTorch replaces them where they are missing."""
