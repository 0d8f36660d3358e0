"""Two identical calls give the same bits, whatever was called in between."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.targets import (
    gaussian_matrix,
    matrix_with_singular_values,
    orthogonal_matrix,
)
from dmf_sharpness.network.problem import Problem
from tests.helpers import COMPILED, random_point


def everything(factors, **how):
    s = dmf.sharpness(factors, **how)
    return [s.value, s.residual, s.gap, s.upper_bound, s.eigenmatrix, *s.eigenvector]


def point(factors, target, **how):
    s = dmf.sharpness_at(factors, target, **how)
    return [s.value, s.residual, s.gradient_norm, *s.eigenvector]


def model_point(model):
    s = dmf.sharpness_at(model)
    return [s.value, s.residual, s.gradient_norm, *s.eigenvector]


def descent(factors):
    start = [W[None] * 1.01 for W in factors]
    run = dmf.gradient_descent(start, dmf.end_to_end(factors), 1e-4, 200, observe_every=50)
    return [run.loss, run.steps, run.outcome, *run.factors, run.trajectory.distance]


X = gaussian_matrix(6, 9, 1)
SMALL, WIDE = random_point((6, 9, 8, 7), 1), random_point((40, 45, 50, 42), 5)
ROTATIONS = [orthogonal_matrix(40, seed) for seed in range(3)]
IDENTITIES = [torch.eye(40, dtype=torch.float64)] * 3
LOW_RANK = [W[:, :1] @ W[:1] for W in random_point((40, 40, 40, 40), 7)]
CLOSE = matrix_with_singular_values(8, 8, [2, 2 - 2e-7, 1, 0.5], 1)
BIASED = {
    name: W if kind == "weight" else W[:, 0].clone()
    for i, W in enumerate(SMALL)
    for kind in ("weight", "bias")
    for name in [f"{i}.{kind}"]
}
BATCH = [torch.stack([W, 1.1 * W, 0.9 * W]) for W in SMALL]
TARGET = gaussian_matrix(3, 2, 1)
CALLS = {
    **{
        f"sharpness by {method} of {name}": (
            lambda method=method, factors=factors: everything(factors, method=method)
        )
        for method in ("auto", "lanczos", "low-rank")
        for name, factors in {
            "a wide network": WIDE,
            "rotations": ROTATIONS,
            "identities": IDENTITIES,
            "factors of rank 1": LOW_RANK,
            "close eigenvalues": dmf.balanced_minimizer(CLOSE, [9, 8], 1),
        }.items()
    },
    **{
        f"sharpness by {method}": lambda method=method: everything(SMALL, method=method)
        for method in (*COMPILED, "dense", "batched")
    },
    "sharpness of a batch": lambda: everything(BATCH),
    "sharpness of a batch by lanczos": lambda: everything(BATCH, method="lanczos"),
    "sharpness with data": lambda: everything(SMALL, input_root=X, method="lanczos"),
    "sharpness_at": lambda: point(random_point((6, 20, 20, 6), 1), gaussian_matrix(6, 6, 2)),
    "hessian_spectrum": lambda: [dmf.hessian_spectrum(SMALL)],
    "hessian_eigenvectors": lambda: [*dmf.hessian_eigenvectors(WIDE, count=4)],
    "hessian_eigenvectors of rotations": lambda: [*dmf.hessian_eigenvectors(ROTATIONS, count=3)],
    "hessian_eigenvectors of identities": lambda: [*dmf.hessian_eigenvectors(IDENTITIES, count=3)],
    "hessian_trace": lambda: [dmf.hessian_trace(SMALL)],
    "hessian_frobenius_norm": lambda: [dmf.hessian_frobenius_norm(SMALL)],
    "is_flat": lambda: [dmf.is_flat(SMALL)],
    "flat_sharpness": lambda: [dmf.flat_sharpness(TARGET, 3)],
    "balance_is_necessary": lambda: [float(dmf.balance_is_necessary(TARGET, [4, 5]))],
    "spectral_products": lambda: [dmf.spectral_products(SMALL)],
    "landing_coefficient": lambda: [dmf.landing_coefficient(SMALL, dmf.end_to_end(SMALL))],
    "predict_landing": lambda: [dmf.predict_landing(-3.0, 1.1)],
    "balanced_minimizer": lambda: dmf.balanced_minimizer(TARGET, [4, 5], 1),
    "flat_minimizer": lambda: dmf.flat_minimizer(TARGET, [4, 5], 1),
    "random_minimizer": lambda: dmf.random_minimizer(TARGET, [4, 5], [1, 2]),
    "bottlenecked_minimizer": lambda: dmf.bottlenecked_minimizer(TARGET, [1, 5], 1),
    "minimizer_with_sharpness": lambda: dmf.minimizer_with_sharpness(TARGET, [4, 5], 99.0, 1),
    "trace_flat_minimizer": lambda: dmf.trace_flat_minimizer(TARGET, [4, 5], 1),
    "standard_start": lambda: dmf.standard_start([3, 4, 2], "orthogonal", 1),
    "trace_flat_ratio": lambda: [dmf.trace_flat_ratio(TARGET, 3)],
    "from_module": lambda: dmf.from_module(SMALL, X.mT).factors,
    "sharpness of a model": lambda: everything(BIASED, inputs=X.mT),
    "sharpness of a model by lanczos": lambda: everything(BIASED, inputs=X.mT, method="lanczos"),
    "sharpness_at of a model": lambda: model_point(dmf.from_module(BIASED, X.mT)),
    "hessian_diagonal": lambda: dmf.hessian_diagonal(SMALL),
    "layer_curvature": lambda: [block.sharpness for block in dmf.layer_curvature(SMALL)],
    "polish": lambda: dmf.polish(SMALL, Problem(dmf.end_to_end([1.01 * W for W in SMALL]))).factors,
    "gradient_descent": lambda: descent(SMALL),
    "products": lambda: [
        dmf.end_to_end(SMALL),
        *dmf.left_factors(SMALL),
        *dmf.right_factors(SMALL),
    ],
}


def unrelated_calls(seed):
    """Other use of all the generators, and of this library, in other amounts each time."""
    torch.manual_seed(seed)
    torch.randn(seed + 5)
    np.random.seed(seed)  # noqa: NPY002  # the global state is what must not matter
    np.random.rand(seed + 3)  # noqa: NPY002
    matrix = np.diag(np.arange(1.0, 60))
    scipy.sparse.linalg.eigsh(matrix, k=2)  # draws its own start
    factors = [gaussian_matrix(b, a, seed) for a, b in pairwise((30, 31 + seed, 30, 29))]
    for method in ("lanczos", "low-rank"):
        _ = dmf.sharpness(factors, method=method).gap
    dmf.hessian_eigenvectors([W[:, :] for W in ROTATIONS[:2]], count=2)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_identical_calls_give_identical_bits(call):
    first = call()
    for seed in (1, 2):
        unrelated_calls(seed)
        for a, b in zip(first, call(), strict=True):
            assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def test_every_public_function_is_called_here():
    names = {name for name in dmf.__all__ if callable(getattr(dmf, name))}
    functions = {name for name in names if not isinstance(getattr(dmf, name), type)}
    named = {name.split()[0] for name in CALLS} | {"end_to_end", "left_factors", "right_factors"}
    assert functions <= named
