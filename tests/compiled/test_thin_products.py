"""The compiled product of a layer with few columns, against PyTorch's on random shapes."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import dmf_sharpness
from dmf_sharpness.compiled import lanes
from dmf_sharpness.hessian import thin_products
from dmf_sharpness.hessian.thin_products import compiled_times, times
from dmf_sharpness.network.factors import torch_times
from tests.compiled.test_sanitizers import CHECKED, FLAGS, GCC

built = pytest.mark.skipif(not lanes.available(), reason="the kernel was not compiled")
# Sizes around the edges of tiles (3 and 12), panels (96), strips (128) and blocks (256).
SIZES = st.one_of(st.integers(1, 40), st.integers(90, 140), st.integers(250, 300))
COLUMNS = st.one_of(st.integers(1, 20), st.integers(90, 110), st.just(200))


def matrices(m, n, k, seed, offset=0):
    """A layer and a matrix with few columns; their memory begins ``offset`` numbers after a cache line."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(rows, columns):
        numbers = torch.empty(rows * columns + offset, dtype=torch.float64).normal_(
            generator=generator
        )
        return numbers[offset:].reshape(rows, columns)

    return drawn(m, n), drawn(k, n).mT


@built
@settings(max_examples=150, deadline=None)
@given(
    m=SIZES,
    n=SIZES,
    k=COLUMNS,
    seed=st.integers(0, 2**32),
    offset=st.integers(0, 7),
    flipped=st.booleans(),
    by_rows=st.booleans(),
)
@example(m=257, n=1, k=1, seed=0, offset=1, flipped=False, by_rows=False)
@example(m=1, n=257, k=97, seed=0, offset=1, flipped=True, by_rows=True)
def test_a_compiled_product_is_the_product_to_rounding(m, n, k, seed, offset, flipped, by_rows):
    W, X = matrices(m, n, k, seed, offset)
    if flipped:
        W = W.mT.contiguous().mT
    if by_rows:
        X = X.contiguous()
    found = compiled_times(W, X)
    assert found.shape == (m, k)
    assert found.mT.is_contiguous()
    # Either sum of n products has an error of at most n ε Σ |terms|, in whatever order it is added up.
    bound = 2 * n * torch.finfo(torch.float64).eps * (W.abs() @ X.abs())
    assert bool(((found - W @ X).abs() <= bound).all())


@built
@settings(max_examples=60, deadline=None)
@given(m=SIZES, n=SIZES, k=st.integers(1, 9), flipped=st.booleans(), data=st.data())
def test_what_is_not_finite_reaches_the_entries_that_depend_on_it_and_no_other(
    m, n, k, flipped, data
):
    W, X = matrices(m, n, k, 0)
    i, term = data.draw(st.integers(0, m - 1)), data.draw(st.integers(0, n - 1))
    value = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    in_layer = data.draw(st.booleans())
    if in_layer:
        W[i, term] = value
    else:
        X[term, i % k] = value
    expected = torch.zeros(m, k, dtype=torch.bool)
    if in_layer:
        expected[i] = True
    else:
        expected[:, i % k] = True
    if flipped:
        W = W.mT.contiguous().mT
    assert torch.equal(~compiled_times(W, X).isfinite(), expected)


@built
@settings(max_examples=40, deadline=None)
@given(m=SIZES, n=SIZES, k=COLUMNS, flipped=st.booleans(), threads=st.integers(2, 70))
def test_the_result_does_not_depend_on_the_number_of_threads(m, n, k, flipped, threads):
    W, X = matrices(m, n, k, 1)
    if flipped:
        W = W.mT.contiguous().mT
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = compiled_times(W, X)
        torch.set_num_threads(threads)
        assert torch.equal(compiled_times(W, X), alone)
    finally:
        torch.set_num_threads(before)


