"""The result of :func:`dmf_sharpness.sharpness`: value, certificate, and quantities computed on demand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from dmf_sharpness.hessian.eigenmatrix import Eigenmatrix
from dmf_sharpness.network.curvature import layer_grams
from dmf_sharpness.network.factors import Factors
from dmf_sharpness.network.observation import Observation
from dmf_sharpness.network.scaling import plain, times_power


@dataclass(frozen=True)
class Sharpness:
    """The largest Hessian eigenvalue at a minimizer, or at each of a batch, with its certificate.

    The properties are computed on demand from the factors. So the factors must not be changed in
    place after the call.

    Attributes:
        value: ``λ_max``. It is a float; for a batch it is a tensor ``(…)``, and so are
            ``residual``, ``converged``, ``gap`` and ``upper_bound``. Outside the range of float64
            it is ``inf``, zero or subnormal. It is NaN where the factors differ too much in size to
            be computed with.
        residual: ``‖H U − λ U‖ / λ`` in parameter space, for the unit eigenvector ``U``. It is
            computed by the chain rule and not with the operator whose eigenvalue was computed; where
            a layer has more than 2²¹ entries, it is a bound from products with 96 random directions,
            which is too small with a probability below 1e-13. By
            the theorem of Bauer and Fike, an eigenvalue of the Hessian lies within ``residual · λ``
            of ``value``. If this is the largest one, then by the theorem of Kato and Temple it lies
            within ``residual² λ² / gap``. It is NaN outside the range of float64.
        converged: Whether ``residual ≤ tolerance``. If not, ``value`` is only a lower bound on
            ``λ_max``, or it is outside the range of float64.
        tolerance: The wanted upper bound on ``residual``.
        method: The method that computed the value, as in :func:`dmf_sharpness.sharpness`.
        loss: The loss in words, ``sum of squares`` unless a model was given with another one.
        misfit: The most by which the residual of the fit may change the value, relative to it; None if no
            targets of a model were given, so that the residual was taken to be zero.

    >>> from dmf_sharpness import sharpness
    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> s = sharpness([W, W])
    >>> round(s.value, 6), s.converged, round(s.stability_limit, 6)
    (16.0, True, 0.125)
    >>> [tuple(U.shape) for U in s.eigenvector]
    [(2, 2), (2, 2)]
    """

    value: float | Tensor
    residual: float | Tensor
    converged: bool | Tensor
    tolerance: float
    method: str
    _factors: Factors = field(repr=False, compare=False)
    _root: Tensor | None = field(repr=False, compare=False)
    _eigenmatrix: Eigenmatrix = field(repr=False, compare=False)
    _first: Tensor = field(repr=False, compare=False)
    """The first eigenvalue, at the scale of ``_factors``."""
    _second: Callable[[], Tensor] = field(repr=False, compare=False)
    """A function that computes the second eigenvalue, at the same scale."""
    _exponent: Tensor | None = field(repr=False, compare=False, default=None)
    """``e``: the eigenvalues are ``2^e`` times those at ``_factors``. None is 0, NaN a failure."""
    _observation: Observation | None = field(repr=False, compare=False, default=None)
    """``𝒜`` at the scale of ``_factors``, or None if the product is seen as a whole."""
    _bound: Callable[[], Tensor] | None = field(repr=False, compare=False, default=None)
    """A function that computes the upper bound; None stands for the formula of the factors."""
    loss: str = "sum of squares"
    misfit: float | None = None

    @cached_property
    def eigenmatrix(self) -> Tensor:
        """The unit top eigenmatrix ``Y`` of ``J Jᵀ``, shape ``(…, d_L, d_0)``.

        With ``observed`` or ``measurements`` it is ``𝒜*z``, scaled to norm 1, for the top eigenvector
        ``z`` of ``𝒜 J Jᵀ 𝒜*``. The eigenvector of the Hessian is ``U_i ∝ L_iᵀ Y R_iᵀ`` in either case.

        Its sign is chosen such that the entry of largest magnitude is positive. If ``gap`` is zero,
        it may be any unit matrix of the top eigenspace.
        """
        return self._eigenmatrix.whole()

    @cached_property
    def eigenvector(self) -> list[Tensor]:
        """The unit top eigenvector of the Hessian, ``[U_1 … U_L]``, in the shapes of the factors.

        For a model it has one tensor per trained parameter, in their order in the module.

        It is zero where the Hessian is zero. It takes as much memory as the factors; for the
        low-rank method :attr:`eigenvector_pairs` is smaller.
        """
        return self._eigenmatrix.direction(self._factors, self._root)

    @cached_property
    def eigenvector_pairs(self) -> list[tuple[Tensor, Tensor]]:
        """The eigenvector in thin factors, ``[(V_1, X_1) … (V_L, X_L)]`` with ``U_i = V_i X_iᵀ``.

        ``V_i`` has the shape ``(d_i, k)``, and ``X_i`` the shape ``(d_{i-1}, k)``.

        Raises:
            ValueError: The value was not computed by the low-rank method.
        """
        pairs = self._eigenmatrix.pairs(self._factors, self._root)
        if pairs is None:
            raise ValueError(f"method: expected 'low-rank', got {self.method!r}")
        return pairs

    @cached_property
    def gap(self) -> float | Tensor:
        """The distance ``λ_1 − λ_2`` to the second eigenvalue.

        Multiplicities count: it is zero if ``λ_1`` is a multiple eigenvalue. The iterative methods
        compute the second eigenvalue at the first use of this property, after subtracting the first
        eigenpair. The error is about ``1e-5 λ_1`` for ``low-rank``.
        """
        return self._scaled_back((self._first - self._second()).clamp(min=0))

    @cached_property
    def upper_bound(self) -> float | Tensor:
        """The upper bound ``2 Σ_i ‖L_i‖₂² ‖R_i‖₂²`` on all eigenvalues; at depth 2 it equals ``λ_max``.

        With input data ``R_i S`` stands for ``R_i``, and the bound is not attained in general. Nor is
        it with ``observed`` or ``measurements``, where it is ``‖𝒜‖₂²`` times as large. The computation
        needs the Gram matrices of all intermediate factors, which is expensive if both ``d_0`` and
        ``d_L`` are large.
        """
        if self._bound is not None:
            return self._scaled_back(self._bound())
        total = self._factors[0].new_zeros(self._factors[0].shape[:-2])
        for A, B in zip(*layer_grams(self._factors, self._root), strict=True):
            term = torch.ones_like(total)
            for gram in (A, B):
                if gram is not None:
                    term = term * torch.linalg.eigvalsh(gram)[..., -1]
            total = total + term
        seen = 1.0 if self._observation is None else self._observation.squared_norm()
        return self._scaled_back(2 * total * seen)

    @property
    def stability_limit(self) -> float | Tensor:
        """The step size ``2/λ_max``, beyond which gradient descent leaves; ``inf`` if ``λ_max = 0``."""
        value = torch.as_tensor(self.value, dtype=torch.float64)
        return plain(2 / value)

    def _scaled_back(self, values: Tensor) -> float | Tensor:
        """Values at the scale of ``_factors``, converted to the scale of the original factors."""
        return plain(values if self._exponent is None else times_power(values, self._exponent))
