"""Arguments of gradient descent that do not fit are refused in one line, whichever engine computes."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.minimizers.targets import gaussian_matrix
from tests.descent.calls import BATCH, ENGINES, N, call, data, ones

SHAPES = {
    "target": (2, 2),
    "input_root": (2, 2),
    "reference": (BATCH, N),
    "directions": (BATCH, 1, N),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.half, torch.int64, torch.bool, torch.complex128]
)
def test_a_tensor_of_another_type_is_refused_and_never_read_as_float64(engine, name, dtype):
    """The compiled engine read float32 beyond its end: another result at every run."""
    with pytest.raises(
        TypeError, match=rf"^{name}: expected a tensor of torch.float64, got {dtype}$"
    ):
        call(engine=engine, observe_every=10, **{name: ones(*SHAPES[name], dtype=dtype)})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", ["list", "numpy", "sparse", "meta", "infinite"])
def test_a_tensor_of_another_kind_is_refused(engine, name, kind):
    value = {
        "list": [[1.0]],
        "numpy": np.ones(SHAPES[name]),
        "sparse": ones(*SHAPES[name]).to_sparse(),
        "meta": ones(*SHAPES[name], device="meta"),
        "infinite": ones(*SHAPES[name]) * math.inf,
    }[kind]
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected .*, got .*$"):
        call(engine=engine, observe_every=10, **{name: value})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("target", (2,)),
        ("target", (2, 3)),
        ("target", (3, 2, 2)),
        ("target", (1, BATCH, 2, 2)),
        ("input_root", (3, 2)),
        ("input_root", (BATCH, 2, 2)),
        ("input_root", (1, 2, 2)),
        ("input_root", (2,)),
        ("input_root", (2, 0)),
        ("reference", ()),
        ("reference", (1,)),
        ("reference", (BATCH, 1)),
        ("reference", (BATCH, N + 1)),
        ("reference", (1, BATCH, N)),
        ("directions", (BATCH, N)),
        ("directions", (1, 1, N)),
        ("directions", (BATCH, 1, N + 1)),
        ("step_size", (BATCH + 1,)),
        ("step_size", (BATCH, 1)),
        ("step_size", (0,)),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(engine, name, shape):
    """A batched input root was taken as its first member by one engine, as one for each by the other."""
    with pytest.raises(ValueError, match=rf"^{name}: expected .*, got .*$"):
        call(engine=engine, observe_every=10, **{name: ones(*shape)})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"steps": 0}, ValueError),
        ({"steps": -1}, ValueError),
        ({"steps": 2**63}, ValueError),
        ({"steps": 50.0}, TypeError),
        ({"steps": True}, TypeError),
        ({"steps": None}, TypeError),
        ({"steps": "50"}, TypeError),
        ({"observe_every": -1}, ValueError),
        ({"observe_every": 0}, ValueError),
        ({"observe_every": 2.5}, TypeError),
        ({"observe_every": True}, TypeError),
        ({"observe_every": math.nan}, TypeError),
        ({"observe_every": 2**64}, ValueError),
        ({"step_size": 0}, ValueError),
        ({"step_size": [1e-3, -1e-3, 1e-3, 1e-3]}, ValueError),
        ({"step_size": math.inf}, ValueError),
        ({"step_size": "1e-3"}, TypeError),
        ({"step_size": 1e-3j}, TypeError),
        ({"step_size": True}, TypeError),
        ({"step_size": None}, TypeError),
        ({"momentum": math.nan}, ValueError),
        ({"momentum": 1}, ValueError),
        ({"momentum": -0.1}, ValueError),
        ({"momentum": "0.9"}, TypeError),
        ({"momentum": False}, TypeError),
        ({"nesterov": 1, "momentum": 0.5}, TypeError),
        ({"keep_path": None}, TypeError),
        ({"measure": 3, "observe_every": 10}, TypeError),
        ({"minibatch": (ones(2, 9), ones(2, 9), 3, 0)}, TypeError),
        ({"factors": torch.ones(4, 2, 2, dtype=torch.float64)}, TypeError),
        ({"factors": [ones(0, 2, 2)]}, ValueError),
        ({"factors": [ones(4, 3, 2), ones(4, 2, 4)]}, ValueError),
        ({"factors": [ones(4, 0, 2), ones(4, 2, 0)]}, ValueError),
        ({"factors": [ones(4, 2, 2), ones(3, 2, 2)]}, ValueError),
    ],
    ids=str,
)  # fmt: skip
def test_a_number_out_of_range_or_of_another_type_is_refused_in_one_line(engine, change, error):
    """``observe_every=-1`` ended the process, 0 and 2.5 in a division and a step of the code inside."""
    name = next(iter(change))
    with pytest.raises(error, match=rf"^{name}\b.*: expected .*, got .*$") as told:
        call(engine=engine, **change)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("engine", ["gpu", "", "Torch", None, 3, "compiled "])
def test_an_unknown_engine_is_refused(engine):
    with pytest.raises(
        (TypeError, ValueError), match=r"^engine: expected one of \['auto', .*, got .*$"
    ):
        call(engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("measure", "error"),
    [
        (lambda W: W[0][:, 0, 0], ValueError),
        (lambda W: W[0], ValueError),
        (lambda W: W[0][:1, 0], ValueError),
        (lambda W: W[0][0, :1, :1].repeat(len(W[0]) + 1, 1), ValueError),
        (lambda W: W[0][:, 0].float(), TypeError),
        (lambda W: W[0][:, 0].numpy(), TypeError),
        (lambda W: W[0][:, 0].to_sparse(), TypeError),
        (lambda W: (W[0][:, 0], 1), TypeError),
        (lambda W: 1.0, TypeError),
        (lambda W: None, TypeError),
    ],
)
def test_a_measure_returns_a_row_of_numbers_for_each_iterate(engine, measure, error):
    """``(n,)`` made a table of ``(K, B, n)``."""
    with pytest.raises(error, match=r"^measure: expected .*, got .*$"):
        call(engine=engine, observe_every=10, measure=measure)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_measure_keeps_its_number_of_columns(engine):
    seen = []

    def measure(W):
        seen.append(W)
        return W[0][:, 0, : len(seen)]

    with pytest.raises(ValueError, match=r"^measure: expected shape \(\d+, 1\), got \(\d+, 2\)$"):
        call(engine=engine, observe_every=1, measure=measure, steps=6000, step_size=1e-7)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"size": True}, TypeError),
        ({"size": 2.0}, TypeError),
        ({"size": 0}, ValueError),
        ({"size": 10}, ValueError),
        ({"seed": -1}, ValueError),
        ({"seed": None}, TypeError),
        ({"inputs": ones(2, 9, dtype=torch.float32)}, TypeError),
        ({"inputs": ones(3, 9)}, ValueError),
        ({"inputs": ones(2, 0), "outputs": ones(2, 0)}, ValueError),
        ({"inputs": ones(2, 9) * math.nan}, ValueError),
        ({"outputs": ones(2, 8)}, ValueError),
        ({"outputs": ones(9, 2)}, ValueError),
        ({"outputs": np.ones((2, 9))}, TypeError),
    ],
    ids=str,
)
def test_a_minibatch_that_does_not_fit_is_refused(changes, error):
    with pytest.raises(error, match=r"^minibatch: .*: expected .*, got .*$"):
        call(**data(**changes))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("observed", "error"),
    [
        ([[True, True], [True, True]], TypeError),
        (ones(2, 2, dtype=torch.int64), TypeError),
        (ones(2, 2, dtype=torch.float32), TypeError),
        (ones(2, 3), ValueError),
        (ones(2), ValueError),
        (ones(BATCH + 1, 2, 2), ValueError),
        (ones(2, 2) * math.nan, ValueError),
        (ones(2, 2) * math.inf, ValueError),
        (torch.tensor([[1.0, -1e-300], [1.0, 1.0]], dtype=torch.float64), ValueError),
        (0 * ones(2, 2), ValueError),
        (~ones(2, 2, dtype=torch.bool), ValueError),
        (torch.cat([ones(BATCH - 1, 2, 2), 0 * ones(1, 2, 2)]), ValueError),
    ],
    ids=lambda value: f"{tuple(value.shape)}" if isinstance(value, torch.Tensor) else None,
)
def test_weights_that_do_not_fit_are_refused(engine, observed, error):
    with pytest.raises(error, match=r"^observed: expected .*, got .*$"):
        call(engine=engine, observed=observed)


def test_an_observed_entry_that_is_missing_is_refused():
    target = gaussian_matrix(2, 2, 0)
    target[0, 1] = math.nan
    weights = ones(2, 2)
    with pytest.raises(ValueError, match=r"^target: expected finite values, got NaN or Inf$"):
        call(target=target, observed=weights)


def test_weights_are_refused_beside_a_minibatch():
    with pytest.raises(ValueError, match=r"^observed: expected None beside minibatch, got .*$"):
        call(**data(), observed=ones(2, 2))


def test_the_compiled_engine_says_what_it_cannot_do():
    deep = [ones(1, 1, 1)] * 257
    assert gradient_descent(deep, ones(1, 1), 1e-9, 3).engine == "torch"
    with pytest.raises(ValueError, match=r"^engine: expected at most 256 layers .*, got .*$"):
        gradient_descent(deep, ones(1, 1), 1e-9, 3, engine="compiled")


CROWDED = """
import resource, sys, torch
from pathlib import Path
from dmf_sharpness.descent.run import gradient_descent

torch.set_num_threads(1)
W = [torch.full((1, 600, 600), 1e-3, dtype=torch.float64)] * 2
gradient_descent(W, W[0][0], 1e-9, 1, engine=sys.argv[1])
pages = int(Path("/proc/self/statm").read_text().split()[0])
room = pages * resource.getpagesize() + 2**28
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    gradient_descent(W, W[0][0], 1e-9, 100, engine=sys.argv[1], observe_every=1, keep_path=True)
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits memory as Linux does")
@pytest.mark.parametrize("engine", ENGINES)
def test_observations_that_do_not_fit_into_memory_are_one_line(engine):
    run = subprocess.run(
        [sys.executable, "-c", CROWDED, engine], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(
        r"gradient_descent: expected memory .*, got none for \d+ bytes\n", run.stdout
    )
