"""What :func:`dmf_sharpness.hessian.sharpness` returns: value and certificate, and what follows on demand."""

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from dmf_sharpness.hessian import closed_forms
from dmf_sharpness.hessian.lanczos import top_eigenvector
from dmf_sharpness.hessian.low_rank import LowRankPair, second_curvature
from dmf_sharpness.hessian.operator import curvature_operator
from dmf_sharpness.network.chain import chain, pull_back_norm, push_left, push_right
from dmf_sharpness.network.curvature import layer_grams, parameter_direction, signed
from dmf_sharpness.network.factors import Factors
from dmf_sharpness.network.randomness import gaussian
from dmf_sharpness.network.scaling import plain, times_power

SECOND_TOLERANCE = 1e-3
"""Of the second eigenvector of the low-rank method."""


@dataclass(frozen=True)
class Sharpness:
    """The largest Hessian eigenvalue of a minimizer (or of each in a batch), with its certificate.

    What is computed on demand reads the factors, which must not have been changed in place since.

    Attributes:
        value: ``λ_max``. A float; for a batch a tensor ``(…)``, as are ``residual``, ``converged``,
            ``gap`` and ``upper_bound``. Beyond the range of float64 it is ``inf``, zero or subnormal, or
            NaN where the factors are too uneven for any scale.
        residual: ``‖H U − λ U‖ / λ`` in parameter space, with derivatives of the end-to-end product by
            the chain rule and not with the operator that was solved. By the theorem of Bauer and
            Fike an eigenvalue of the Hessian lies within ``residual · λ`` of ``value``; if it is the
            largest, then by that of Kato and Temple within ``residual² λ² / gap``. NaN beyond the range.
        converged: Whether ``residual ≤ tolerance``. If not, ``value`` is only a lower bound, or beyond
            the range.
        tolerance: What ``residual`` was to be at most.
        method: How the value was computed.
    """

    value: float | Tensor
    residual: float | Tensor
    converged: bool | Tensor
    tolerance: float
    method: str
    _factors: Factors = field(repr=False, compare=False)
    _root: Tensor | None = field(repr=False, compare=False)
    _pair: Tensor | LowRankPair = field(repr=False, compare=False)
    _second: Tensor | None = field(repr=False, compare=False, default=None)
    _exponent: Tensor | None = field(repr=False, compare=False, default=None)
    """``e``: eigenvalues are ``2^e`` times those of ``_factors``; NaN beyond the range, None for 0."""

    @cached_property
    def eigenmatrix(self) -> Tensor:
        """``Y``, the unit top eigenmatrix of ``J Jᵀ``, shape ``(…, d_L, r)``.

        ``r`` is ``d_0``. The entry of largest magnitude is positive. Where ``gap`` is zero any unit
        matrix of the top eigenspace may come out.
        """
        if isinstance(self._pair, LowRankPair):
            return signed(self._pair.P @ self._pair.Q.mT)
        return self._pair

    @cached_property
    def eigenvector(self) -> list[Tensor]:
        """``[U_1 … U_L]``, the unit top eigenvector of the Hessian, shaped like the factors.

        Zero where the Hessian is zero. As large as the factors; :attr:`eigenvector_pairs` has it in
        less memory.
        """
        if isinstance(self._pair, LowRankPair):
            return [V @ X.mT for V, X in self.eigenvector_pairs]
        return parameter_direction(self._factors, self._pair, self._root)

    @cached_property
    def eigenvector_pairs(self) -> list[tuple[Tensor, Tensor]]:
        """``[(V_1, X_1) … (V_L, X_L)]`` with ``U_i = V_i X_iᵀ``, ``k`` columns each.

        Raises:
            ValueError: The value was not computed by the low-rank method.
        """
        if not isinstance(self._pair, LowRankPair):
            raise ValueError(f"method: expected 'low-rank', got {self.method!r}")
        P, Q = self._pair.P, self._pair.Q
        layers = chain(self._factors, self._root)
        norm = pull_back_norm(layers, P, Q)
        norm = torch.where(norm > 0, norm, 1.0)
        rights = push_right(layers, Q)
        if self._root is not None:
            # The root stands in front: R_i S Q from the second layer of the chain on.
            rights = rights[1:]
        lefts = push_left(layers, P)[-len(self._factors) :]
        return [(V / norm, X) for V, X in zip(lefts, rights, strict=True)]

    @cached_property
    def gap(self) -> float | Tensor:
        """Distance to the second eigenvalue, ``λ_1 − λ_2``; multiplicities count.

        The iterations find the second eigenvalue with the first eigenpair taken out, when this is
        first asked for; ``low-rank`` to about ``1e-5 λ_1``.
        """
        return self._scaled_back(self._gap())

    def _gap(self) -> Tensor:
        """:attr:`gap`, at the scale of ``_factors``."""
        if isinstance(self._pair, LowRankPair):
            first, second = self._pair.value, math.nan
            if not math.isnan(first):
                layers = chain(self._factors, self._root)
                second = second_curvature(layers, self._pair, SECOND_TOLERANCE)
            return self._factors[0].new_tensor(first - second).clamp(min=0)
        values = torch.as_tensor(self.value, dtype=torch.float64, device=self._pair.device)
        if self._exponent is not None:
            values = times_power(values, -self._exponent)
        if self._second is not None:
            return (values - self._second).clamp(min=0)
        if self.method == "batched":
            second_values = closed_forms.dense(self._factors, self._root).second
            return (values - second_values).clamp(min=0)
        # One minimizer after another; a single one is a stack of one.
        batch = values.shape
        pairs = self._pair.reshape(-1, *self._pair.shape[-2:])
        layers_of = [W.reshape(-1, *W.shape[-2:]) for W in self._factors]
        gaps = [
            value - _second_eigenvalue([W[b] for W in layers_of], self._root, value, pairs[b])
            for b, value in enumerate(values.reshape(-1).tolist())
        ]
        return values.new_tensor(gaps).clamp(min=0).reshape(batch)

    @cached_property
    def upper_bound(self) -> float | Tensor:
        """``2 Σ_i ‖L_i‖₂² ‖R_i‖₂²``, which no eigenvalue exceeds; ``λ_max`` itself at depth 2.

        It forms Gram matrices of all intermediate factors: costly for wide square networks.
        """
        total = self._factors[0].new_zeros(self._factors[0].shape[:-2])
        for A, B in zip(*layer_grams(self._factors, self._root), strict=True):
            term = torch.ones_like(total)
            for gram in (A, B):
                if gram is not None:
                    term = term * torch.linalg.eigvalsh(gram)[..., -1]
            total = total + term
        return self._scaled_back(2 * total)

    def _scaled_back(self, values: Tensor) -> float | Tensor:
        """From the scale of ``_factors`` to that of the factors themselves."""
        return plain(values if self._exponent is None else times_power(values, self._exponent))


def _second_eigenvalue(factors: Factors, root: Tensor | None, value: float, first: Tensor) -> float:
    operator = curvature_operator(factors, root)

    def remainder(Y: Tensor) -> Tensor:
        return operator(Y) - value * (first * Y).sum() * first

    return max(0.0, top_eigenvector(remainder, gaussian(first.shape, 1, first.device), 1e-6)[0])
