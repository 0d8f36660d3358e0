"""The loss around a minimizer that gradient descent leaves, on the plane in which it leaves."""

import torch
from torch import Tensor

from dmf_sharpness.hessian.spectrum import hessian_eigenvectors
from dmf_sharpness.network.factors import Factors, flatten, unflatten, widths
from dmf_sharpness.network.loss import hessian_vector_product, loss


def flattening_direction(
    factors: Factors, target: Tensor, input_root: Tensor | None = None
) -> Tensor:
    """The kernel direction ``v_N`` along which the sharpness falls fastest, unit vector ``(N,)``.

    The smallest Hessian eigenvalue at a minimizer is 0, and its eigenspace, the tangent space of
    the set of minimizers, is large: "the" eigenvector of the smallest eigenvalue means nothing
    without a further choice. This one is the gradient of ``vᵀ H v`` (``v`` the top eigenvector held
    fixed), projected on the kernel, with the sign that lowers the sharpness. It is the way that an
    escaping run drifts. Where the sharpness is stationary along the set of minimizers, as at flat
    ones, there is no such direction and the zero vector is returned.

    Args:
        factors: ``[W_1 … W_L]`` of one minimizer.
        target: ``T``, shape ``(d_L, r)``.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
    """
    gram = None if input_root is None else input_root @ input_root.mT
    _, eigenvectors = hessian_eigenvectors(factors, gram)
    shape = widths(factors)
    v = unflatten(eigenvectors[0], shape)
    W = [layer.clone().requires_grad_() for layer in factors]
    Hv = hessian_vector_product(W, v, target, input_root)
    curvature = sum(((a * b).sum() for a, b in zip(v, Hv, strict=True)), start=torch.zeros(()))
    slope = flatten(torch.autograd.grad(curvature, W))
    kernel_part = slope - eigenvectors.mT @ (eigenvectors @ slope)
    size = torch.linalg.vector_norm(kernel_part)
    if size <= 1e-8 * torch.linalg.vector_norm(slope):
        return torch.zeros_like(slope)
    return -kernel_part / size


def flattening_directions(
    factors: Factors, target: Tensor, input_root: Tensor | None = None
) -> Tensor:
    """:func:`flattening_direction` of each of ``B`` minimizers, ``(B, N)``."""
    singles = zip(zip(*factors, strict=True), target, strict=True)
    return torch.stack([flattening_direction(W, T, input_root) for W, T in singles])


def loss_on_plane(
    factors: Factors,
    target: Tensor,
    along_top: Tensor,
    along_flattening: Tensor,
    input_root: Tensor | None = None,
) -> Tensor:
    """The loss at ``w + a v_1 + b v_N`` around one minimizer ``w``.

    Args:
        factors: ``[W_1 … W_L]`` of the minimizer.
        target: ``T``, shape ``(d_L, r)``.
        along_top: Values of ``a``, shape ``(A,)``.
        along_flattening: Values of ``b``, shape ``(B,)``.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.

    Returns:
        Shape ``(B, A)``: a row per ``b``.
    """
    gram = None if input_root is None else input_root @ input_root.mT
    v_1 = hessian_eigenvectors(factors, gram)[1][0]
    v_N = flattening_direction(factors, target, input_root)
    rows = []
    for b in along_flattening:
        points = flatten(factors) + b * v_N + along_top[:, None] * v_1
        rows.append(loss(unflatten(points, widths(factors)), target, input_root))
    return torch.stack(rows)
