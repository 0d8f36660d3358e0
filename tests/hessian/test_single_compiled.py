"""The compiled call for a single minimizer, against LAPACK, and against PyTorch where it declines."""

import math
import os
import signal
import sys
import warnings
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.hessian import sharpness as module
from dmf_sharpness.hessian import single_compiled
from dmf_sharpness.hessian.certificate import direction_residual
from dmf_sharpness.hessian.closed_forms import dense
from dmf_sharpness.minimizers.targets import gaussian_matrix, orthogonal_matrix
from dmf_sharpness.network.curvature import kronecker_sum, parameter_direction
from dmf_sharpness.network.factors import end_to_end
from tests.helpers import COMPILED, networks, random_point

pytestmark = pytest.mark.skipif(not COMPILED, reason="the kernels were not compiled")
F = torch.full((3, 3), 0.5, dtype=torch.float64)


@given(networks(), st.integers(0, 99), st.booleans())
def test_it_agrees_with_lapack(widths, seed, data):
    factors = random_point(widths, seed)
    root = gaussian_matrix(widths[0], widths[0], seed) if data else None
    s = dmf.sharpness(factors, input_root=root, method="compiled")
    exact = dense(factors, root)
    assert s.value == pytest.approx(float(exact.value), rel=1e-13)
    assert s.residual < 1e-12
    assert s.gap == pytest.approx(float(exact.value - exact.second), abs=1e-12 * s.value)


