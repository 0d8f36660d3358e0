"""The loss around a minimizer, on the plane of the two directions in which gradient descent leaves it."""

import torch
from torch import Tensor

from dmf_sharpness.hessian.spectrum import hessian_eigenvectors
from dmf_sharpness.network.factors import Factors, flatten, unflatten, widths
from dmf_sharpness.network.loss import hessian_vector_product, loss
from dmf_sharpness.network.problem import Problem


def flattening_direction(factors: Factors, problem: Problem) -> Tensor:
    """The null direction ``v_N`` along which the sharpness falls fastest, a unit vector ``(N,)``.

    The smallest Hessian eigenvalue at a minimizer is 0, and its eigenspace, the tangent space of the set
    of minimizers, has a high dimension, so that "the eigenvector of the smallest eigenvalue" is not
    unique. This one is the gradient of ``vᵀ H v``, with the top eigenvector ``v`` held fixed, projected on
    the null space of the Hessian, with the sign that lowers the sharpness. An escaping run drifts in this
    direction. Where the sharpness is stationary along the set of minimizers, as at flat minimizers, there
    is no such direction, and the result is the zero vector.

    Args:
        factors: ``[W_1 … W_L]`` of one minimizer.
        problem: ``T``, shape ``(d_L, r)``, and ``S``.
    """
    _, eigenvectors = hessian_eigenvectors(factors, problem.input_gram)
    shape = widths(factors)
    v = unflatten(eigenvectors[0], shape)
    W = [layer.clone().requires_grad_() for layer in factors]
    Hv = hessian_vector_product(W, v, problem)
    curvature = sum(((a * b).sum() for a, b in zip(v, Hv, strict=True)), start=torch.zeros(()))
    slope = flatten(torch.autograd.grad(curvature, W))
    kernel_part = slope - eigenvectors.mT @ (eigenvectors @ slope)
    size = torch.linalg.vector_norm(kernel_part)
    if size <= 1e-8 * torch.linalg.vector_norm(slope):
        return torch.zeros_like(slope)
    return -kernel_part / size


def flattening_directions(factors: Factors, problem: Problem) -> Tensor:
    """:func:`flattening_direction` of each of ``B`` minimizers, ``(B, N)``."""
    singles = enumerate(zip(*factors, strict=True))
    return torch.stack([flattening_direction(W, problem.chosen(b)) for b, W in singles])


def loss_on_plane(
    factors: Factors, problem: Problem, along_top: Tensor, along_flattening: Tensor
) -> Tensor:
    """The loss at ``w + a v_1 + b v_N`` around one minimizer ``w``.

    Args:
        factors: ``[W_1 … W_L]`` of the minimizer.
        problem: ``T``, shape ``(d_L, r)``, and ``S``.
        along_top: Values of ``a``, shape ``(A,)``.
        along_flattening: Values of ``b``, shape ``(B,)``.

    Returns:
        The losses, shape ``(B, A)``, with a row for each ``b``.
    """
    v_1 = hessian_eigenvectors(factors, problem.input_gram)[1][0]
    v_N = flattening_direction(factors, problem)
    rows = []
    for b in along_flattening:
        points = flatten(factors) + b * v_N + along_top[:, None] * v_1
        rows.append(loss(unflatten(points, widths(factors)), problem))
    return torch.stack(rows)
