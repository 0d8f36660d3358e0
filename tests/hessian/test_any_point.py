"""The sharpness where the exact expression does not hold."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.hessian import any_point
from dmf_sharpness.minimizers.targets import gaussian_matrix, orthogonal_matrix
from dmf_sharpness.network.factors import end_to_end, flatten, unflatten
from dmf_sharpness.network.loss import gradient
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.oracles import dense_hessian
from tests.exact import exact_sharpness, relative_error
from tests.helpers import networks, random_point, random_problem


@given(networks(), st.integers(0, 99))
def test_any_point_is_the_dense_hessians(widths, seed):
    factors = random_point(widths, seed)
    target = gaussian_matrix(widths[-1], widths[0], seed)
    hessian = dense_hessian(factors, target)
    s = dmf.sharpness_at(factors, target)
    assert s.value == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-10)
    v = flatten(s.eigenvector)
    assert float((hessian @ v - s.value * v).norm()) <= 1e-10 * abs(s.value)
    assert s.converged


def test_large_points_iterate():
    factors = random_point((6, 20, 20, 6), 1)
    target = gaussian_matrix(6, 6, 2)
    s = dmf.sharpness_at(factors, target)
    assert s.method == "lanczos"
    assert s.converged
    oracle = torch.linalg.eigvalsh(dense_hessian(factors, target))[-1]
    assert s.value == pytest.approx(float(oracle), rel=1e-10)


def test_with_data():
    X, Y = gaussian_matrix(4, 9, 1), gaussian_matrix(3, 9, 2)
    factors = random_point((4, 5, 5, 3), 3)
    solution = Y @ torch.linalg.pinv(X)
    s = dmf.sharpness_at(factors, solution, X @ X.mT)
    hessian = dense_hessian(factors, Y, X)
    assert s.value == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-10)


@given(networks(), st.integers(0, 99))
def test_at_a_minimizer_it_is_the_expression(widths, seed):
    target, factors = random_problem(widths, seed)
    s = dmf.sharpness_at(factors, target)
    assert s.value == pytest.approx(dmf.sharpness(factors).value, rel=1e-10)
    assert s.gradient_norm < 1e-9 * (1 + s.value)


@pytest.mark.parametrize("hidden", [(5, 1), (2, 2), (6, 2, 6), (2,), (2, 6, 2)])
def test_bottlenecks(hidden):
    target = gaussian_matrix(5, 4, 3)
    factors = dmf.bottlenecked_minimizer(target, hidden, 1)
    values = torch.linalg.svdvals(target)
    least = float(values[min(hidden) :].square().sum())
    assert float((target - end_to_end(factors)).square().sum()) == pytest.approx(least, rel=1e-12)
    s = dmf.sharpness_at(factors, target)
    assert s.gradient_norm < 1e-10
    oracle = float(torch.linalg.eigvalsh(dense_hessian(factors, target))[-1])
    assert s.value == pytest.approx(oracle, rel=1e-10)
    exact = dmf.sharpness(factors).value
    if hidden[0] == hidden[-1] == min(hidden):
        assert exact == pytest.approx(oracle, rel=1e-12)
    else:
        assert abs(exact / oracle - 1) > 1e-9
    with pytest.raises(ValueError, match="target: expected factors whose product fits it"):
        dmf.sharpness(factors, target=target)


def test_a_bottleneck_needs_a_narrow_layer():
    with pytest.raises(ValueError, match="widths: expected a least hidden width of 1 to 3"):
        dmf.bottlenecked_minimizer(gaussian_matrix(5, 4, 3), [4, 5], 1)


def test_bad_points():
    target, factors = random_problem((3, 4, 2), 0)
    with pytest.raises(ValueError, match=r"tolerance: expected .*above 0, got -1"):
        dmf.sharpness_at(factors, target, tolerance=-1)


def collinear(kappa, samples=8, seed=1):
    """Inputs whose singular values are 1, 0.3 and 1/κ, outputs, and factors off every minimum."""
    U, V = orthogonal_matrix(3, seed), orthogonal_matrix(samples, seed + 1)[:, :3]
    X = (U * torch.tensor([1, 0.3, 1 / kappa], dtype=torch.float64)) @ V.mT
    return X, gaussian_matrix(2, samples, seed + 2), random_point((3, 2, 2), seed)


@pytest.mark.parametrize("kappa", [1e2, 1e6, 1e8, 1e10, 1e14])
@pytest.mark.parametrize("samples", [8, 4])
def test_outputs_beside_a_root_keep_every_digit_of_nearly_collinear_inputs(kappa, samples):
    X, Y, factors = collinear(kappa, samples)
    exact = exact_sharpness(factors, X, Y)
    s = dmf.sharpness_at(factors, Y, input_root=X)
    assert s.converged
    assert relative_error(s.value, exact) < 1e-14
    # Fewer samples than inputs: the root has fewer columns than rows.
    few, outputs = X[:, :2], Y[:, :2]
    s = dmf.sharpness_at(factors, outputs, input_root=few)
    assert relative_error(s.value, exact_sharpness(factors, few, outputs)) < 1e-14


@pytest.mark.parametrize("kappa", [1e2, 1e4, 1e6, 1e8])
def test_a_solution_costs_the_digits_that_the_docstring_says(kappa):
    for seed in (1, 2, 3):
        X, Y, factors = collinear(kappa, seed=seed)
        exact, M = exact_sharpness(factors, X, Y), Y @ torch.linalg.pinv(X)
        assert (
            relative_error(dmf.sharpness_at(factors, M, input_root=X).value, exact) < 1e-15 * kappa
        )
    # What one collinear direction costs is told by no residual: the Gram matrix loses it here.
    X, Y, factors = collinear(1e9)
    s = dmf.sharpness_at(factors, Y @ torch.linalg.pinv(X), X @ X.mT)
    assert s.residual < 1e-14
    assert relative_error(s.value, exact_sharpness(factors, X, Y)) > 1e-10


@pytest.mark.parametrize("samples", [3, 5, 9, 40])
def test_a_root_is_as_good_as_the_gram_matrix(samples):
    """For every function that takes either; ``X`` itself is a root."""
    X = gaussian_matrix(5, samples, 1)
    factors = random_point((5, 7, 6, 4), 2)
    G, M = X @ X.mT, gaussian_matrix(4, 5, 3)
    for method in ("dense", "batched", "lanczos", "low-rank"):
        a = dmf.sharpness(factors, G, method=method)
        b = dmf.sharpness(factors, input_root=X, method=method)
        assert b.value == pytest.approx(a.value, rel=1e-9)
        overlap = float(flatten(a.eigenvector) @ flatten(b.eigenvector))
        assert abs(overlap) == pytest.approx(1, abs=1e-8)
    for function in (
        dmf.hessian_spectrum,
        lambda *factors, **data: dmf.hessian_eigenvectors(*factors, **data)[0],
        dmf.hessian_trace,
        dmf.hessian_frobenius_norm,
        lambda factors, *gram, **data: dmf.sharpness_at(factors, M, *gram, **data).value,
    ):
        found = torch.as_tensor(function(factors, input_root=X))
        wanted = torch.as_tensor(function(factors, G))
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11 * float(wanted.max()))


def test_data_is_given_once_and_fits():
    factors, X = random_point((3, 4, 2), 1), gaussian_matrix(3, 5, 1)
    M = gaussian_matrix(2, 3, 1)
    for call in (
        lambda **data: dmf.sharpness(factors, **data),
        lambda **data: dmf.sharpness_at(factors, M, **data),
        lambda **data: dmf.hessian_spectrum(factors, **data),
        lambda **data: dmf.hessian_eigenvectors(factors, **data),
        lambda **data: dmf.hessian_trace(factors, **data),
        lambda **data: dmf.hessian_frobenius_norm(factors, **data),
    ):
        with pytest.raises(
            ValueError, match="input_root: expected None beside input_gram, got both"
        ):
            call(input_gram=X @ X.mT, input_root=X)
        with pytest.raises(ValueError, match=r"input_root: expected shape \(3, …\), got \(5, 3\)"):
            call(input_root=X.mT)
        with pytest.raises(ValueError, match="input_root: expected a matrix that is not zero"):
            call(input_root=0 * X)
        with pytest.raises(TypeError, match=r"input_root: expected a tensor of torch\.float64"):
            call(input_root=X.float())
        with pytest.raises(ValueError, match="input_root: expected finite values"):
            call(input_root=X / 0)
    with pytest.raises(ValueError, match=r"target: expected shape \(2, 5\), got \(3, 5\)"):
        dmf.sharpness_at(factors, gaussian_matrix(3, 5, 1), input_root=X)


@given(networks(), st.integers(0, 99), st.booleans())
def test_a_batch_is_the_dense_hessian_of_each_point(widths, seed, shared):
    points = [random_point(widths, seed + b) for b in range(4)]
    target = gaussian_matrix(widths[-1], widths[0], seed)
    targets = target if shared else torch.stack([(b + 1) * target for b in range(4)])
    s = dmf.sharpness_at([torch.stack(W) for W in zip(*points, strict=True)], targets)
    assert s.converged.all()
    for b, factors in enumerate(points):
        hessian = dense_hessian(factors, target if shared else targets[b])
        assert float(s.value[b]) == pytest.approx(
            float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-10
        )
        v = flatten([U[b] for U in s.eigenvector])
        assert float((hessian @ v - s.value[b] * v).norm()) <= 1e-10 * abs(float(s.value[b]))


def test_a_batch_is_its_points_at_every_scale_and_with_data():
    X, Y = gaussian_matrix(10, 12, 1), gaussian_matrix(10, 12, 2)
    points = [random_point((10, 10, 10, 10), b) for b in range(6)]
    points[1] = [1e-70 * W for W in points[1]]
    points[2] = [1e70 * W for W in points[2]]
    points[3] = [0 * W for W in points[3]]
    batch = [torch.stack(W).reshape(2, 3, 10, 10) for W in zip(*points, strict=True)]
    s = dmf.sharpness_at(batch, Y, input_root=X)
    assert s.value.shape == s.residual.shape == s.converged.shape == s.gradient_norm.shape == (2, 3)
    for b, factors in enumerate(points):
        one = dmf.sharpness_at(factors, Y, input_root=X)
        place = divmod(b, 3)
        assert float(s.value[place]) == pytest.approx(one.value, rel=1e-10, abs=0)
        assert bool(s.converged[place]) == one.converged
        assert float(s.gradient_norm[place]) == pytest.approx(one.gradient_norm, rel=1e-10, abs=0)


def test_deep_points_are_computed_together_too(monkeypatch):
    points = [random_point((9,) * 21, b) for b in range(3)]
    target = gaussian_matrix(9, 9, 1)
    ones = [dmf.sharpness_at(W, target).value for W in points]
    monkeypatch.setattr(any_point, "_at_one", None)
    s = dmf.sharpness_at([torch.stack(W) for W in zip(*points, strict=True)], target)
    assert s.value.tolist() == pytest.approx(ones, rel=1e-10)


def trajectory(widths, points, step=0.02):
    """Points of gradient descent from a Gaussian start, stacked, and the target."""
    target, factors = gaussian_matrix(widths[-1], widths[0], 9), random_point(widths, 3)
    run = [[0.5 * W for W in factors]]
    while len(run) < points:
        slope = gradient(run[-1], Problem(target))
        run.append([W - step * g for W, g in zip(run[-1], slope, strict=True)])
    return [torch.stack(W) for W in zip(*run, strict=True)], target


def test_a_trajectory_starts_from_a_result_nearby():
    W, target = trajectory((10, 10, 10), 8)
    cold = dmf.sharpness_at(W, target)
    for start in (cold, dmf.sharpness_at([layer[0] for layer in W], target)):
        warm = dmf.sharpness_at(W, target, start=start)
        assert warm.converged.all()
        torch.testing.assert_close(warm.value, cold.value, rtol=1e-10, atol=0)
    for b, factors in enumerate(zip(*W, strict=True)):
        oracle = torch.linalg.eigvalsh(dense_hessian(factors, target))[-1]
        assert float(cold.value[b]) == pytest.approx(float(oracle), rel=1e-10)


@pytest.mark.parametrize("hidden", [9, 25])
def test_a_start_in_another_eigenspace_does_not_hide_the_largest(hidden):
    """The start is an exact eigenvector of the smallest eigenvalue, alone and in a batch."""
    factors, target = random_point((9, hidden, 9), 4), gaussian_matrix(9, 9, 5)
    values, vectors = torch.linalg.eigh(dense_hessian(factors, target))
    cold = dmf.sharpness_at(factors, target)
    wrong = replace(cold, eigenvector=unflatten(vectors[:, 0], (9, hidden, 9)))
    single = dmf.sharpness_at(factors, target, start=wrong)
    batch = dmf.sharpness_at([W[None] for W in factors], target, start=wrong)
    for found in (single.value, float(batch.value)):
        assert found == pytest.approx(float(values[-1]), rel=1e-10)


def test_large_points_of_a_batch_continue_one_another(monkeypatch):
    monkeypatch.setattr(any_point, "ENTRIES_AT_ONCE", 10)
    W, target = trajectory((9, 25, 9), 4)
    s = dmf.sharpness_at(W, target)
    assert s.converged.all()
    for b, factors in enumerate(zip(*W, strict=True)):
        one = dmf.sharpness_at(factors, target)
        assert float(s.value[b]) == pytest.approx(one.value, rel=1e-10)


def test_bad_starts():
    target, factors = random_problem((3, 4, 2), 0)
    with pytest.raises(TypeError, match="start: expected a PointSharpness, got float"):
        dmf.sharpness_at(factors, target, start=1.0)
    pair = dmf.sharpness_at([torch.stack([W, W]) for W in factors], target)
    with pytest.raises(
        ValueError, match=r"start: expected .* one point or \(\), got .* and \(2,\)"
    ):
        dmf.sharpness_at(factors, target, start=pair)
    with pytest.raises(
        ValueError, match=r"start: expected .*widths \(3, 5, 2\) .*got widths \(3, 4, 2\)"
    ):
        dmf.sharpness_at(random_point((3, 5, 2), 1), target, start=pair)


@given(networks(), st.integers(0, 99), st.data())
def test_more_eigenvalues_are_those_of_the_dense_hessian(widths, seed, data):
    points = [random_point(widths, seed + b) for b in range(3)]
    target = gaussian_matrix(widths[-1], widths[0], seed)
    exact = [torch.linalg.eigvalsh(dense_hessian(W, target)).flip(0) for W in points]
    count = data.draw(st.integers(1, min(6, len(exact[0]))))
    s = dmf.sharpness_at(
        [torch.stack(W) for W in zip(*points, strict=True)], target, count=count, lowest=True
    )
    assert s.converged.all()
    for b, values in enumerate(exact):
        one = dmf.sharpness_at(points[b], target, count=count, lowest=True)
        size = float(values.abs().max())
        for largest, lowest in ((s.largest[b], s.lowest[b]), (one.largest, one.lowest)):
            torch.testing.assert_close(largest, values[:count], rtol=0, atol=1e-10 * size)
            assert float(lowest) == pytest.approx(float(values[-1]), rel=0, abs=1e-10 * size)
        assert one.largest[0] == one.value
        assert s.largest[b, 0] == s.value[b]


@pytest.mark.parametrize("widths", [(10, 10, 10), (6, 20, 20, 6)])
def test_the_lowest_and_multiple_eigenvalues_by_iteration(widths):
    """At a point, and at a flat minimizer, whose largest eigenvalues are multiple and whose lowest is 0."""
    target = gaussian_matrix(widths[-1], widths[0], 2)
    flat = dmf.flat_minimizer(orthogonal_matrix(widths[0], 3), widths[1:-1], 1)
    for factors, M in ((random_point(widths, 1), target), (flat, end_to_end(flat))):
        values = torch.linalg.eigvalsh(dense_hessian(factors, M)).flip(0)
        size = float(values[0])
        pair = [torch.stack([W, W]) for W in factors]
        for points in (factors, pair):
            for count in (1, 5):
                s = dmf.sharpness_at(points, M, count=count, lowest=True)
                assert torch.as_tensor(s.converged).all()
                largest = s.largest.expand(2, count)
                torch.testing.assert_close(
                    largest, values[:count].expand(2, count), rtol=0, atol=1e-10 * size
                )
                lowest = torch.as_tensor(s.lowest, dtype=torch.float64)
                assert float((lowest - values[-1]).abs().max()) <= 1e-10 * size


def test_bad_counts():
    target, factors = random_problem((3, 4, 2), 0)
    for count, message in ((0, "count: expected .*got 0"), (21, "count: expected .*got 21")):
        with pytest.raises(ValueError, match=message):
            dmf.sharpness_at(factors, target, count=count)
    with pytest.raises(TypeError, match="lowest: expected"):
        dmf.sharpness_at(factors, target, lowest="yes")
    assert dmf.sharpness_at(factors, target).lowest is None
