"""Linear observations of the product of the factors: some entries, weighted entries, or measurements.

The loss is ``f(W) = ‖y − 𝒜(W_{L:1})‖²`` with a linear map ``𝒜(W) = (⟨A_1, W⟩, …, ⟨A_K, W⟩)``. In the
completion of a matrix with weights ``ω`` the ``A_k`` have a single entry each, ``ω_ij^{1/2}``. With
``K = d_0 d_L`` entries and ``ω = 1`` it is matrix factorization. Where ``𝒜* (y − 𝒜(W_{L:1}))`` is zero, the
Hessian is ``2 Jᵀ 𝒜*𝒜 J``, and its nonzero eigenvalues are those of ``2 𝒜 J Jᵀ 𝒜*``, a matrix of order
``K`` (``docs/missing_entries.md``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dmf_sharpness.arguments import Shape, checked_tensor
from dmf_sharpness.network.curvature import apply_curvature, kronecker_sum
from dmf_sharpness.network.factors import Factors
from dmf_sharpness.network.scaling import exponents, times_power

GramPairs = Sequence[tuple[Tensor, Tensor]]
"""The pairs ``(L_iL_iᵀ, R_iᵀR_i)`` of all layers, of shapes ``(…, d_L, d_L)`` and ``(…, d_0, d_0)``."""


class Observation(Protocol):
    """A linear map ``𝒜`` on matrices of shape ``(d_L, d_0)``, or a batch of such maps.

    Values of ``𝒜`` have the shape ``(…, K)``.
    """

    @property
    def order(self) -> int:
        """``K``; with weighted entries all ``d_0 d_L`` of them count."""
        ...

    @property
    def pattern(self) -> Tensor:
        """The entries that ``𝒜`` reads, ones among zeros, shape ``(…, d_L, d_0)``."""
        ...

    def of(self, matrix: Tensor) -> Tensor:
        """``𝒜(W)``, shape ``(…, K)``, for ``W`` of shape ``(…, d_L, d_0)``."""
        ...

    def adjoint(self, values: Tensor) -> Tensor:
        """``𝒜*(z) = Σ_k z_k A_k``, shape ``(…, d_L, d_0)``, for ``z`` of shape ``(…, K)``."""
        ...

    def compressed(self, grams: GramPairs) -> Tensor:
        """``2 𝒜 J Jᵀ 𝒜*``, shape ``(…, K, K)``, from the Gram matrices ``(L_iL_iᵀ, R_iᵀR_i)``."""
        ...

    def trace(self, grams: GramPairs) -> Tensor:
        """The trace of :meth:`compressed`, shape ``(…)``."""
        ...

    def frobenius_norm(self, grams: GramPairs) -> Tensor:
        """The Frobenius norm of :meth:`compressed`, shape ``(…)``."""
        ...

    def squared_norm(self) -> Tensor:
        """``‖𝒜‖₂²``, shape ``(…)``."""
        ...

    def normalized(self) -> "tuple[Observation, Tensor]":
        """``2^t 𝒜`` with a largest entry between ½ and 1, and ``t``, shape ``(…)``."""
        ...

    def members(self, batch: torch.Size) -> "Sequence[Observation]":
        """The maps for the members of a batch of minimizers, one after the other."""
        ...


@dataclass(frozen=True)
class ObservedEntries:
    """Entries with weights, in the order of stacked columns.

    Attributes:
        roots: ``ω^{1/2}``, shape ``(d_L, d_0)`` or ``(…, d_L, d_0)``; zero where nothing is observed.
    """

    roots: Tensor

    @property
    def order(self) -> int:
        """``d_0 d_L``."""
        return self.roots.shape[-1] * self.roots.shape[-2]

    @property
    def pattern(self) -> Tensor:
        """Ones at the observed entries."""
        return (self.roots > 0).to(self.roots.dtype)

    def of(self, matrix: Tensor) -> Tensor:
        """``ω^{1/2} ∘ W``, with its columns stacked."""
        return (self.roots * matrix).mT.flatten(-2)

    def adjoint(self, values: Tensor) -> Tensor:
        """``ω^{1/2} ∘ Z`` for the matrix ``Z`` whose stacked columns are given."""
        d_L, d_0 = self.roots.shape[-2:]
        return self.roots * values.reshape(*values.shape[:-1], d_0, d_L).mT

    def compressed(self, grams: GramPairs) -> Tensor:
        """``2 J Jᵀ`` with rows and columns multiplied by the roots of the weights."""
        scale = self.roots.mT.flatten(-2)
        lefts, rights = zip(*grams, strict=True)
        return scale[..., :, None] * kronecker_sum(lefts, rights) * scale[..., None, :]

    def trace(self, grams: GramPairs) -> Tensor:
        """``2 Σ_i Σ_ab ω_ab (L_iL_iᵀ)_aa (R_iᵀR_i)_bb``, without a matrix of order ``d_0 d_L``."""
        weights = self.roots.square()
        terms = [
            (A.diagonal(dim1=-2, dim2=-1)[..., :, None] * weights).sum(-2)
            * B.diagonal(dim1=-2, dim2=-1)
            for A, B in grams
        ]
        return 2 * sum(terms[1:], start=terms[0]).sum(-1)

    def frobenius_norm(self, grams: GramPairs) -> Tensor:
        """The root of ``4 Σ_ij ⟨ω, (A_i∘A_j) ω (B_i∘B_j)⟩`` for the pairs ``(A_i, B_i)``."""
        weights = self.roots.square()
        terms = [
            (weights * ((A * C) @ weights @ (B * D))).sum((-2, -1))
            for A, B in grams
            for C, D in grams
        ]
        return 2 * sum(terms[1:], start=terms[0]).sqrt()

    def squared_norm(self) -> Tensor:
        """The largest weight."""
        return self.roots.amax((-2, -1)).square()

    def normalized(self) -> "tuple[Observation, Tensor]":
        """The roots times a power of two."""
        t = -exponents(self.roots).to(self.roots.dtype)
        return ObservedEntries(times_power(self.roots, t[..., None, None])), t

    def members(self, batch: torch.Size) -> "Sequence[Observation]":
        """The entries of each member; all members share a single matrix of weights."""
        if self.roots.ndim == 2:
            return [self] * batch.numel()
        return [ObservedEntries(roots) for roots in self.roots.flatten(0, -3)]


@dataclass(frozen=True)
class Measurements:
    """Inner products with given matrices.

    Attributes:
        matrices: ``A_1 … A_K``, shape ``(K, d_L, d_0)`` or ``(…, K, d_L, d_0)``.
    """

    matrices: Tensor

    @property
    def order(self) -> int:
        """The number of measurements."""
        return self.matrices.shape[-3]

    @property
    def pattern(self) -> Tensor:
        """Ones where a measurement has an entry that is not zero."""
        return (self.matrices != 0).any(-3).to(self.matrices.dtype)

    def of(self, matrix: Tensor) -> Tensor:
        """``⟨A_k, W⟩``."""
        return (self.matrices.flatten(-2) @ matrix.flatten(-2)[..., None])[..., 0]

    def adjoint(self, values: Tensor) -> Tensor:
        """``Σ_k z_k A_k``."""
        return (values[..., None, None] * self.matrices).sum(-3)

    def compressed(self, grams: GramPairs) -> Tensor:
        """``⟨A_k, 2 J Jᵀ A_l⟩``."""
        lefts, rights = zip(
            *[(A[..., None, :, :], B[..., None, :, :]) for A, B in grams], strict=True
        )
        images = apply_curvature(lefts, rights, self.matrices)
        matrix = self.matrices.flatten(-2) @ images.flatten(-2).mT
        return (matrix + matrix.mT) / 2

    def trace(self, grams: GramPairs) -> Tensor:
        """The sum of the diagonal of a matrix of the order of the number of measurements."""
        return self.compressed(grams).diagonal(dim1=-2, dim2=-1).sum(-1)

    def frobenius_norm(self, grams: GramPairs) -> Tensor:
        """The norm of a matrix of the order of the number of measurements."""
        return torch.linalg.matrix_norm(self.compressed(grams))

    def squared_norm(self) -> Tensor:
        """The square of the largest singular value of ``𝒜``."""
        return torch.linalg.matrix_norm(self.matrices.flatten(-2), 2).square()

    def normalized(self) -> "tuple[Observation, Tensor]":
        """The matrices times a power of two."""
        t = -exponents(self.matrices.flatten(-2)).to(self.matrices.dtype)
        return Measurements(times_power(self.matrices, t[..., None, None, None])), t

    def members(self, batch: torch.Size) -> "Sequence[Observation]":
        """The measurements of each member; all members share matrices without batch dimensions."""
        if self.matrices.ndim == 3:
            return [self] * batch.numel()
        return [Measurements(matrices) for matrices in self.matrices.flatten(0, -4)]


def checked_weights(observed: object, *shapes: Shape, device: torch.device) -> Tensor:
    """The weights of entries as float64, from a mask of truth values or from weights.

    Raises:
        TypeError: ``observed`` is neither a tensor of truth values nor one of float64.
        ValueError: Its shape does not fit, a weight is negative or not finite, or nothing is observed.
    """
    mask = isinstance(observed, Tensor) and observed.dtype == torch.bool
    dtype = torch.bool if mask else torch.float64
    weights = checked_tensor(observed, "observed", *shapes, device=device, dtype=dtype).double()
    if bool((weights < 0).any()):
        raise ValueError(f"observed: expected no negative weight, got {float(weights.min()):.3g}")
    if not bool((weights > 0).any(-1).any(-1).all()):
        raise ValueError("observed: expected an entry with a positive weight, got none")
    return weights


def checked_observation(
    factors: Factors,
    observed: object = None,
    measurements: object = None,
    inputs: tuple[object, object] = (None, None),
) -> Observation | None:
    """The observation that the arguments ask for; None if they ask for none.

    Args:
        factors: ``W_i`` of shape ``(…, d_i, d_{i-1})``, already checked.
        observed: A mask or weights, shape ``(d_L, d_0)``, or with the batch dimensions of the factors.
        measurements: ``A_1 … A_K``, shape ``(K, d_L, d_0)``, or with the batch dimensions of the factors.
        inputs: The arguments ``input_gram`` and ``input_root``, which must be None beside an observation.

    Raises:
        TypeError: ``observed`` is neither a mask nor a float64 tensor, or ``measurements`` is not a
            float64 tensor.
        ValueError: A shape does not fit, a weight is negative, a value is not finite, nothing is
            observed, or arguments exclude each other.
    """
    if observed is None and measurements is None:
        return None
    name = "measurements" if observed is None else "observed"
    if observed is not None and measurements is not None:
        raise ValueError("measurements: expected None beside observed, got both")
    for value, other in zip(inputs, ("input_gram", "input_root"), strict=True):
        if value is not None:
            raise ValueError(f"{name}: expected None beside {other}, got both")
    ends, device = (factors[-1].shape[-2], factors[0].shape[-1]), factors[0].device
    batch = factors[0].shape[:-2]
    if observed is not None:
        weights = checked_weights(observed, ends, (*batch, *ends), device=device)
        return ObservedEntries(weights.sqrt())
    A = checked_tensor(measurements, name, (None, *ends), (*batch, None, *ends), device=device)
    if not bool((A != 0).flatten(-3).any(-1).all()) or A.shape[-3] == 0:
        raise ValueError("measurements: expected a matrix that is not zero, got none")
    return Measurements(A)
