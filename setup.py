"""The compiled kernels of gradient descent and of batched sharpness; all else is in pyproject.toml.

They are optional: without a C compiler the package installs all the same, and PyTorch takes over.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "dmf_sharpness._kernels",
            ["src/dmf_sharpness/_kernels.c", "src/dmf_sharpness/_top_pairs.c"],
            depends=["src/dmf_sharpness/_lanes.h"],
            # Vectors of 512 bits are passed between functions of this file only.
            extra_compile_args=["-O3", "-Wno-psabi"],
            optional=True,
        )
    ]
)
