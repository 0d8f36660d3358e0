"""The compiled kernel of the gradient-descent engine; everything else is in pyproject.toml.

It is optional: without a C compiler the package installs all the same, and the engine runs on PyTorch.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "dmf_sharpness._kernels",
            ["src/dmf_sharpness/_kernels.c"],
            # Vectors of 512 bits are passed between functions of this file only.
            extra_compile_args=["-O3", "-Wno-psabi"],
            optional=True,
        )
    ]
)
