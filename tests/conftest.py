"""Strict by default: warnings are errors (pyproject.toml), one thread, no hypothesis deadline."""

import hypothesis
import torch

torch.set_num_threads(1)
# The machine may be busy: a slow example is no failure.
hypothesis.settings.register_profile("default", deadline=None, max_examples=25)
hypothesis.settings.load_profile("default")
