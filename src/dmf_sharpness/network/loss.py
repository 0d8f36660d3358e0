"""The loss, its gradient and its Hessian-vector product, in closed form.

Everything is written for ``f(W) = ‖T − W_{L:1} S‖_F²`` (a sum: no ½, no mean) with a fixed *input
root* ``S`` of shape ``(d_0, r)``. ``S`` is the identity, and left out, in matrix factorization.
Deep linear network training on inputs ``X`` and outputs ``Y`` is the same problem up to a constant:
with the thin singular value decomposition ``X = U Σ Vᵀ``,

    ‖Y − W_{L:1} X‖² = ‖Y V − W_{L:1} U Σ‖² + ‖Y (I − V Vᵀ)‖²,

that is ``S = U Σ`` (so ``S Sᵀ = X Xᵀ``, the input Gram matrix), ``T = Y V``, and a constant that no
choice of factors can remove. What the data does to the landscape is one fixed layer in front.
"""

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_tensor
from dmf_sharpness.network.curvature import vjp
from dmf_sharpness.network.factors import Factors, end_to_end
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.scaling import exponents, times_power

ORDINARY_NORMS = 2.0**-400, 2.0**400
"""Between these, squares of norms stay in the range of float64."""


def residual(factors: Factors, problem: Problem) -> Tensor:
    """``E = W_{L:1} S − T``, shape of ``T``."""
    return _seen(end_to_end(factors), problem.input_root) - problem.target


def loss(factors: Factors, problem: Problem) -> Tensor:
    """``‖T − W_{L:1} S‖_F²``, shape ``(…)`` of the batch.

    >>> float(loss([torch.ones(2, 1), torch.ones(1, 2)], Problem(torch.tensor([[5.0]]))))
    9.0
    """
    return residual(factors, problem).square().sum((-2, -1))


def gradient(factors: Factors, problem: Problem) -> list[Tensor]:
    """``∂f/∂W_i = 2 L_iᵀ E (R_i S)ᵀ``, one tensor per factor."""
    return vjp(factors, 2 * residual(factors, problem), problem.input_root)


def check_orthogonal_residual(
    factors: Factors, solution: object, input_root: Tensor | None = None, rtol: float = 1e-10
) -> None:
    """Make sure that the residual does not enter the Hessian: ``(W_{L:1} − M) S = 0``.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        solution: ``M``, the target, or with data any least-squares solution, shape ``(d_L, d_0)`` or
            ``(…, d_L, d_0)``.
        input_root: ``S`` with ``S Sᵀ`` the input Gram matrix, or None.
        rtol: What ``‖(W_{L:1} − M) S‖_F`` may be relative to ``‖M S‖_F``, or, where that is zero, to
            ``‖S‖_F Π_i ‖W_i‖_F``.

    Raises:
        TypeError: ``solution`` is not a float64 tensor.
        ValueError: It does not fit the factors or is not finite; or the residual is larger, with the
            norm of the gradient in the message: where that is zero, the point is a saddle or the
            minimum over a bottleneck.
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
    """``‖(W_{L:1} − M) S‖_F / ‖M S‖_F``, shape ``(…)``."""
    seen = _seen(target, input_root)
    error = torch.linalg.matrix_norm(residual(factors, Problem(seen, input_root)))
    scale = torch.linalg.matrix_norm(seen)
    low, high = ORDINARY_NORMS
    if float(scale.min()) > low and float(scale.max()) < high and bool(torch.isfinite(error).all()):
        return error / scale
    # A square left the range, or the target is zero: every matrix in a power of two of its own.
    matrices = [*factors, target] if input_root is None else [*factors, target, input_root]
    units = [exponents(W) for W in matrices]
    scaled = [times_power(W, -e[..., None, None]) for W, e in zip(matrices, units, strict=True)]
    depth = len(factors)
    root = None if input_root is None else scaled[-1]
    product, wanted = _seen(end_to_end(scaled[:depth]), root), _seen(scaled[depth], root)
    unit = torch.stack(units[:depth]).sum(0) - units[depth]
    error = torch.linalg.matrix_norm(times_power(product, unit[..., None, None]) - wanted)
    scale = torch.linalg.matrix_norm(wanted)
    # Beside a zero target rounding is relative to the norms of what cancels.
    sizes = [torch.linalg.matrix_norm(W) for W in scaled[:depth]]
    largest = torch.stack(sizes).prod(0) * (1.0 if root is None else torch.linalg.matrix_norm(root))
    error = torch.where(scale > 0, error, torch.linalg.matrix_norm(product))
    scale = torch.where(scale > 0, scale, largest)
    return error / torch.where(scale > 0, scale, 1.0)


def _seen(solution: Tensor, input_root: Tensor | None) -> Tensor:
    return solution if input_root is None else solution @ input_root


def checked_target(factors: Factors, target: object) -> Tensor:
    """A target that fits the factors, shape ``(d_L, d_0)`` or with their batch, without a graph.

    Raises:
        TypeError: It is not a float64 tensor.
        ValueError: Its shape is not that of the end-to-end product, or it is not finite.
    """
    shape = (factors[-1].shape[-2], factors[0].shape[-1])
    batch = factors[0].shape[:-2]
    return checked_tensor(target, "target", shape, (*batch, *shape), device=factors[0].device)


def hessian_vector_product(factors: Factors, direction: Factors, problem: Problem) -> list[Tensor]:
    """The Hessian of ``f`` at ``factors``, applied to ``direction``; one tensor per factor.

    It is the derivative of the gradient along ``direction``, one forward and one backward sweep
    over the layers; no product of two whole layers is formed beyond those of the two sweeps.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        direction: ``U_i``, shapes of ``factors``.
        problem: ``T`` and ``S``.
    """
    return _curvature_along(factors, direction, problem.target, problem.input_root)


def gauss_newton_product(
    factors: Factors, direction: Factors, input_root: Tensor | None = None
) -> list[Tensor]:
    """``2 JᵀJ U``: the Hessian at a minimizer with zero residual, applied to ``direction``.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        direction: ``U_i``, shapes of ``factors``.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
    """
    return _curvature_along(factors, direction, None, input_root)


def _curvature_along(
    factors: Factors, direction: Factors, target: Tensor | None, input_root: Tensor | None
) -> list[Tensor]:
    """Both products; without a target the residual is taken to be zero."""
    product, tangent = factors[0], direction[0]
    prefixes: list[tuple[Tensor, Tensor] | None] = [None]  # (W_{i-1:1}, its derivative)
    for W, U in zip(factors[1:], direction[1:], strict=True):
        prefixes.append((product, tangent))
        product, tangent = W @ product, U @ product + W @ tangent

    dE = tangent if input_root is None else tangent @ input_root
    back_tangent = 2 * (dE if input_root is None else dE @ input_root.mT)
    back: Tensor | None = None
    if target is not None:
        E = (product if input_root is None else product @ input_root) - target
        back = 2 * (E if input_root is None else E @ input_root.mT)

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
