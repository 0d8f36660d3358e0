"""Arguments of gradient descent that fit give the same run in any form, whichever engine computes."""

import math

import numpy as np
import pytest
import torch

from dmf_sharpness.descent import compiled_engine
from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import flatten
from tests.descent.calls import BATCH, ENGINES, N, call, compiled, data, ones, same, starts


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


def test_only_entries_without_weight_may_be_missing():
    target = gaussian_matrix(2, 2, 0)
    target[0, 1] = math.nan
    weights = torch.tensor([[1.0, 0.0], [2.0, 0.5]], dtype=torch.float64)
    same(call(target=target, observed=weights), call(observed=weights))


def test_the_size_of_a_minibatch_may_be_an_integer_of_numpy():
    same(call(**data(size=np.int64(3), seed=np.uint32(0))), call(**data()))


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
    assert call(**data()).engine == call().engine
