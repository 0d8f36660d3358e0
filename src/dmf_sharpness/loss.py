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

from dmf_sharpness.factors import Factors, end_to_end, left_factors, right_factors


def residual(factors: Factors, target: Tensor, input_root: Tensor | None = None) -> Tensor:
    """``E = W_{L:1} S − T``, shape of ``target``."""
    product = end_to_end(factors)
    return (product if input_root is None else product @ input_root) - target


def loss(factors: Factors, target: Tensor, input_root: Tensor | None = None) -> Tensor:
    """``‖T − W_{L:1} S‖_F²``, shape ``(…)`` of the batch.

    >>> float(loss([torch.ones(2, 1), torch.ones(1, 2)], torch.tensor([[5.0]])))
    9.0
    """
    return residual(factors, target, input_root).square().sum((-2, -1))


def gradient(factors: Factors, target: Tensor, input_root: Tensor | None = None) -> list[Tensor]:
    """``∂f/∂W_i = 2 L_iᵀ E (R_i S)ᵀ``, one tensor per factor."""
    E = residual(factors, target, input_root)
    outer = 2 * (E if input_root is None else E @ input_root.mT)
    lefts, rights = left_factors(factors), right_factors(factors)
    return [L.mT @ outer @ R.mT for L, R in zip(lefts, rights, strict=True)]


def check_orthogonal_residual(
    factors: Factors, solution: Tensor, input_root: Tensor | None = None, rtol: float = 1e-10
) -> None:
    """Make sure that the residual does not enter the Hessian: ``(W_{L:1} − M) S = 0``.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        solution: ``M``, the target, or with data any least-squares solution, shape ``(…, d_L, d_0)``.
        input_root: ``S`` with ``S Sᵀ`` the input Gram matrix, or None.
        rtol: What ``‖(W_{L:1} − M) S‖_F`` may be relative to ``‖M S‖_F``.

    Raises:
        TypeError: ``solution`` is not a float64 tensor.
        ValueError: It does not fit the factors or is not finite; or the residual is larger, with the
            norm of the gradient in the message: where that is zero, the point is a saddle or the
            minimum over a bottleneck.
    """
    check_target(factors, solution)
    E = residual(factors, _seen(solution, input_root), input_root)
    scale = torch.linalg.matrix_norm(_seen(solution, input_root))
    relative = torch.linalg.matrix_norm(E) / torch.where(scale > 0, scale, torch.ones_like(scale))
    worst = float(relative.max())
    if not worst <= rtol:
        parts = gradient(factors, _seen(solution, input_root), input_root)
        norm = torch.stack([g.square().sum((-2, -1)) for g in parts]).sum(0).sqrt().max()
        raise ValueError(
            f"target: expected factors whose product fits it to a relative {rtol:.0e}, so that the "
            f"residual is orthogonal to the inputs, got {worst:.3g} (gradient norm {float(norm):.3g}); "
            "the expression is not exact here, sharpness_at takes any point"
        )


def _seen(solution: Tensor, input_root: Tensor | None) -> Tensor:
    return solution if input_root is None else solution @ input_root


def check_target(factors: Factors, target: Tensor) -> None:
    """Reject a target that does not fit the factors.

    Raises:
        TypeError: It is not a float64 tensor.
        ValueError: Its shape is not that of the end-to-end product, or it is not finite.
    """
    if not isinstance(target, Tensor) or target.dtype != torch.float64:
        got = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"target: expected a float64 tensor, got {got}")
    shape = (factors[-1].shape[-2], factors[0].shape[-1])
    if tuple(target.shape[-2:]) != shape:
        raise ValueError(f"target: expected shape {shape}, got {tuple(target.shape)}")
    if not bool(torch.isfinite(target).all()):
        raise ValueError("target: expected finite values, got NaN or Inf")


def hessian_vector_product(
    factors: Factors,
    direction: Factors,
    target: Tensor | None = None,
    input_root: Tensor | None = None,
) -> list[Tensor]:
    """The Hessian of ``f`` at ``factors``, applied to ``direction``; one tensor per factor.

    It is the derivative of the gradient along ``direction``, one forward and one backward sweep
    over the layers; no product of two whole layers is formed beyond those of the two sweeps. Without
    a ``target`` the residual is taken to be zero, which makes it the Gauss–Newton product
    ``2 JᵀJ U`` of a minimizer.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``.
        direction: ``U_i``, shapes of ``factors``.
        target: ``T``, shape ``(…, d_L, r)``, or None for a zero residual.
        input_root: ``S``, shape ``(…, d_0, r)``, or None for the identity.
    """
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