@built
def test_a_large_product_with_few_columns_is_compiled(monkeypatch):
    used = []

    def noted(W, X):
        used.append(tuple(W.shape))
        return compiled_times(W, X)

    monkeypatch.setattr(thin_products, "compiled_times", noted)
    monkeypatch.setattr(lanes.loaded_library(), "thin_product_is_fast", lambda: 1)
    W, X = matrices(600, 520, 5, 0)
    for layer in (W, W.mT.contiguous().mT):
        assert torch.allclose(times(layer, X), W @ X, rtol=1e-12, atol=1e-12)
    assert used == [(600, 520)] * 2
    trained = W.clone().requires_grad_()
    others = [
        (W[:100], X),
        (W, X.repeat(1, 20)),
        (W, X[:, :1]),
        (W[:, :100].contiguous(), X[:100]),
        (W[:, ::2], X[::2]),
        (W.float(), X.float()),
        (trained, X),
        (torch._neg_view(W), X),
        (W.expand(2, 600, 520), X),
    ]
    for layer, columns in others:
        assert torch.equal(times(layer, columns), torch_times(layer, columns))
    assert len(used) == 2
    times(trained, X).sum().backward()
    assert trained.grad is not None


@built
@pytest.mark.parametrize(
    "wrong",
    [
        lambda W, X: (W[:, ::2], X[::2]),
        lambda W, X: (W.float(), X),
        lambda W, X: (W, X.float()),
        lambda W, X: (W, X[1:]),
        lambda W, X: (W[None], X),
        lambda W, X: (W, X[:, 0]),
        lambda W, X: (torch._neg_view(W), X),
        lambda W, X: (W.to("meta"), X),
    ],
)
def test_memory_that_compiled_code_would_misread_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^thin product: expected .*, got .*$"):
        compiled_times(*wrong(*matrices(30, 20, 4, 0)))


@built
def test_too_little_memory_is_no_error(monkeypatch):
    monkeypatch.setattr(lanes.loaded_library(), "thin_product", lambda *given: 1)
    monkeypatch.setattr(lanes.loaded_library(), "thin_product_is_fast", lambda: 1)
    W, X = matrices(600, 520, 5, 0)
    assert compiled_times(W, X) is None
    assert torch.equal(times(W, X), torch_times(W, X))


PROGRAM = """
import ctypes, random, sys

product = ctypes.CDLL(sys.argv[1]).thin_product
Integer, Address = ctypes.c_int64, ctypes.c_void_p
product.argtypes = (ctypes.c_int, *(Integer,) * 3, *(Address,) * 3, Integer, Address)
memory = ctypes.CDLL(None)
memory.malloc.argtypes, memory.malloc.restype = (ctypes.c_size_t,), Address
memory.free.argtypes = (Address,)


def numbers(count):
    # Memory of the allocator that the sanitizer watches, without a number to spare.
    start = memory.malloc(8 * count)
    (ctypes.c_double * count).from_address(start)[:] = [1.0] * count
    return start


random.seed(0)
sizes = [*range(1, 30), 95, 96, 97, 127, 128, 129, 255, 256, 257, 300]
for _ in range(150):
    rows, inner = random.choice(sizes), random.choice(sizes)
    columns = random.choice([1, 2, 3, 4, 5, 9, 97])
    for transposed in (0, 1):
        W, Y, out = map(numbers, (rows * inner, inner * columns, rows * columns))
        assert product(transposed, rows, inner, columns, W, Y, out, 3, None) == 0
        assert set((ctypes.c_double * (rows * columns)).from_address(out)) == {float(inner)}
        for start in (W, Y, out):
            memory.free(start)
"""


def checked(folder, *fault):
    """The product with sanitizers, and perhaps with a fault, run on memory without a number to spare."""
    source = Path(dmf_sharpness.__file__).parent / "compiled" / "_thin.c"
    text = source.read_text(encoding="utf-8")
    if fault:
        assert text.count(fault[0]) == 1
        text = text.replace(*fault)
    (folder / "_thin.c").write_text(text, encoding="utf-8")
    library = folder / "thin.so"
    command = [GCC, *FLAGS, *CHECKED, f"-I{source.parent}", str(folder / "_thin.c")]
    subprocess.run([*command, "-o", str(library)], check=True)
    found = subprocess.run(
        [GCC, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(library)],
        env=os.environ
        | {
            "LD_PRELOAD": found.stdout.strip(),
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(
    GCC is None or not shutil.which("gcc") or not sys.platform.startswith("linux"),
    reason="no gcc on Linux",
)
def test_the_product_reads_and_writes_no_memory_but_its_own(tmp_path):
    run = checked(tmp_path)
    assert run.returncode == 0, run.stderr
    assert "runtime error" not in run.stderr
    wrong = checked(tmp_path, "j += STRIP)", "j += STRIP - GROUP)")
    assert wrong.returncode != 0
