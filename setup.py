"""Build of the compiled kernels for gradient descent, the sharpness of small networks and large products.

All other metadata is in pyproject.toml. The kernels are optional: without a C compiler the package
still installs, and computes with PyTorch instead.
"""

import hashlib
from pathlib import Path

from setuptools import Extension, setup

# dmf_sharpness.compiled.lanes computes the same digest of the same files in the same order, to find
# out whether the library was built from the sources beside it.
SOURCES = [
    f"src/dmf_sharpness/compiled/{name}"
    for name in (
        "_kernels.c",
        "_descent.h",
        "_lanes.h",
        "_tiles.h",
        "_top_pairs.c",
        "_clones.h",
        "_rows.h",
        "_team.h",
        "_tridiagonal.h",
        "_lanczos.h",
        "_single.c",
        "_thin.c",
    )
]
DIGEST = hashlib.sha256(b"".join(Path(source).read_bytes() for source in SOURCES)).hexdigest()

setup(
    ext_modules=[
        Extension(
            "dmf_sharpness.compiled._kernels",
            [source for source in SOURCES if source.endswith(".c")],
            depends=[source for source in SOURCES if source.endswith(".h")],
            define_macros=[("DMF_SOURCES", f'"{DIGEST}"')],
            # GCC warns that passing 512-bit vectors changes the calling convention. No such vector
            # leaves the library, so the warning does not matter here.
            extra_compile_args=["-O2", "-Wno-psabi", "-pthread"],
            extra_link_args=["-pthread"],
            optional=True,
        )
    ]
)
