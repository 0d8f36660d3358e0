"""The loss, its gradient and its Hessian-vector product, in closed form.

The loss is ``f(W) = ‖T − W_{L:1} S‖_F²``, a sum of squares without a factor ½ and without a mean.
The *input root* ``S``, of shape ``(d_0, r)``, is fixed. In matrix factorization it is the identity
and is left out. Training a deep linear network on inputs ``X`` and outputs ``Y`` is the same
problem up to a constant: with the thin singular value decomposition ``X = U Σ Vᵀ``,

    ‖Y − W_{L:1} X‖² = ‖Y V − W_{L:1} U Σ‖² + ‖Y (I − V Vᵀ)‖².

Hence ``S = U Σ``, so that ``S Sᵀ = X Xᵀ`` is the input Gram matrix, and ``T = Y V``. The last term
does not depend on the factors. So the data enter the problem as one fixed layer ``S`` in front of
the others.
"""

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_tensor
from dmf_sharpness.network.curvature import vjp
from dmf_sharpness.network.factors import Factors, end_to_end
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.scaling import exponents, times_power

ORDINARY_NORMS = 2.0**-400, 2.0**400
"""Between these bounds, squares of norms stay in the range of float64."""


def residual(factors: Factors, problem: Problem) -> Tensor:
    """The residual ``E = W_{L:1} S − T``, in the shape of ``T``, ``(…, d_L, r)``."""
    return _seen(end_to_end(factors), problem.input_root) - problem.target


def loss(factors: Factors, problem: Problem) -> Tensor:
    """The loss ``‖T − W_{L:1} S‖_F²``, shape ``(…)``.

    >>> float(loss([torch.ones(2, 1), torch.ones(1, 2)], Problem(torch.tensor([[5.0]]))))
    9.0
    """
    return residual(factors, problem).square().sum((-2, -1))


def gradient(factors: Factors, problem: Problem) -> list[Tensor]:
    """The gradient ``∂f/∂W_i = 2 L_iᵀ E (R_i S)ᵀ``, one tensor per factor, in the shape of ``W_i``."""
    return vjp(factors, 2 * residual(factors, problem), problem.input_root)


def check_orthogonal_residual(
    factors: Factors, solution: object, input_root: Tensor | None = None, rtol: float = 1e-10
) -> None:
    """A check that the residual does not contribute to the Hessian: ``(W_{L:1} − M) S = 0``.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        solution: ``M``, shape ``(d_L, d_0)`` or ``(…, d_L, d_0)``: the target, or with input data
            any least-squares solution.
        input_root: ``S``, a root of the input Gram matrix ``S Sᵀ``; None without data.
        rtol: The largest accepted ``‖(W_{L:1} − M) S‖_F``, relative to ``‖M S‖_F``. Where ``M S``
            is zero, it is relative to ``‖S‖_F Π_i ‖W_i‖_F``.

    Raises:
        TypeError: ``solution`` is not a float64 tensor.
        ValueError: ``solution`` does not fit the factors or is not finite, or the residual is too
            large. The message then gives the norm of the gradient as well: where it is zero, the
            point is a saddle, or the minimum over networks with a bottleneck.
    """
    target = checked_target(factors, solution)
    relative = _relative_residual(factors, target, input_root)
    worst = float(relative.max())
    if not worst <= rtol:
        parts = gradient(factors, Problem(_seen(target, input_root), input_root))
        norm = torch.stack([g.square().sum((-2, -1)) for g in parts]).sum(0).sqrt().max()
        raise ValueError(
            f"target: expected factors whose product fits it to a relative {rtol:.0e}, so that the "
            f"residual is orthogonal to the inputs, got {worst:.3g} (gradient norm {float(norm):.3g}); "
            "the expression is not exact here, sharpness_at takes any point"
        )


