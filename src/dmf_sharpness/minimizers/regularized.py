"""The ℓ²-regularized problem ``‖M − W_{L:1}‖_F² + μ Σ_i ‖W_i‖_F²``: global minimizers and collapse.

This is an extension of the replicated paper, prompted by the sequel of its authors
(arXiv:2603.27072). The derivation is ours; ``docs/regularized.md`` gives all its steps.

*Reduction to scalars.* Let the product have the singular values ``p_1 ≥ p_2 ≥ …``. Then the
regularizer is at least ``μ L Σ_j p_j^{2/L}``. Factors with common singular vectors and the singular
values ``p_j^{1/L}`` attain this. So for each singular value ``σ`` of the target a problem in one
variable remains, ``min_a (σ − a^L)² + μ L a²``. At its minimum ``a`` is zero, or the largest root of

    ``a^{L−2} (σ − a^L) = μ``.

*Collapse.* At depth 2 the root exists for ``μ < σ``, and it is the minimum. From depth 3 on, zero
is always a local minimum. Both minima have the same value if ``a^L = σ (L−2)/(L−1)``, which is the
case at

    ``μ* = σ/(L−1) · (σ (L−2)/(L−1))^{1−2/L}``.

For larger ``μ`` the global minimum is zero, and the factors collapse.

*All global minimizers.* Unless a ``σ_j`` is exactly at its threshold, every global minimizer has
these factors, up to rotations of the hidden layers. Rotations are symmetries of the loss. So all
global minimizers have the same Hessian spectrum, and every layer has the same Frobenius norm
``(Σ_j a_j²)^{1/2}``. For scalar targets :func:`scalar_spectrum` gives the spectrum.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import scipy
import torch
from torch import Tensor

from dmf_sharpness.minimizers.frames import diagonal_cores, frames_of, in_frames
from dmf_sharpness.minimizers.targets import Seed
from dmf_sharpness.network.factors import Factors, flatten, unflatten
from dmf_sharpness.network.loss import gradient, loss
from dmf_sharpness.network.problem import Problem


def collapse_threshold(singular_value: float, depth: int) -> float:
    """The threshold ``μ*``, above which the singular value ``σ`` collapses to zero at the global minimum.

    Args:
        singular_value: ``σ > 0``, a singular value of the target.
        depth: ``L ≥ 2``.

    Raises:
        ValueError: The depth is below 2.

    >>> collapse_threshold(2.0, depth=2)
    2.0
    """
    if depth < 2:
        raise ValueError(f"depth: expected at least 2, got {depth}")
    shrunk = singular_value * (depth - 2) / (depth - 1)
    return singular_value / (depth - 1) * shrunk ** (1 - 2 / depth)


def layer_singular_value(singular_value: float, depth: int, regularization: float) -> float:
    """The singular value ``a`` of each layer for ``σ``, at the global minimum; 0 if ``σ`` collapses.

    Args:
        singular_value: ``σ > 0``, a singular value of the target.
        depth: ``L ≥ 2``.
        regularization: ``μ > 0``.

    Raises:
        ValueError: The regularization is not positive, or the depth is below 2.
    """
    if not regularization > 0:
        raise ValueError(f"regularization: expected a positive number, got {regularization}")
    if regularization >= collapse_threshold(singular_value, depth):
        return 0.0
    # The largest root lies between the maximum of a^{L−2}(σ − a^L), at a^L = σ (L−2)/(2L−2), and
    # its zero at a^L = σ. Between the two the function decreases.
    low = (singular_value * (depth - 2) / (2 * depth - 2)) ** (1 / depth)
    high = singular_value ** (1 / depth)

    def slope(a: float) -> float:
        return a ** (depth - 2) * (singular_value - a**depth) - regularization

    return float(scipy.optimize.brentq(slope, low, high, xtol=1e-300, rtol=1e-15))


def vanishing_threshold(singular_value: float, depth: int) -> float:
    """The ``μ`` above which no local minimum with ``a > 0`` exists either; at depth 2 it equals ``μ*``.

    It is the largest value of ``a^{L−2}(σ − a^L)``, which is attained at ``a^L = σ (L−2)/(2L−2)``.

    Args:
        singular_value: ``σ > 0``, a singular value of the target.
        depth: ``L ≥ 2``.

    Raises:
        ValueError: The depth is below 2.

    >>> vanishing_threshold(2.0, depth=2)
    2.0
    """
    if depth < 2:
        raise ValueError(f"depth: expected at least 2, got {depth}")
    power = singular_value * (depth - 2) / (2 * depth - 2)
    return (singular_value - power) * power ** (1 - 2 / depth)


def scalar_spectrum(singular_value: float, widths: Sequence[int], regularization: float) -> Tensor:
    """All Hessian eigenvalues at the global minimizers of the scalar problem, descending.

    Let ``W_i = a q_i q_{i-1}ᵀ`` with ``σ − a^L = μ/a^{L−2}``. The second-order term of the loss
    splits into three parts, one for each kind of change ``U_i``:

    - ``U_i = α_i q_i q_{i-1}ᵀ``: the term is ``(a^{2L−2} − μ)(Σ_i α_i)² + 2μ Σ_i α_i²``.
    - ``U_i = x_i q_{i-1}ᵀ`` and ``U_{i+1} = q_{i+1} y_iᵀ`` with ``x_i, y_i ⊥ q_i``: the term is
      ``μ ‖x_i − y_i‖²``.
    - All entries orthogonal to both ``q_i`` and ``q_{i-1}``: the term is ``μ`` times their square.

    Hence the eigenvalues, with their multiplicities, are

        ``2L(a^{2L−2} − μ) + 4μ`` once, ``4μ`` for ``L − 1 + Σ(d_i − 1)``, ``0`` for ``Σ(d_i − 1)``,
        and ``2μ`` for the rest.

    At a collapsed minimizer all eigenvalues are ``2μ``. At depth 2, however, one half of them is
    ``2μ + 2σ`` and the other half ``2μ − 2σ``.

    Args:
        singular_value: ``σ = |M| > 0``.
        widths: The hidden widths.
        regularization: ``μ > 0``.

    Returns:
        The eigenvalues, shape ``(N,)`` for ``N`` parameters.
    """
    depth, mu = len(widths) + 1, regularization
    sizes = [1, *widths, 1]
    total = sum(m * n for m, n in itertools.pairwise(sizes))
    a = layer_singular_value(singular_value, depth, mu)
    turns = sum(width - 1 for width in widths)
    if a > 0:
        top = 2 * depth * (a ** (2 * depth - 2) - mu) + 4 * mu
        middle = depth - 1 + turns
        parts = [(top, 1), (4 * mu, middle), (0.0, turns), (2 * mu, total - 1 - middle - turns)]
    elif depth == 2:
        parts = [(2 * mu + 2 * singular_value, widths[0]), (2 * mu - 2 * singular_value, widths[0])]
    else:
        parts = [(2 * mu, total)]
    values = torch.cat([torch.full((n,), v, dtype=torch.float64) for v, n in parts])
    return values.sort(descending=True).values


def least_regularized_loss(target: Tensor, depth: int, regularization: float) -> float:
    """The least value of the regularized loss, ``Σ_j min_a (σ_j − a^L)² + μ L a²``, for large widths."""
    total = 0.0
    for value in torch.linalg.svdvals(target).tolist():
        a = layer_singular_value(value, depth, regularization) if value > 0 else 0.0
        total += (value - a**depth) ** 2 + regularization * depth * a**2
    return total


def descended(
    start: Factors, target: Tensor, regularization: float, iterations: int = 2000
) -> list[Tensor]:
    """The factors at which L-BFGS ends from a starting point.

    The search does not use the closed form of this module, so it can test this form.
    """
    widths = [start[0].shape[1], *(W.shape[0] for W in start)]

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        W = unflatten(torch.from_numpy(x), widths)
        slope = flatten(regularized_gradient(W, target, regularization))
        return float(regularized_loss(W, target, regularization)), slope.numpy()

    options = {"maxiter": iterations, "ftol": 0.0, "gtol": 1e-11, "maxcor": 30}
    end = scipy.optimize.minimize(
        objective, flatten(start).numpy(), jac=True, method="L-BFGS-B", options=options
    )
    return unflatten(torch.from_numpy(end.x), widths)


def regularized_loss(factors: Factors, target: Tensor, regularization: float) -> Tensor:
    """The regularized loss ``‖M − W_{L:1}‖_F² + μ Σ_i ‖W_i‖_F²``, shape ``(…)``."""
    norms = torch.stack([W.square().sum((-2, -1)) for W in factors]).sum(0)
    return loss(factors, Problem(target)) + regularization * norms


def regularized_gradient(factors: Factors, target: Tensor, regularization: float) -> list[Tensor]:
    """The gradient ``2 L_iᵀ E R_iᵀ + 2 μ W_i``, ``E = W_{L:1} − M``, one tensor per factor."""
    plain = gradient(factors, Problem(target))
    return [g + 2 * regularization * W for g, W in zip(plain, factors, strict=True)]


def regularized_minimizer(
    target: Tensor, widths: Sequence[int], regularization: float, seed: Seed
) -> list[Tensor]:
    """A random global minimizer of the regularized problem.

    Args:
        target: ``M``, shape ``(d_L, d_0)``, float64.
        widths: The hidden widths, each at least the number of singular values that do not collapse.
        regularization: ``μ > 0``.
        seed: The seed for the frames of the hidden layers.

    Returns:
        ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``.

    Raises:
        ValueError: ``μ`` is not positive, or a width is below the number of singular values that do
            not collapse.
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
