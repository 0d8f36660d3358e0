"""The compiled kernels of gradient descent and of batched sharpness; all else is in pyproject.toml.

They are optional: without a C compiler the package installs all the same, and PyTorch takes over.
"""

import hashlib
from pathlib import Path

from setuptools import Extension, setup

# In the order in which dmf_sharpness.compiled.lanes digests them: is the library of these sources?
SOURCES = [
    f"src/dmf_sharpness/compiled/{name}" for name in ("_kernels.c", "_lanes.h", "_top_pairs.c")
]
DIGEST = hashlib.sha256(b"".join(Path(source).read_bytes() for source in SOURCES)).hexdigest()

setup(
    ext_modules=[
        Extension(
            "dmf_sharpness.compiled._kernels",
            [source for source in SOURCES if source.endswith(".c")],
            depends=[source for source in SOURCES if source.endswith(".h")],
            define_macros=[("DMF_SOURCES", f'"{DIGEST}"')],
            # Vectors of 512 bits are passed between functions of this file only.
            extra_compile_args=["-O3", "-Wno-psabi"],
            optional=True,
        )
    ]
)