def _relative_residual(factors: Factors, target: Tensor, input_root: Tensor | None) -> Tensor:
    """The relative residual ``‖(W_{L:1} − M) S‖_F / ‖M S‖_F``, shape ``(…)``."""
    seen = _seen(target, input_root)
    error = torch.linalg.matrix_norm(residual(factors, Problem(seen, input_root)))
    scale = torch.linalg.matrix_norm(seen)
    low, high = ORDINARY_NORMS
    if float(scale.min()) > low and float(scale.max()) < high and bool(torch.isfinite(error).all()):
        return error / scale
    # Otherwise a square left the range of float64, or the target is zero. Then every matrix is
    # divided by a power of two of its own size.
    matrices = [*factors, target] if input_root is None else [*factors, target, input_root]
    units = [exponents(W) for W in matrices]
    scaled = [times_power(W, -e[..., None, None]) for W, e in zip(matrices, units, strict=True)]
    depth = len(factors)
    root = None if input_root is None else scaled[-1]
    product, wanted = _seen(end_to_end(scaled[:depth]), root), _seen(scaled[depth], root)
    unit = torch.stack(units[:depth]).sum(0) - units[depth]
    error = torch.linalg.matrix_norm(times_power(product, unit[..., None, None]) - wanted)
    scale = torch.linalg.matrix_norm(wanted)
    # If the target is zero, the rounding error is relative to the norms of the factors, whose
    # product cancels.
    sizes = [torch.linalg.matrix_norm(W) for W in scaled[:depth]]
    largest = torch.stack(sizes).prod(0) * (1.0 if root is None else torch.linalg.matrix_norm(root))
    error = torch.where(scale > 0, error, torch.linalg.matrix_norm(product))
    scale = torch.where(scale > 0, scale, largest)
    return error / torch.where(scale > 0, scale, 1.0)


def _seen(solution: Tensor, input_root: Tensor | None) -> Tensor:
    return solution if input_root is None else solution @ input_root


def checked_target(factors: Factors, target: object) -> Tensor:
    """A target that fits the factors, detached from the autograd graph.

    Its shape is ``(d_L, d_0)``, or ``(…, d_L, d_0)`` with the batch dimensions of the factors.

    Raises:
        TypeError: It is not a float64 tensor.
        ValueError: Its shape is not that of the end-to-end product, or it is not finite.
    """
    shape = (factors[-1].shape[-2], factors[0].shape[-1])
    batch = factors[0].shape[:-2]
    return checked_tensor(target, "target", shape, (*batch, *shape), device=factors[0].device)


def hessian_vector_product(factors: Factors, direction: Factors, problem: Problem) -> list[Tensor]:
    """The Hessian of ``f`` at ``factors``, applied to ``direction``; one tensor per factor.

    The result is the derivative of the gradient along ``direction``. It takes one forward and one
    backward pass over the layers, and forms no other products of layers than those of the two passes.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        direction: ``U_i``, in the shapes of the factors.
        problem: The target ``T`` and the input root ``S``.
    """
    return _curvature_along(factors, direction, problem.target, problem.input_root)


def gauss_newton_product(
    factors: Factors, direction: Factors, input_root: Tensor | None = None
) -> list[Tensor]:
    """``2 JᵀJ U``, the Hessian at a minimizer with zero residual, applied to ``direction``.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        direction: ``U_i``, in the shapes of the factors.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
    """
    return _curvature_along(factors, direction, None, input_root)


def _curvature_along(
    factors: Factors, direction: Factors, target: Tensor | None, input_root: Tensor | None
) -> list[Tensor]:
    """The Hessian-vector product; without a target the residual is taken to be zero."""
    # Forward: the product of the first layers, and its derivative along the direction.
    product, tangent = factors[0], direction[0]
    prefixes: list[tuple[Tensor, Tensor] | None] = [None]  # (W_{i-1:1}, its derivative)
    for W, U in zip(factors[1:], direction[1:], strict=True):
        prefixes.append((product, tangent))
        product, tangent = W @ product, U @ product + W @ tangent

    # Derivative of the residual, and the residual itself, as the backward pass starts with them.
    dE = tangent if input_root is None else tangent @ input_root
    back_tangent = 2 * (dE if input_root is None else dE @ input_root.mT)
    back: Tensor | None = None
    if target is not None:
        E = (product if input_root is None else product @ input_root) - target
        back = 2 * (E if input_root is None else E @ input_root.mT)

    # Backward: the derivative of each layer's gradient, by the product rule.
    curvature: list[Tensor] = []
    for i in reversed(range(len(factors))):
        prefix = prefixes[i]
        if prefix is None:
            curvature.append(back_tangent)
            break
        R, dR = prefix
        image, below = back_tangent @ R.mT, factors[i].mT @ back_tangent
        if back is not None:
            image, below = image + back @ dR.mT, below + direction[i].mT @ back
            back = factors[i].mT @ back
        curvature.append(image)
        back_tangent = below
    return curvature[::-1]
