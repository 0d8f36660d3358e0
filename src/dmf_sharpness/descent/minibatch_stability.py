"""The stability of stochastic gradient descent at a minimizer that fits every sample.

Let ``H_i`` be the Hessian of sample ``i``, scaled so that the Hessian ``H`` of the whole loss is their mean.
Beside the minimizer a step on a batch, ``b`` of the ``n`` samples, is ``δ ← (I − η mean_batch H_i) δ``. Its
second moment ``Σ = E[δδᵀ]`` follows the linear map

    ``Σ ← Σ − η (HΣ + ΣH) + η² D[Σ]``,
    ``D[Σ] = (1 − p) HΣH + p mean_i H_iΣH_i``,  ``p = (n − b)/(b (n − 1))``,

for batches without replacement (Mulayoff and Michaeli, COLT 2024, arXiv:2306.07850). ``docs/minibatches.md``
derives it for this loss. Outside of the range of ``H`` nothing moves, so all is computed within it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from dmf_sharpness.arguments import checked_tensor
from dmf_sharpness.network.factors import Factors, checked_factors, left_factors, right_factors

SCAN = 1.05
"""The almost sure threshold is searched from the mean-square one upwards, by this factor."""
RANGE = 1e-12
"""Eigenvalues of ``H`` up to this fraction of the largest one count as zero."""


@dataclass(frozen=True)
class SampleHessians:
    """The Hessians of ``n`` samples at a minimizer, in an eigenbasis of the range of their mean.

    Attributes:
        roots: ``G_i``, shape ``(n, d_L, k)``, with ``H_i = G_iᵀ G_i``.
        eigenvalues: The positive eigenvalues of ``H = mean_i H_i``, descending, ``(k,)``.
        basis: Their eigenvectors in parameter space, ``(N, k)``.
    """

    roots: Tensor
    eigenvalues: Tensor
    basis: Tensor

    @property
    def count(self) -> int:
        """The number of samples ``n``."""
        return self.roots.shape[0]


def sample_hessians(factors: Factors, inputs: Tensor) -> SampleHessians:
    """The Hessians of ``n ‖y_i − W_{L:1} x_i‖²`` at factors that fit every sample.

    Their mean is the Hessian of ``‖Y − W_{L:1} X‖_F²``.

    Args:
        factors: ``W_i``, shape ``(d_i, d_{i-1})``.
        inputs: ``X``, shape ``(d_0, n)``.

    Raises:
        TypeError: A tensor is not a float64 tensor.
        ValueError: Shapes do not fit, or a value is not finite.
    """
    W = checked_factors(factors)
    inputs = checked_tensor(inputs, "inputs", (W[0].shape[-1], None), device=W[0].device)
    n = inputs.shape[1]
    # Row a of the Jacobian of W_{L:1} x_i with respect to W_l is that of L_l times R_l x_i.
    jacobian = torch.cat(
        [
            torch.einsum("ab,ci->iabc", L, R @ inputs).flatten(2)
            for L, R in zip(left_factors(W), right_factors(W), strict=True)
        ],
        dim=2,
    )
    roots = (2 * n) ** 0.5 * jacobian
    _, values, Vt = torch.linalg.svd(roots.flatten(0, 1) / n**0.5, full_matrices=False)
    kept = values.square() > RANGE * values[0].square()
    return SampleHessians(roots @ Vt[kept].mT, values[kept].square(), Vt[kept].mT)


def noise_share(count: int, size: int) -> float:
    """``p = (n − b)/(b (n − 1))``: 1 for single samples, 0 for the whole data."""
    return (count - size) / (size * (count - 1)) if count > 1 else 0.0


def _second_moments(samples: SampleHessians, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """``C = (H ⊗ I + I ⊗ H)/2`` and ``D`` on symmetric matrices of the range of ``H``.

    Returns:
        The diagonal of ``C``, ``(K,)``, ``D``, ``(K, K)``, in the orthonormal basis
        ``(e_a e_bᵀ + e_b e_aᵀ)/2^{1/2}`` and ``e_a e_aᵀ``, and its indices ``a ≤ b``, ``(2, K)``.
    """
    k, values = samples.eigenvalues.shape[0], samples.eigenvalues
    a, b = pairs = torch.triu_indices(k, k, device=values.device)
    H = (samples.roots.mT @ samples.roots).flatten(1)
    share = noise_share(samples.count, size)
    whole = torch.diag(values).flatten()
    product = share / samples.count * H.mT @ H + (1 - share) * torch.outer(whole, whole)
    T = product.reshape(k, k, k, k)  # the entries H_ac H_bd at (a, c, b, d)
    scale = torch.ones_like(values)[a].masked_fill(a == b, 0.5**0.5)
    c, d = pairs[0][None], pairs[1][None]
    D = T[a[:, None], c, b[:, None], d] + T[a[:, None], d, b[:, None], c]
    return (values[a] + values[b]) / 2, scale[:, None] * D * scale, pairs


def mean_square_threshold(samples: SampleHessians, size: int) -> float:
    """The step size ``2/λ_max(C⁺D)`` up to which second moments stay bounded (arXiv:2306.07850)."""
    C, D, _ = _second_moments(samples, size)
    root = C.rsqrt()
    return 2 / float(torch.linalg.eigvalsh(root[:, None] * D * root)[-1])


def second_moment_growth(
    samples: SampleHessians, size: int, step_size: float
) -> tuple[float, Tensor]:
    """The largest factor per step of second moments within the range of ``H``, and its eigenmatrix.

    Returns:
        The largest eigenvalue ``ρ`` of ``I − 2ηC + η²D``, and the positive semidefinite ``Σ``, ``(k, k)``, of
        trace one, that every step takes to ``ρ Σ`` on average.
    """
    C, D, (a, b) = _second_moments(samples, size)
    values, vectors = torch.linalg.eigh(torch.diag(1 - 2 * step_size * C) + step_size**2 * D)
    half = vectors[:, -1] * torch.ones_like(C).masked_fill(a != b, 0.5**0.5)
    matrix = D.new_zeros(len(samples.eigenvalues), len(samples.eigenvalues))
    matrix[a, b] = half
    matrix[b, a] = half
    return float(values[-1]), matrix / matrix.trace()


@dataclass(frozen=True)
class Chains:
    """Independent sequences of batches, and a random vector for each.

    Attributes:
        vectors: ``(chains, k)``.
        drawn: ``(steps, chains, n)``, 1 for the samples of a batch, 0 for the others.
        size: The number of samples in a batch.
    """

    vectors: np.ndarray
    drawn: np.ndarray
    size: int


def random_chains(
    samples: SampleHessians,
    size: int,
    seed: int | Sequence[int],
    steps: int = 160,
    chains: int = 256,
) -> Chains:
    """Random batches of ``size`` samples, without replacement, for every step of every chain."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((chains, len(samples.eigenvalues)))
    order = rng.random((steps, chains, samples.count)).argsort(2)[..., :size]
    drawn = np.zeros((steps, chains, samples.count))
    np.put_along_axis(drawn, order, 1.0, 2)
    return Chains(vectors, drawn, size)