@given(networks(), st.integers(0, 99))
def test_the_certificate_is_the_residual_of_the_eigenvector_by_pytorch(widths, seed):
    """At a tolerance so coarse that the residual is not rounding."""
    factors = random_point(widths, seed)
    wide = [gaussian_matrix(20, widths[-1], seed), gaussian_matrix(widths[0], 20, seed + 1)]
    factors = [wide[1], *factors, wide[0]]
    s = dmf.sharpness(factors, method="compiled", tolerance=1e-2)
    U = parameter_direction(factors, s.eigenmatrix)
    expected = direction_residual(factors, U, torch.tensor(s.value, dtype=torch.float64))
    assert s.residual == pytest.approx(float(expected), rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("size", [2, 7, 30])
def test_multiple_eigenvalues_and_zeros(size):
    rotations = [orthogonal_matrix(size, k) for k in range(3)]
    s = dmf.sharpness(rotations)
    assert (s.method, s.converged) == ("compiled", True)
    assert s.value == pytest.approx(6.0, rel=1e-14)
    zeros = [torch.zeros(size, size, dtype=torch.float64)] * 3
    assert (dmf.sharpness(zeros).value, dmf.sharpness(zeros).converged) == (0.0, True)
    thin = [torch.outer(W[0], W[1]) for W in rotations]
    assert dmf.sharpness(thin).value == pytest.approx(float(dense(thin, None).value), rel=1e-13)


@pytest.mark.parametrize(
    "arguments",
    [
        {"factors": [F, F, F.float()]},
        {"factors": [F, F, torch.full((3, 3), torch.nan, dtype=torch.float64)]},
        {"factors": [F, F, torch.full((3, 3), torch.inf, dtype=torch.float64)]},
        {"factors": [F, F[:2], F]},
        {"factors": [F, F[:0], F[:, :0]]},
        {"factors": [F, F.to_sparse(), F]},
        {"factors": [F, F.to("meta"), F]},
        {"factors": [F, F[0], F]},
        {"factors": [F, F, 3]},
        {"factors": []},
        {"factors": {}},
        {"factors": [F, F, F], "target": F},
        {"factors": [F, F, F], "target": F[:2]},
        {"factors": [F, F, F], "target": F.float()},
        {"factors": [F, F, F], "target": torch.full((3, 3), torch.nan, dtype=torch.float64)},
        {"factors": [F, F, F], "tolerance": 0.0},
        {"factors": [F, F, F], "tolerance": math.nan},
        {"factors": [F, F, F], "tolerance": "small"},
        {"factors": [F, F, F], "rtol": -1.0},
        {"factors": [F, F, F], "rtol": math.inf},
        {"factors": [F, F, F], "method": 3},
    ],
)
def test_errors_are_those_of_the_checks_in_python(arguments, monkeypatch):
    with pytest.raises((TypeError, ValueError)) as found:
        dmf.sharpness(**arguments)
    for place in (module, single_compiled):
        monkeypatch.setattr(place, "available", lambda: False)
    with pytest.raises((TypeError, ValueError)) as expected:
        dmf.sharpness(**arguments)
    assert (found.type, str(found.value)) == (expected.type, str(expected.value))


def test_inside_a_transform_it_is_refused():
    with pytest.raises(TypeError, match="expected a dense tensor"):
        torch.func.vmap(lambda W: dmf.sharpness([W, W, W]))(F[None])


@pytest.mark.parametrize("widths", [(10, 10, 10, 10), (4, 6, 5), (1, 3, 3, 1)])
def test_a_target_that_is_fitted(widths):
    factors = random_point(widths, 3)
    M = end_to_end(factors)
    alone, fitted = dmf.sharpness(factors), dmf.sharpness(factors, target=M)
    assert (alone.value, alone.method) == (fitted.value, fitted.method)
    assert alone.method == ("scalar" if widths[0] == 1 else "compiled")
    off = M * (1 + 1e-9)
    with pytest.raises(ValueError, match="target: expected factors whose product fits it"):
        dmf.sharpness(factors, target=off)
    assert dmf.sharpness(factors, target=off, rtol=1e-8).value == alone.value


def test_strides_signs_and_parameters():
    factors = random_point((5, 7, 6, 4), 1)
    value = dmf.sharpness(factors).value
    views = [
        [W.mT.contiguous().mT for W in factors],
        [torch._neg_view(-W) for W in factors],
        [torch.nn.Parameter(W) for W in factors],
        torch.nn.ParameterList(factors),
    ]
    for view in views:
        s = dmf.sharpness(view)
        assert s.method == "compiled"
        assert s.value == pytest.approx(value, rel=1e-14)
        assert not s.eigenvector[0].requires_grad


def test_close_eigenvalues_are_passed_on_or_found():
    """The gap is 1e-9 of the value, which takes more steps than the call has."""
    Q = [orthogonal_matrix(40, k) for k in range(4)]
    D = torch.diag(torch.linspace(1, 1 - 1e-9, 40, dtype=torch.float64))
    s = dmf.sharpness([Q[1] @ D @ Q[0].mT, Q[2] @ D @ Q[1].mT, Q[3] @ D @ Q[2].mT])
    assert s.converged
    assert s.value == pytest.approx(6.0, rel=1e-9)


def test_a_batch_is_solved_one_by_one_on_request():
    factors = [torch.stack([W, 2 * W]) for W in random_point((4, 5, 5, 3), 2)]
    s = dmf.sharpness(factors, method="compiled")
    assert s.method == "compiled"
    torch.testing.assert_close(s.value, dense(factors, None).value, rtol=1e-13, atol=0)


def test_without_kernels_it_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(module, "available", lambda: False)
    with pytest.raises(ValueError, match="method: expected kernels that were built"):
        dmf.sharpness(random_point((4, 5, 5, 3), 2), method="compiled")


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.booleans())
def test_a_stack_of_small_matrices(layers, rows, columns, seed, deflated):
    """The eigenproblem within the bases of the low-rank method, against LAPACK."""
    grams = [
        torch.stack([gaussian_matrix(n, n, [seed, n, i]) for i in range(layers)])
        for n in (rows, columns)
    ]
    A, B = (gram @ gram.mT for gram in grams)
    values, vectors = torch.linalg.eigh(kronecker_sum(list(A), list(B)))
    first = vectors[:, -1].reshape(columns, rows).mT
    known = (float(values[-1]), first) if deflated else None
    start = gaussian_matrix(rows, columns, seed)
    value, Y = single_compiled.stacked_pair(A, B, start, 1e-12, known)
    wanted = values[-1] if not deflated else (values[-2] if len(values) > 1 else torch.zeros(()))
    assert value == pytest.approx(float(wanted), rel=1e-12, abs=1e-12 * float(values[-1]))
    assert float(torch.linalg.matrix_norm(Y)) == pytest.approx(1, rel=1e-12)
    torch.testing.assert_close(start, gaussian_matrix(rows, columns, seed))


def at_once(factors, target=None):
    return single_compiled.at_once(factors, target, None, 1e-10, 1e-10)


