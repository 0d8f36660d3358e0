"""The result of :func:`dmf_sharpness.sharpness`: value and certificate, and what follows on demand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from dmf_sharpness.hessian.eigenmatrix import ThinEigenmatrix, WholeEigenmatrix
from dmf_sharpness.network.curvature import layer_grams
from dmf_sharpness.network.factors import Factors
from dmf_sharpness.network.scaling import plain, times_power


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
    _eigenmatrix: WholeEigenmatrix | ThinEigenmatrix = field(repr=False, compare=False)
    _first: Tensor = field(repr=False, compare=False)
    """The value at the scale of ``_factors``."""
    _second: Callable[[], Tensor] = field(repr=False, compare=False)
    """Makes the second eigenvalue at that scale, when it is asked for."""
    _exponent: Tensor | None = field(repr=False, compare=False, default=None)
    """``e``: eigenvalues are ``2^e`` times those of ``_factors``; NaN beyond the range, None for 0."""

    @cached_property
    def eigenmatrix(self) -> Tensor:
        """``Y``, the unit top eigenmatrix of ``J Jᵀ``, shape ``(…, d_L, r)``.

        ``r`` is ``d_0``. The entry of largest magnitude is positive. Where ``gap`` is zero any unit
        matrix of the top eigenspace may come out.
        """
        return self._eigenmatrix.whole()

    @cached_property
    def eigenvector(self) -> list[Tensor]:
        """``[U_1 … U_L]``, the unit top eigenvector of the Hessian, shaped like the factors.

        Zero where the Hessian is zero. As large as the factors; :attr:`eigenvector_pairs` has it in
        less memory.
        """
        return self._eigenmatrix.direction(self._factors, self._root)

    @cached_property
    def eigenvector_pairs(self) -> list[tuple[Tensor, Tensor]]:
        """``[(V_1, X_1) … (V_L, X_L)]`` with ``U_i = V_i X_iᵀ``, ``k`` columns each.

        Raises:
            ValueError: The value was not computed by the low-rank method.
        """
        pairs = self._eigenmatrix.pairs(self._factors, self._root)
        if pairs is None:
            raise ValueError(f"method: expected 'low-rank', got {self.method!r}")
        return pairs

    @cached_property
    def gap(self) -> float | Tensor:
        """Distance to the second eigenvalue, ``λ_1 − λ_2``; multiplicities count.

        The iterations find the second eigenvalue with the first eigenpair taken out, when this is
        first asked for; ``low-rank`` to about ``1e-5 λ_1``.
        """
        return self._scaled_back((self._first - self._second()).clamp(min=0))

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
