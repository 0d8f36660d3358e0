"""The nearest minimizer: a minimizer by automatic differentiation, and nearer than any other one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.descent.run import gradient_descent
from dmf_sharpness.minimizers.polish import polish
from dmf_sharpness.minimizers.targets import (
    gaussian_matrix,
    matrix_with_singular_values,
    regression,
)
from dmf_sharpness.network.factors import flatten
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.tangent import tangential
from dmf_sharpness.oracles import dense_hessian
from tests.helpers import networks, random_problem

INPUTS, OUTPUTS = gaussian_matrix(6, 40, 5), gaussian_matrix(4, 40, 6)
COLLINEAR = torch.cat([INPUTS[:4], INPUTS[:2] - INPUTS[2:4]])


def displaced(factors, size, seed):
    """The factors with noise of this size, relative to each of them."""
    return [
        W
        + size
        * torch.linalg.matrix_norm(W)
        * gaussian_matrix(*W.shape, [seed, i])
        / W.numel() ** 0.5
        for i, W in enumerate(factors)
    ]


def distance(first, second):
    return float(torch.linalg.vector_norm(flatten(first) - flatten(second)))


def loss_of(factors, problem):
    signal = problem.input_root
    for W in factors:
        signal = W if signal is None else W @ signal
    return (signal - problem.target).square().sum()


def problems():
    """A minimizer of every sort of problem, with the problem."""
    M, deficient = gaussian_matrix(4, 6, 0), matrix_with_singular_values(5, 6, [3, 1], 3)
    collinear = COLLINEAR
    solved, rank_deficient = regression(INPUTS, OUTPUTS), regression(collinear, OUTPUTS)
    return {
        "factorization": (dmf.random_minimizer(M, [8, 8], 1), Problem(M)),
        "narrow": (dmf.balanced_minimizer(M, [4, 4], 1), Problem(M)),
        "target of rank 2": (dmf.random_minimizer(deficient, [6, 6], 1), Problem(deficient)),
        "unused units": (dmf.balanced_minimizer(deficient, [6, 6], 1), Problem(deficient)),
        "bottleneck": (dmf.bottlenecked_minimizer(M, [2, 5], 1), Problem(M)),
        "scalar, deep": (dmf.random_minimizer(M[:1, :1], [3] * 9, 1), Problem(M[:1, :1])),
        "data": (dmf.random_minimizer(solved.solution, [8, 8], 1), Problem(OUTPUTS, INPUTS)),
        "collinear data": (
            dmf.random_minimizer(rank_deficient.solution, [8, 8], 1),
            Problem(OUTPUTS, collinear),
        ),
        "bottleneck on data": (_bottlenecked(solved, [2, 8]), Problem(OUTPUTS, INPUTS)),
    }


def _bottlenecked(data, hidden):
    """The best map of rank 2 on data: the best approximation of the fitted outputs of that rank."""
    U, values, Vt = torch.linalg.svd(data.solution @ data.inputs, full_matrices=False)
    fitted = (U[:, :2] * values[:2]) @ Vt[:2]
    return dmf.random_minimizer(fitted @ torch.linalg.pinv(data.inputs), hidden, 1)


PROBLEMS = problems()


@pytest.mark.parametrize("size", [1e-7, 1e-3, 3e-2])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_end_is_a_minimizer_and_near(name, size):
    minimizer, problem = PROBLEMS[name]
    start = displaced(minimizer, size, 7)
    end = polish(start, problem)
    assert end.residual <= 1e-11
    norm = float(torch.linalg.vector_norm(flatten(end.factors)))
    assert end.distance == pytest.approx(distance(start, end.factors) / norm, rel=1e-9)
    # The minimizer that the start was displaced from is not nearer than the one that was found.
    assert distance(start, end.factors) <= (1 + 4 * size) * distance(start, minimizer)
    factors = [W.clone().requires_grad_() for W in end.factors]
    slopes = torch.autograd.grad(loss_of(factors, problem), factors)
    hessian = dense_hessian(end.factors, problem.target, problem.input_root)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert eigenvalues[0] >= -1e-9 * eigenvalues[-1]
    assert flatten(slopes).norm() <= 1e-10 * float(eigenvalues[-1]) * norm
    # The loss is that of the minimizer, and the excess is that of the start.
    total = float(problem.target.square().sum())
    least = float(loss_of(minimizer, problem)) / total
    reached = float(loss_of(end.factors, problem)) / total
    assert reached == pytest.approx(least, rel=1e-9, abs=1e-18)
    excess = float(loss_of(start, problem)) / total - reached
    assert end.excess_loss == pytest.approx(excess, rel=1e-6, abs=1e-14)


@settings(max_examples=25)
@given(networks(max_depth=4), st.integers(0, 99))
def test_the_displacement_is_orthogonal_to_the_set_of_minimizers(network, seed):
    target, minimizer = random_problem(network, seed)
    start = displaced(minimizer, 1e-3, seed)
    end = polish(start, Problem(target)).factors
    back = [W - V for W, V in zip(start, end, strict=True)]
    along = tangential(end, back)
    assert flatten(along).norm() <= 1e-7 * flatten(back).norm() + 1e-13 * flatten(end).norm()


@pytest.mark.parametrize("seed", range(4))
def test_no_run_of_gradient_descent_ends_nearer(seed):
    target = gaussian_matrix(4, 5, seed)
    start = displaced(dmf.random_minimizer(target, [6, 6], seed), 0.05, seed)
    near = distance(start, polish(start, Problem(target)).factors)
    step = torch.tensor([0.02 / float(dmf.sharpness(start).value)])
    run = gradient_descent([W[None] for W in start], target[None], step.double(), 100_000)
    end = [W[0] for W in run.factors]
    assert float(torch.linalg.matrix_norm(torch.linalg.multi_dot(end[::-1]) - target)) <= 1e-8
    assert near <= distance(start, end) * (1 + 1e-6)


def test_a_network_trained_in_single_precision():
    data = regression(INPUTS, OUTPUTS)
    factors = [W.float().requires_grad_() for W in dmf.standard_start([6, 8, 4], seed=1)]
    optimizer = torch.optim.SGD(factors, lr=2e-3)
    for _ in range(1500):
        optimizer.zero_grad()
        (OUTPUTS.float() - factors[1] @ factors[0] @ INPUTS.float()).square().sum().backward()
        optimizer.step()
    end = polish([W.detach().double() for W in factors], Problem(OUTPUTS, INPUTS))
    assert 1e-9 < end.distance < 1e-5
    assert abs(end.excess_loss) < 1e-8
    exact = dmf.sharpness(end.factors, input_root=INPUTS, target=data.solution).value
    hessian = dense_hessian(end.factors, OUTPUTS, INPUTS)
    assert exact == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-12)


ONE = torch.ones(2, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("factors", "problem", "error", "message"),
    [
        ([ONE, ONE.float()], Problem(ONE), TypeError, "factors"),
        ([ONE, ONE], Problem(ONE.float()), TypeError, "target"),
        ([ONE, ONE], Problem(ONE[:1]), ValueError, "target"),
        ([ONE, ONE], Problem(0 * ONE), ValueError, "target"),
        ([ONE, ONE], Problem(ONE, 0 * ONE), ValueError, "input_root"),
        ([ONE, ONE], Problem(ONE, ONE[:1]), ValueError, "input_root"),
        ([ONE[None], ONE[None]], Problem(ONE), ValueError, "factors"),
        ([ONE * torch.nan, ONE], Problem(ONE), ValueError, "factors"),
        ([0 * ONE, 0 * ONE], Problem(ONE), ValueError, "factors"),
    ],
)
def test_bad_arguments_are_one_line(factors, problem, error, message):
    with pytest.raises(error, match=rf"^{message}.*expected .*, got ") as caught:
        polish(factors, problem)
    assert "\n" not in str(caught.value)
