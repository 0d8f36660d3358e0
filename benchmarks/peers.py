"""Other ways to a sharpness, for the benchmark: each takes factors and returns the largest eigenvalue.

Every tool sees the same loss, ``‖(M − W_{L:1}) X‖_F²`` with ``M`` the product, as the sum of squared errors
of a linear network on the samples ``X``, or without data on the columns of the identity. Tools that are not
installed are reported as absent.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.oracles import dense_spectrum, lanczos_sharpness

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

Solver = Callable[[Sequence[Tensor], float, Tensor | None], float]
LANCZOS_STEPS = 100
LARGEST_DENSE = 4000


def _network(factors: Sequence[Tensor], inputs: Tensor | None) -> tuple[Any, Tensor, Tensor]:
    layers = []
    for W in factors:
        layer = torch.nn.Linear(W.shape[1], W.shape[0], bias=False, dtype=W.dtype)
        with torch.no_grad():
            layer.weight.copy_(W)
        layers.append(layer)
    X = torch.eye(factors[0].shape[1], dtype=factors[0].dtype) if inputs is None else inputs
    outputs = end_to_end(factors) @ X
    return torch.nn.Sequential(*layers), X.mT.contiguous(), outputs.mT.contiguous()


def _outputs(factors: Sequence[Tensor], inputs: Tensor | None) -> Tensor:
    return end_to_end(factors) if inputs is None else end_to_end(factors) @ inputs


def _autograd_eigsh(factors: Sequence[Tensor], tolerance: float, inputs: Tensor | None) -> float:
    return lanczos_sharpness(factors, _outputs(factors, inputs), inputs, tolerance)


def _dense(factors: Sequence[Tensor], tolerance: float, inputs: Tensor | None) -> float:
    del tolerance
    if sum(W.numel() for W in factors) > LARGEST_DENSE:
        raise MemoryError(f"parameters: expected at most {LARGEST_DENSE} for a dense Hessian")
    return float(dense_spectrum(factors, _outputs(factors, inputs), inputs)[0])


def _curvlinops(factors: Sequence[Tensor], tolerance: float, inputs: Tensor | None) -> float:
    curvlinops = import_module("curvlinops")
    model, X, Y = _network(factors, inputs)
    loss = torch.nn.MSELoss(reduction="sum")
    operator = curvlinops.HessianLinearOperator(
        model, loss, list(model.parameters()), [(X, Y)], check_deterministic=False
    ).to_scipy(dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(operator.shape[0])
    values = scipy.sparse.linalg.eigsh(operator, k=1, which="LA", tol=tolerance, v0=start, ncv=20)[
        0
    ]
    return float(values[0])


def _hessian_eigenthings(
    factors: Sequence[Tensor], tolerance: float, inputs: Tensor | None
) -> float:
    tool = import_module("hessian_eigenthings")
    model, X, Y = _network(factors, inputs)
    loss = tool.supervised_loss(torch.nn.MSELoss(reduction="sum"))
    operator = tool.HessianOperator(model, [(X, Y)], loss)
    steps = min(LANCZOS_STEPS, operator.size - 1)
    result = tool.lanczos(
        operator,
        k=min(10, steps),
        max_iter=steps,
        tol=tolerance,
        which="LA",
        seed=0,
        reorthogonalize=True,
    )
    return float(result.eigenvalues.max())


def _pyhessian(factors: Sequence[Tensor], tolerance: float, inputs: Tensor | None) -> float:
    tool = import_module("pyhessian")
    model, X, Y = _network(factors, inputs)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with warnings.catch_warnings():
            # Of reference cycles, for each call of backward().
            warnings.simplefilter("ignore", UserWarning)
            hessian = tool.hessian(
                model, torch.nn.MSELoss(reduction="sum"), data=(X, Y), cuda=False
            )
            values, _ = hessian.eigenvalues(maxIter=1000, tol=tolerance, top_n=1)
    finally:
        torch.set_default_dtype(default)
    return float(values[0])


@cache
def _jax_solver(depth: int, steps: int) -> Any:
    """Compiled once per shape, so that repeats time the computation and not the compiler."""
    jax = import_module("jax")
    decomp, eig = import_module("matfree.decomp"), import_module("matfree.eig")

    def loss(layers: Any, inputs: Any, target: Any) -> Any:
        product = layers[0] if inputs is None else layers[0] @ inputs
        for W in layers[1:depth]:
            product = W @ product
        return ((target - product) ** 2).sum()

    def product(direction: Any, layers: Any, inputs: Any, target: Any) -> Any:
        return jax.jvp(lambda W: jax.grad(loss)(W, inputs, target), (layers,), (direction,))[1]

    solver = eig.eigh_partial(decomp.tridiag_sym(steps))
    return jax.jit(lambda v, layers, X, target: solver(product, v, layers, X, target)[0])


def _jax_matfree(factors: Sequence[Tensor], tolerance: float, inputs: Tensor | None) -> float:
    del tolerance  # a fixed number of steps
    jax = import_module("jax")
    import_module("matfree")
    jax.config.update("jax_enable_x64", True)
    layers = [jax.numpy.asarray(W.numpy()) for W in factors]
    target = jax.numpy.asarray(_outputs(factors, inputs).numpy())
    X = None if inputs is None else jax.numpy.asarray(inputs.numpy())
    keys = jax.random.split(jax.random.PRNGKey(0), len(layers))
    start = [
        jax.random.normal(key, W.shape, dtype=W.dtype) for key, W in zip(keys, layers, strict=True)
    ]
    # More steps than the Hessian has nonzero eigenvalues break this tool down.
    rank = factors[0].shape[1] * factors[-1].shape[0]
    return float(
        _jax_solver(len(factors), min(LANCZOS_STEPS, rank))(start, layers, X, target).max()
    )


PEERS: dict[str, Solver] = {
    "dense autograd Hessian": _dense,
    "autograd + eigsh": _autograd_eigsh,
    "curvlinops + eigsh": _curvlinops,
    "hessian-eigenthings": _hessian_eigenthings,
    "PyHessian": _pyhessian,
    "JAX + matfree": _jax_matfree,
}
