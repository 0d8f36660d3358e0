"""A compiled kernel that is broken, foreign or of other sources is not used, and the log says so once.

In processes of their own: a library that is loaded though it is broken can end its process.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dmf_sharpness
from dmf_sharpness.compiled import lanes
from dmf_sharpness.compiled.lanes import LANES, SOURCES, address, aligned

PACKAGE = Path(dmf_sharpness.__file__).parent / "compiled"
KERNEL = lanes.kernel_file()
built = pytest.mark.skipif(not lanes.available(), reason="the kernel was not compiled")

PROGRAM = """
import json, logging, os, sys
from pathlib import Path
import torch
from dmf_sharpness.compiled import lanes
from dmf_sharpness.descent.run import gradient_descent

torch.set_num_threads(1)
W, T = [torch.full((2, 2, 2), 0.5, dtype=torch.float64)] * 2, torch.eye(2, dtype=torch.float64)


def answer(kernel):
    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append([record.name, record.levelname, record.getMessage()])
    logging.getLogger("dmf_sharpness").addHandler(handler)
    lanes.kernel_file = lambda: Path(kernel) if kernel else None
    runs = [gradient_descent(W, T, 0.01, 20) for _ in range(2)]
    assert all(torch.isfinite(run.loss).all() for run in runs)
    refused = ""
    try:
        gradient_descent(W, T, 0.01, 20, engine="compiled")
    except ValueError as error:
        refused = str(error)
    return {"engine": runs[1].engine, "name": lanes.engine_name(), "told": told, "refused": refused}


for kernel in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        print(json.dumps(answer(kernel)), flush=True)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)
"""


def used(*kernels):
    """With each of these libraries: which engine computes, and what is logged."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, kernels)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def assert_replaced(answer, kernel, reason):
    assert "status" not in answer, f"the process ended with {answer['status']}"
    assert answer["engine"] == answer["name"] == "torch"
    assert answer["refused"].startswith("engine: expected a kernel that was built and loads for")
    ((logger, level, message),) = answer["told"]
    assert (logger, level) == ("dmf_sharpness", "WARNING")
    assert message.startswith(
        f"{kernel}: the compiled kernels cannot be used, and PyTorch computes"
    )
    assert "`pip install --editable .` builds them anew" in message
    assert reason in message
    assert "\n" not in message


def renamed(data, old, new):
    assert data.count(old) >= 1
    return data.replace(old, new)


DAMAGES = {
    "empty": (lambda data: b"", "too short"),
    "within the header": (lambda data: data[:40], "too short"),
    "within the table of segments": (lambda data: data[:100], "truncated"),
    # From here on the loader of Linux says nothing, and the process ends with SIGBUS.
    "after 1,000 bytes": (lambda data: data[:1000], "truncated"),
    "after a page": (lambda data: data[:4096], "truncated"),
    "after a part": (lambda data: data[: len(data) // 100], "truncated"),
    "text": (lambda data: b"no library\n" * 100, "invalid ELF header"),
    "zeros": (lambda data: bytes(len(data)), "invalid ELF header"),
    "for 64-bit ARM": (lambda data: data[:18] + b"\xb7" + data[19:], ""),
    "for 32 bits": (lambda data: data[:4] + b"\x01" + data[5:], "ELF"),
    "for another byte order": (lambda data: data[:5] + b"\x02" + data[6:], "ELF"),
    "without descend": (lambda data: renamed(data, b"\0descend\0", b"\0descent\0"), "descend"),
    "without a digest": (
        lambda data: renamed(data, b"\0source_digest\0", b"\0source_digets\0"),
        "source_digest",
    ),
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """What came of each of the damaged libraries."""
    folder, data = tmp_path_factory.mktemp("damaged"), KERNEL.read_bytes()
    kernels = [folder / f"{name}.so" for name in DAMAGES]
    for kernel, (damage, _) in zip(kernels, DAMAGES.values(), strict=True):
        kernel.write_bytes(damage(data))
    return dict(zip(DAMAGES, zip(kernels, used(*kernels), strict=True), strict=True))


@built
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the file format of Linux")
@pytest.mark.parametrize("name", DAMAGES)
def test_a_library_that_does_not_load_is_replaced_by_pytorch(name, damaged):
    kernel, answer = damaged[name]
    assert_replaced(answer, kernel, DAMAGES[name][1])


@built
def test_a_library_that_cannot_be_read_is_replaced_by_pytorch(tmp_path):
    assert_replaced(used(tmp_path)[0], tmp_path, "director")


@built
def test_a_library_of_other_sources_than_those_beside_it_is_not_used(tmp_path):
    """An edited source that nobody compiled was computed with, silently, as it had been before."""
    kernels = []
    for edited in (None, *SOURCES):
        folder = tmp_path / f"{edited}"
        folder.mkdir()
        for name in SOURCES:
            shutil.copy(PACKAGE / name, folder)
        if edited:
            with (folder / edited).open("a") as file:
                file.write("/* an afterthought */\n")
        kernels.append(shutil.copy(KERNEL, folder))
    unedited, *answers = used(*kernels)
    assert (unedited["engine"], unedited["told"]) == ("compiled", [])
    for kernel, answer in zip(kernels[1:], answers, strict=True):
        assert_replaced(answer, kernel, "built of other sources than the _kernels.c, _descent.h")


@pytest.mark.skipif(KERNEL is None, reason="no compiler when the package was installed")
def test_kernels_that_were_built_are_used():
    """Most tests of them are skipped where they are not available, which must have a reason."""
    assert lanes.available()
    assert lanes.engine_name() == "compiled"
    assert lanes.loaded_library() is lanes.library()


@built
def test_a_library_without_sources_beside_it_is_used(tmp_path):
    """As in an installation that brings the library only."""
    (answer,) = used(shutil.copy(KERNEL, tmp_path))
    assert (answer["engine"], answer["name"], answer["told"]) == ("compiled", "compiled", [])


def test_where_nothing_was_compiled_pytorch_computes_without_a_word():
    (answer,) = used("")
    assert (answer["engine"], answer["name"], answer["told"]) == ("torch", "torch", [])


@pytest.mark.parametrize(
    "make",
    [
        lambda: aligned(2, 3, LANES, dtype=torch.float32),
        lambda: aligned(2, 3, LANES, dtype=torch.int64),
        lambda: aligned(2, 3, LANES - 1),
        lambda: aligned(1, 3, LANES),
        lambda: aligned(6, LANES),
        lambda: aligned(2, LANES, 3).mT,
        lambda: aligned(2, 3, 2 * LANES)[..., ::2],
        lambda: aligned(1, 3, LANES).expand(2, 3, LANES),
        lambda: aligned(2 * 3 * LANES + 1)[1:].reshape(2, 3, LANES),
        lambda: torch.empty(2, 3, LANES, dtype=torch.float64, device="meta"),
        lambda: torch._neg_view(aligned(2, 3, LANES)),
    ],
)
def test_no_address_is_handed_out_of_memory_that_compiled_code_would_misread(make):
    with pytest.raises(ValueError, match=r"^compiled kernels: expected .*, got .*$"):
        address(make(), 2, 3, LANES)
    right = aligned(2, 3, LANES)
    assert address(right, 2, 3, LANES) == right.data_ptr()
    assert address(aligned(2, 0, LANES), 2, 0, LANES) == 0
