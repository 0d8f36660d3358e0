"""No argument of gradient descent is read as something that it is not, whichever engine computes."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dmf_sharpness.descent import compiled_engine
from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.descent.state import Minibatch
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import flatten, unflatten
from tests.helpers import random_point

compiled = pytest.mark.skipif(not compiled_engine.available(), reason="the kernel was not compiled")
ENGINES = [pytest.param("compiled", marks=compiled), "torch"]
NETWORK, BATCH = (2, 3, 2), 4
N = 12


def starts(network=NETWORK, batch=BATCH):
    points = torch.stack([0.4 * flatten(random_point(network, seed)) for seed in range(batch)])
    return unflatten(points, network)


def call(**changes):
    arguments = {
        "factors": starts(),
        "target": gaussian_matrix(2, 2, 0),
        "step_size": 1e-3,
        "steps": 50,
    }
    return gradient_descent(**(arguments | changes))


def same(ours, expected):
    assert torch.equal(flatten(ours.factors), flatten(expected.factors))
    assert torch.equal(ours.outcome, expected.outcome)
    assert torch.equal(ours.steps, expected.steps)


def ones(*shape, dtype=torch.float64, device="cpu"):
    return torch.ones(shape, dtype=dtype, device=device)


def data(count=9, **changes):
    fields = {
        "inputs": gaussian_matrix(2, count, 1),
        "outputs": gaussian_matrix(2, count, 2),
        "size": 3,
        "seed": 0,
    }
    return {"minibatch": Minibatch(**(fields | changes)), "engine": "auto"}


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
def test_numbers_of_numpy_and_pytorch_are_numbers(engine):
    expected = call(engine=engine, momentum=0.5, observe_every=3)
    for steps in (np.int64(50), np.uint8(50), torch.tensor(50), np.array(50)):
        same(
            call(engine=engine, momentum=np.float32(0.5), observe_every=np.int32(3), steps=steps),
            expected,
        )
    plain = call(engine=engine)
    each = torch.full((1,), 1e-3, dtype=torch.float64).expand(BATCH)
    for eta in (
        [1e-3] * 4,
        (1e-3,) * 4,
        np.full(4, 1e-3),
        np.full(8, 1e-3)[::2],
        np.float64(1e-3),
        each,
    ):
        same(call(engine=engine, step_size=eta), plain)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_float32_step_size_is_the_number_it_is(engine):
    expected = call(engine=engine, step_size=8589935 / 2**33)  # 0.001 in 24 bits
    for single in (
        torch.full((BATCH,), 1e-3),
        torch.tensor(1e-3),
        np.full(BATCH, 1e-3, np.float32),
    ):
        same(call(engine=engine, step_size=single), expected)


STRIDES = {
    "transposed": lambda x: x.mT.contiguous().mT if x.ndim > 1 else x,
    "sliced": lambda x: torch.stack([x, x], -1)[..., 0],
    "parameter": lambda x: torch.nn.Parameter(x),
    "with a graph": lambda x: x.clone().requires_grad_() * 1.0,
    "backwards": lambda x: torch.from_numpy(x.numpy()[..., ::-1].copy()).flip(-1),
    "imaginary part": lambda x: torch.complex(x, -x).conj().imag,
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("make", STRIDES.values(), ids=STRIDES.keys())
def test_tensors_of_any_strides_and_with_graphs_give_the_same(engine, make):
    given = {
        "target": gaussian_matrix(2, 3, 0).expand(BATCH, 2, 3),
        "input_root": gaussian_matrix(2, 3, 1),
        "reference": gaussian_matrix(BATCH, N, 2),
        "directions": gaussian_matrix(BATCH, 2 * N, 3).reshape(BATCH, 2, N),
        "step_size": torch.full((BATCH,), 1e-3, dtype=torch.float64),
    }
    asked = {"engine": engine, "observe_every": 7, "keep_path": True, "momentum": 0.5}
    expected = call(**given, **asked)
    strange = call(
        factors=[make(W) for W in starts()], **{k: make(v) for k, v in given.items()}, **asked
    )
    same(strange, expected)
    for name in ("loss", "distance", "projections", "path"):
        ours = getattr(strange.trajectory, name)
        assert not ours.requires_grad
        assert torch.equal(ours, getattr(expected.trajectory, name))
    assert not any(W.requires_grad for W in strange.factors)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_reference_for_all_runs(engine):
    point = gaussian_matrix(1, N, 2)
    expected = call(engine=engine, observe_every=10, reference=point.repeat(BATCH, 1)).trajectory
    for reference in (point, point[0]):
        ours = call(engine=engine, observe_every=10, reference=reference).trajectory
        assert torch.equal(ours.distance, expected.distance)


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


@pytest.mark.parametrize("engine", ENGINES)
def test_a_measure_may_return_what_is_not_finite_and_carries_no_graph(engine):
    def measure(W):
        W[0].requires_grad_()
        return torch.stack([W[0][:, 0, 0] * 0 / 0, W[1].sum((1, 2))], 1)

    measured = call(engine=engine, observe_every=10, measure=measure).trajectory.measured
    assert measured.shape == (6, BATCH, 2)
    assert not measured.requires_grad
    assert measured[..., 0].isnan().all()
    assert measured[..., 1].isfinite().all()


@pytest.mark.parametrize("engine", ENGINES)
def test_observations_may_be_further_apart_than_the_engine_goes_at_once(engine):
    """It ended in a reshape of the code inside: some stretches of 2,000 steps hold no time."""
    run = call(
        engine=engine, steps=6000, step_size=1e-5, observe_every=5000, keep_path=True,
        measure=lambda W: W[0][:, 0],
    )  # fmt: skip
    path = run.trajectory
    assert path.step.tolist() == [0, 5000]
    assert torch.equal(path.measured, path.path[..., :2])
    far = call(engine=engine, observe_every=2**63 - 1, keep_path=True, steps=2100)
    assert far.trajectory.step.tolist() == [0]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_default_device_and_type_do_not_matter(engine):
    """With ``meta`` as the default device, compiled code was handed addresses of no memory."""
    asked = {"engine": engine, "observe_every": 10, "keep_path": True, "momentum": 0.5}
    expected = call(**asked)
    given = {"factors": starts(), "target": gaussian_matrix(2, 2, 0)}
    with torch.device("meta"):
        ours = gradient_descent(**given, step_size=1e-3, steps=50, **asked)
    same(ours, expected)
    assert torch.equal(ours.trajectory.path, expected.trajectory.path)
    assert torch.equal(ours.trajectory.step, expected.trajectory.step)


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


def test_the_size_of_a_minibatch_may_be_an_integer_of_numpy():
    same(call(**data(size=np.int64(3), seed=np.uint32(0))), call(**data()))


def test_the_compiled_engine_says_what_it_cannot_do():
    with pytest.raises(
        ValueError, match=r"^engine: expected no minibatch .*for 'compiled', got .*$"
    ):
        call(**data() | {"engine": "compiled"})
    deep = [ones(1, 1, 1)] * 257
    assert gradient_descent(deep, ones(1, 1), 1e-9, 3).engine == "torch"
    with pytest.raises(ValueError, match=r"^engine: expected at most 256 layers .*, got .*$"):
        gradient_descent(deep, ones(1, 1), 1e-9, 3, engine="compiled")


@compiled
def test_the_deepest_network_of_the_compiled_engine():
    deep = [ones(1, 1, 1)] * 256
    run = [
        gradient_descent(deep, 0.5 * ones(1, 1), 1e-6, 9, engine=e) for e in ("compiled", "torch")
    ]
    torch.testing.assert_close(flatten(run[0].factors), flatten(run[1].factors), rtol=1e-13, atol=0)


def test_a_run_names_its_engine():
    assert call(engine="torch").engine == "torch"
    assert call().engine == ("compiled" if compiled_engine.available() else "torch")
    assert call(**data()).engine == "torch"


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