def lyapunov_exponent(
    samples: SampleHessians, chains: Chains, step_size: float
) -> tuple[float, float]:
    """The almost sure growth of ``log ‖δ‖`` per step within the range of ``H``, by simulation.

    Every chain multiplies its vector by the random matrices of the steps, and is normalized after each of
    them. The first quarter of the steps does not count.

    Returns:
        The exponent, and its standard error over the chains.
    """
    n, d_L, k = samples.roots.shape
    roots, steps = samples.roots.reshape(n * d_L, k).numpy(), len(chains.drawn)
    x, log_growth, skipped = chains.vectors.copy(), np.zeros(len(chains.vectors)), steps // 4
    for step in range(steps):
        outputs = (x @ roots.T).reshape(len(x), n, d_L) * chains.drawn[step][:, :, None]
        x -= step_size / chains.size * outputs.reshape(len(x), n * d_L) @ roots
        norm = np.sqrt(np.einsum("ck,ck->c", x, x))
        x /= norm[:, None]
        if step >= skipped:
            log_growth += np.log(norm)
    rates = log_growth / (steps - skipped)
    return float(rates.mean()), float(rates.std(ddof=1) / len(rates) ** 0.5)


def almost_sure_threshold(
    samples: SampleHessians, size: int, seed: int | Sequence[int]
) -> tuple[float, float]:
    """The least step size at which the Lyapunov exponent is zero, and its standard error.

    It is not below :func:`mean_square_threshold`, because the logarithm of a mean is not below the mean of
    the logarithms. Below it a small displacement decays in almost every run.
    """
    if size == samples.count:  # without noise the exponent is that of the single matrix I − ηH
        return 2 / float(samples.eigenvalues[0]), 0.0
    chains = random_chains(samples, size, seed)

    def exponent(step_size: float) -> float:
        return lyapunov_exponent(samples, chains, step_size)[0]

    low = mean_square_threshold(samples, size) / SCAN
    while exponent(high := SCAN * low) <= 0:
        low = high
    root = float(brentq(exponent, low, high, xtol=1e-4 * low))
    rate, error = lyapunov_exponent(samples, chains, root)
    slope = (exponent(SCAN * root) - rate) / ((SCAN - 1) * root)
    return root, error / slope