@pytest.mark.parametrize("widths", [(40, 45, 50, 36), (9, 70, 33, 33, 12)])
def test_larger_networks_and_the_sign(widths):
    factors = random_point(widths, 4)
    s = at_once(factors)
    assert s.value == pytest.approx(dmf.sharpness(factors, method="lanczos").value, rel=1e-12)
    assert float(s.eigenmatrix.max()) == float(s.eigenmatrix.abs().max())
    fitted = at_once(factors, end_to_end(factors))
    assert (fitted.value, fitted.residual) == (s.value, s.residual)
    assert at_once(factors, 1.001 * end_to_end(factors)) is None


def test_what_may_leave_the_range_is_left_to_the_scaling():
    factors = random_point((4, 5, 5, 3), 4)
    assert at_once([2.0**20 * W for W in factors]) is not None
    assert at_once([2.0**80 * W for W in factors]) is None
    assert at_once([2.0**-80 * W for W in factors]) is None


@contextmanager
def pytorch_threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bits(factors, root, threads):
    with pytorch_threads(threads):
        s = single_compiled.compiled_sharpness(factors, root, 1e-10)
    return s.value, s.residual, s.eigenmatrix.flatten().tolist()


@pytest.mark.parametrize(
    ("widths", "rooted"),
    [((60, 45, 50, 57), False), ((78, 40, 71), True), ((35, 33, 34, 33, 150), False)],
)
def test_the_bits_do_not_depend_on_the_number_of_threads(widths, rooted):
    factors = random_point(widths, 5)
    root = gaussian_matrix(widths[0], widths[0], 5) if rooted else None
    one = bits(factors, root, 1)
    assert one[0] == pytest.approx(
        float(module.sharpness(factors, input_root=root, method="lanczos").value), rel=1e-12
    )
    for threads in (2, 3, 50):
        assert bits(factors, root, threads) == one


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fork is safe on Linux only")
@pytest.mark.parametrize("widths", [(60, 45, 50, 57), (64, 512, 512, 64)])
def test_several_threads_after_a_fork(widths):
    """Also with PyTorch's threads, of which a forked process has no copy."""
    factors = random_point(widths, 5)
    here = bits(factors, None, 2)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside PyTorch's threads
        child = os.fork()
    if child == 0:  # no exception may reach the copy of pytest
        signal.alarm(600)
        os._exit(0 if bits(factors, None, 2)[0] == here else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("deflated", [False, True])
def test_a_stack_of_larger_matrices_on_several_threads(deflated):
    """With the identity in the places where a minimizer has it, and one that is nearly the identity."""
    rows, columns = 40, 30
    grams = [gaussian_matrix(n, n, [n, i]) for i in range(6) for n in (rows, columns)]
    A = torch.stack([gram @ gram.mT / rows for gram in grams[0::2]])
    B = torch.stack([gram @ gram.mT / columns for gram in grams[1::2]])
    A[-1], B[0] = torch.eye(rows), (1 + 1e-6) * torch.eye(columns)
    values, vectors = torch.linalg.eigh(kronecker_sum(list(A), list(B)))
    known = (float(values[-1]), vectors[:, -1].reshape(columns, rows).mT) if deflated else None
    found = []
    for threads in (1, 2, 3):
        with pytorch_threads(threads):
            start = gaussian_matrix(rows, columns, 1)
            value, Y = single_compiled.stacked_pair(A, B, start, 1e-11, known)
        found.append((value, Y.flatten().tolist()))
    assert found[0] == found[1] == found[2]
    assert found[0][0] == pytest.approx(float(values[-2 if deflated else -1]), rel=1e-12)


@pytest.mark.parametrize("widths", [(23, 25, 26), (36, 12, 18), (30, 31, 32, 20), (13, 31, 45)])
def test_degenerate_large_problems_against_lapack(widths):
    """Orders above those of which the Krylov vectors are reorthogonalized; with equal singular values."""
    rotations = [
        orthogonal_matrix(max(n, m), k)[:m, :n] for k, (n, m) in enumerate(pairwise(widths))
    ]
    rank_one = [torch.outer(W[:, 0], W[0]) for W in rotations]
    for factors in (rotations, rank_one, [W.round(decimals=1) for W in rotations]):
        s = single_compiled.compiled_sharpness(factors, None, 1e-10)
        assert s.value == pytest.approx(float(dense(factors, None).value), rel=1e-12)
        assert s.residual < 1e-10
    zeros = [torch.zeros(m, n, dtype=torch.float64) for n, m in pairwise(widths)]
    assert dmf.sharpness(zeros).value == 0.0
