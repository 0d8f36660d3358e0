"""The loss around a minimizer that gradient descent leaves, on the plane in which it leaves."""

import torch
from torch import Tensor

from dmf_sharpness.hessian.spectrum import hessian_eigenvectors
from dmf_sharpness.network.factors import Factors, flatten, unflatten, widths
from dmf_sharpness.network.loss import hessian_vector_product, loss
from dmf_sharpness.network.problem import Problem


def flattening_direction(factors: Factors, problem: Problem) -> Tensor:
    """The kernel direction ``v_N`` along which the sharpness falls fastest, unit vector ``(N,)``.

    The smallest Hessian eigenvalue at a minimizer is 0, and its eigenspace, the tangent space of
    the set of minimizers, is large: "the" eigenvector of the smallest eigenvalue means nothing
    without a further choice. This one is the gradient of ``vᵀ H v`` (``v`` the top eigenvector held
    fixed), projected on the kernel, with the sign that lowers the sharpness. It is the way that an
    escaping run drifts. Where the sharpness is stationary along the set of minimizers, as at flat
    ones, there is no such direction and the zero vector is returned.

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
        Shape ``(B, A)``: a row per ``b``.
    """
    v_1 = hessian_eigenvectors(factors, problem.input_gram)[1][0]
    v_N = flattening_direction(factors, problem)
    rows = []
    for b in along_flattening:
        points = flatten(factors) + b * v_N + along_top[:, None] * v_1
        rows.append(loss(unflatten(points, widths(factors)), problem))
    return torch.stack(rows)
