"""The ℓ²-regularized problem ``‖M − W_{L:1}‖_F² + μ Σ_i ‖W_i‖_F²``: minimizers and collapse.

An extension, after the sequel of the paper's authors (arXiv:2603.27072); the derivation is ours.

A product of singular values ``p_1 ≥ p_2 ≥ …`` costs the regularizer at least ``μ L Σ_j p_j^{2/L}``,
attained by factors that share their singular vectors and carry ``p_j^{1/L}`` each. What is left is a
problem for each singular value ``σ`` of the target, ``min_a (σ − a^L)² + μ L a²``. At its minimum ``a`` is
zero or the largest root of

    ``a^{L−2} (σ − a^L) = μ``.

At depth 2 the root exists, and is the minimum, for ``μ < σ``. From depth 3 on zero is always a local
minimum; the two have the same value when ``a^L = σ (L−2)/(L−1)``, that is at

    ``μ* = σ/(L−1) · (σ (L−2)/(L−1))^{1−2/L}``,

beyond which the factors collapse to zero. Every global minimizer has these factors up to rotations of
the hidden layers (if no two ``σ_j`` are equal and none is at its threshold), which are symmetries of the
loss: so all have the same Hessian spectrum, and in all of them every layer has the Frobenius norm
``(Σ_j a_j²)^{1/2}``.
"""

from collections.abc import Sequence

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from dmf_sharpness.factors import Factors
from dmf_sharpness.loss import gradient, loss
from dmf_sharpness.minimizers import diagonal_cores, frames_of, in_frames
from dmf_sharpness.targets import Seed


def collapse_threshold(singular_value: float, depth: int) -> float:
    """``μ*``: with a larger regularization the singular value ``σ`` of the target is given up.

    >>> collapse_threshold(2.0, depth=2)
    2.0
    """
    if depth < 2:
        raise ValueError(f"depth: expected at least 2, got {depth}")
    shrunk = singular_value * (depth - 2) / (depth - 1)
    return singular_value / (depth - 1) * shrunk ** (1 - 2 / depth)


def layer_singular_value(singular_value: float, depth: int, regularization: float) -> float:
    """``a``: the singular value of each layer that carries ``σ`` at the global minimum; 0 if it collapsed.

    Args:
        singular_value: ``σ > 0``, of the target.
        depth: ``L ≥ 2``.
        regularization: ``μ > 0``.
    """
    if not regularization > 0:
        raise ValueError(f"regularization: expected a positive number, got {regularization}")
    if regularization >= collapse_threshold(singular_value, depth):
        return 0.0
    # a^{L−2}(σ − a^L) is largest at a^L = σ (L−2)/(2L−2); beyond, it falls to 0 at a^L = σ.
    low = (singular_value * (depth - 2) / (2 * depth - 2)) ** (1 / depth)
    high = singular_value ** (1 / depth)

    def slope(a: float) -> float:
        return a ** (depth - 2) * (singular_value - a**depth) - regularization

    return float(scipy.optimize.brentq(slope, low, high, xtol=1e-300, rtol=1e-15))


def regularized_loss(factors: Factors, target: Tensor, regularization: float) -> Tensor:
    """``‖M − W_{L:1}‖_F² + μ Σ_i ‖W_i‖_F²``, shape ``(…)`` of the batch."""
    norms = torch.stack([W.square().sum((-2, -1)) for W in factors]).sum(0)
    return loss(factors, target) + regularization * norms


def regularized_gradient(factors: Factors, target: Tensor, regularization: float) -> list[Tensor]:
    """``2 L_iᵀ E R_iᵀ + 2 μ W_i``, one tensor per factor."""
    plain = gradient(factors, target)
    return [g + 2 * regularization * W for g, W in zip(plain, factors, strict=True)]


def regularized_minimizer(
    target: Tensor, widths: Sequence[int], regularization: float, seed: Seed
) -> list[Tensor]:
    """A random global minimizer of the regularized problem.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64.
        widths: Hidden widths; each at least the number of singular values that do not collapse.
        regularization: ``μ > 0``.
        seed: Draws the frames of the hidden layers.

    Raises:
        ValueError: ``μ`` is not positive, or a width cannot hold what does not collapse.
    """
    depth = len(widths) + 1
    carried = [
        layer_singular_value(float(value), depth, regularization)
        for value in torch.linalg.svdvals(target)
        if value > 0
    ]
    kept = torch.tensor([a for a in carried if a > 0], dtype=torch.float64)
    if min(widths) < len(kept):
        raise ValueError(
            f"widths: expected every hidden width to be at least {len(kept)}, the number of singular "
            f"values that do not collapse, got {list(widths)}"
        )
    rng = np.random.default_rng(seed)
    cores = diagonal_cores(target, widths, [kept] * depth)
    return in_frames(cores, frames_of(target, widths, rng))
