"""The C code with address and undefined-behaviour sanitizers, under calls with arguments nobody checked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dmf_sharpness
from dmf_sharpness.compiled.lanes import SOURCES

ROOT, PACKAGE = Path(__file__).parents[2], Path(dmf_sharpness.__file__).parent
GCC = shutil.which("gcc")
pytestmark = [
    pytest.mark.skipif(GCC is None, reason="no gcc"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="preloads as Linux does"),
]
# The loader picks clones of functions before the sanitizers are ready; one version will do.
FLAGS = ["-g", "-O0", "-fPIC", "-shared", "-Wno-psabi", "-pthread", "-DDMF_NO_CLONES"]
CHECKED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Two libraries with faults: in the first the kernels read too far, in the second a sum overflows.
FAULTS = [
    {
        "_descent.h": ("AT(p->eta, b)", "AT(p->eta, b + 1)"),
        "_top_pairs.c": ("((const lanes *)p->start)[i]", "((const lanes *)p->start)[i + 1]"),
    },
    {
        "_descent.h": (
            "    const int64_t last_step = p->first_step + p->steps;\n",
            "    volatile int64_t most = INT64_MAX;\n    most += p->steps;\n"
            "    const int64_t last_step = p->first_step + p->steps;\n",
        ),
        "_single.c": (
            "    if (!in_range(p))\n",
            "    volatile int64_t most = INT64_MAX;\n    most += p->depth;\n"
            "    if (!in_range(p))\n",
        ),
    },
]
FUNCTIONS = {"gradient_descent": {"_descent.h"}, "sharpness": {"_top_pairs.c", "_single.c"}}


def located(name):
    """A library of the compiler's, for the loader."""
    answer = subprocess.run(
        [GCC, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def built(folder, faults):
    """The kernels with sanitizers, and with faults."""
    for name in SOURCES:
        source = (PACKAGE / "compiled" / name).read_text(encoding="utf-8")
        if name in faults:
            assert source.count(faults[name][0]) == 1
            source = source.replace(*faults[name])
        (folder / name).write_text(source, encoding="utf-8")
    library = folder / "library" / "kernels.so"  # not beside its sources: it has no digest of them
    library.parent.mkdir()
    compiled = [str(folder / name) for name in SOURCES if name.endswith(".c")]
    subprocess.run([GCC, *FLAGS, *CHECKED, *compiled, "-o", str(library)], check=True)
    return library


def fuzzed(library, calls, *functions):
    """Calls with these kernels, in processes with the sanitizers' runtime."""
    # The runtime looks for C++'s exceptions when it starts, and PyTorch throws some.
    runtime = f"{located('libasan.so')} {located('libstdc++.so.6')}"
    options = {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python frees little at its end
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    command = [sys.executable, "-m", "tests.fuzz", "--large", "--kernels", str(library)]
    return subprocess.run(
        [*command, "--calls", str(calls), *functions],
        cwd=ROOT,
        env=os.environ | options,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_sanitizers_find_nothing(tmp_path):
    run = fuzzed(built(tmp_path, {}), 200, "gradient_descent", "sharpness")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "runtime error" not in run.stderr
    assert "AddressSanitizer" not in run.stderr


@pytest.mark.parametrize(
    ("faults", "found"),
    [(FAULTS[0], "heap-buffer-overflow"), (FAULTS[1], "signed integer overflow")],
)
def test_the_sanitizers_find_faults_that_were_put_there(faults, found, tmp_path):
    library = built(tmp_path, faults)
    for function, files in FUNCTIONS.items():
        run = fuzzed(library, 100, function)
        assert (run.returncode != 0) == bool(files & set(faults)), run.stdout
        for file in files & set(faults):
            assert "the process ended with" in run.stdout
            assert found in run.stderr
            assert file in run.stderr
