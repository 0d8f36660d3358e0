"""The exact sharpness of a minimizer: the largest Hessian eigenvalue of ``‖M − W_{L:1}‖_F²``.

Moving the factors by ``U_1 … U_L`` moves the product by ``J U = Σ_i L_i U_i R_i``. Where the
residual is zero, the Hessian of the loss is ``2 JᵀJ``, and its nonzero eigenvalues are those of

    ``2 J Jᵀ : Y ↦ 2 Σ_i (L_i L_iᵀ) Y (R_iᵀ R_i)``   on matrices ``Y`` of shape ``(d_L, d_0)``.

As a matrix, with the columns of ``Y`` stacked, that is ``2 Σ_i (R_iᵀR_i) ⊗ (L_iL_iᵀ)``, of order
``d_0 d_L`` however many parameters there are. Its largest eigenvalue is the sharpness; with the
eigenmatrix ``Y`` the eigenvector in parameter space is ``U_i ∝ L_iᵀ Y R_iᵀ``.

With inputs of Gram matrix ``G = S Sᵀ`` every ``R_i`` becomes ``R_i S`` (see
:mod:`dmf_sharpness.loss`). Then the loss at the minimizer need not be zero: the expression asks
only that the residual be orthogonal to the inputs, which it is at a global minimizer unless a
layer is narrower than the rank of the least-squares solution.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.factors import Factors, check_factors, flatten, left_factors, right_factors
from dmf_sharpness.loss import hessian_vector_product

# Eigenvalues below this share of the largest are zeros that rounding moved.
ROUNDING_LEVEL = 1e-13


@dataclass(frozen=True)
class Sharpness:
    """The largest Hessian eigenvalue of a minimizer (or of each in a batch), with its certificate.

    Attributes:
        value: ``λ_max``. A float; for a batch a tensor ``(…)``, as are ``residual`` and ``gap``.
        eigenmatrix: ``Y``, the unit top eigenmatrix of ``J Jᵀ``, shape ``(…, d_L, d_0)``.
        eigenvector: ``[U_1 … U_L]``, the unit top eigenvector of the Hessian, shaped like the
            factors. Any unit vector of the top eigenspace may come out where ``gap`` is zero.
        residual: ``‖H U − λ U‖ / λ`` with the Hessian-vector product of the loss. By the theorem of
            Bauer and Fike, an eigenvalue of the Hessian lies within ``residual · λ`` of ``value``.
        gap: Distance to the second eigenvalue, ``λ_1 − λ_2``; multiplicities count.
        method: How the value was computed.
    """

    value: float | Tensor
    eigenmatrix: Tensor
    eigenvector: list[Tensor]
    residual: float | Tensor
    gap: float | Tensor
    method: str


def gram_root(input_gram: Tensor) -> Tensor:
    """The symmetric root ``S`` of an input Gram matrix, ``S S = G``.

    Args:
        input_gram: ``G = X Xᵀ``, symmetric positive semidefinite, shape ``(d_0, d_0)``.

    Raises:
        ValueError: ``G`` is not square, not symmetric or not positive semidefinite to rounding.
    """
    if input_gram.ndim < 2 or input_gram.shape[-1] != input_gram.shape[-2]:
        shape = tuple(input_gram.shape)
        raise ValueError(f"input_gram: expected a square matrix, got shape {shape}")
    scale = input_gram.abs().amax()
    asymmetry = float((input_gram - input_gram.mT).abs().amax())
    if not asymmetry <= 1e-12 * float(scale):
        raise ValueError(f"input_gram: expected a symmetric matrix, got |G − Gᵀ| = {asymmetry:.2g}")
    eigenvalues, eigenvectors = torch.linalg.eigh(input_gram)
    lowest, highest = float(eigenvalues.min()), float(eigenvalues.max())
    if lowest < -1e-12 * highest:
        raise ValueError(
            f"input_gram: expected a positive semidefinite matrix, got the eigenvalue {lowest:.3g}"
        )
    roots = eigenvalues.clamp(min=0).sqrt()
    return (eigenvectors * roots.unsqueeze(-2)) @ eigenvectors.mT


def layer_grams(factors: Factors, input_root: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
    """``[L_i L_iᵀ]``, shape ``(…, d_L, d_L)``, and ``[(R_i S)ᵀ(R_i S)]``, ``(…, d_0, d_0)``."""
    rights = right_factors(factors)
    if input_root is not None:
        rights = [R @ input_root for R in rights]
    lefts = left_factors(factors)
    return [L @ L.mT for L in lefts], [R.mT @ R for R in rights]


def curvature_matrix(factors: Factors, input_root: Tensor | None = None) -> Tensor:
    """The matrix ``2 Σ_i (R_iᵀR_i) ⊗ (L_iL_iᵀ)`` of order ``d_0 d_L``, columns of ``Y`` stacked."""
    left_grams, right_grams = layer_grams(factors, input_root)
    d_L, d_0 = left_grams[0].shape[-1], right_grams[0].shape[-1]
    total: Tensor | float = 0.0
    for LLt, RtR in zip(left_grams, right_grams, strict=True):
        # (column j, row i) × (column q, row p): entry (RᵀR)_jq (LLᵀ)_ip
        total = total + torch.einsum("...jq,...ip->...jiqp", RtR, LLt)
    assert isinstance(total, Tensor)
    return 2 * total.reshape(*total.shape[:-4], d_0 * d_L, d_0 * d_L)


def _checked_root(factors: Factors, input_gram: Tensor | None) -> Tensor | None:
    check_factors(factors)
    if input_gram is None:
        return None
    d_0 = factors[0].shape[-1]
    if input_gram.dtype != torch.float64:
        raise TypeError(f"input_gram: expected torch.float64, got {input_gram.dtype}")
    if input_gram.shape[-1] != d_0:
        shape = tuple(input_gram.shape)
        raise ValueError(f"input_gram: expected shape ({d_0}, {d_0}), got {shape}")
    return gram_root(input_gram)


def _as_float(values: Tensor) -> float | Tensor:
    return float(values) if values.ndim == 0 else values


def _signed(Y: Tensor) -> Tensor:
    """Fix the sign of eigenmatrices: the entry of largest magnitude is positive."""
    entries = Y.flatten(start_dim=-2)
    largest = entries.gather(-1, entries.abs().argmax(-1, keepdim=True))
    return Y * torch.sign(largest)[..., None]


def sharpness(factors: Factors, input_gram: Tensor | None = None) -> Sharpness:
    """The exact largest Hessian eigenvalue at a minimizer of ``‖Y − W_{L:1} X‖_F²``.

    Args:
        factors: ``[W_1 … W_L]`` of a minimizer, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64.
            A stack of minimizers of one shape is evaluated at once.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.

    Raises:
        TypeError: A factor or the Gram matrix is not a float64 tensor.
        ValueError: Shapes do not fit, values are not finite, ``G`` is not a Gram matrix.

    Examples:
        Depth 2 is ``2 (‖W_1‖₂² + ‖W_2‖₂²)``:

        >>> W_1 = torch.diag(torch.tensor([2.0, 0.5], dtype=torch.float64))
        >>> W_2 = torch.diag(torch.tensor([2.0, 2.0], dtype=torch.float64))
        >>> round(sharpness([W_1, W_2]).value, 12)
        16.0

        Three factors of norm 1 whose product is a scalar ½ (a rotation by 60° between two unit
        vectors): ``2 Σ_i ‖L_i‖² ‖R_i‖² = 6``.

        >>> e_1 = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
        >>> c, s = 0.5, 0.75**0.5
        >>> rotation = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        >>> round(sharpness([e_1, rotation, e_1.mT]).value, 12)
        6.0
    """
    input_root = _checked_root(factors, input_gram)
    eigenvalues, eigenvectors = torch.linalg.eigh(curvature_matrix(factors, input_root))
    value = eigenvalues[..., -1]
    second = eigenvalues[..., -2] if eigenvalues.shape[-1] > 1 else torch.zeros_like(value)

    d_0, d_L = factors[0].shape[-1], factors[-1].shape[-2]
    Y = _signed(eigenvectors[..., -1].unflatten(-1, (d_0, d_L)).mT)
    U = parameter_direction(factors, Y, input_root)
    HU = hessian_vector_product(factors, U, input_root=input_root)
    defect = [h - value[..., None, None] * u for h, u in zip(HU, U, strict=True)]
    residual = torch.stack([d.square().sum((-2, -1)) for d in defect]).sum(0).sqrt() / value
    return Sharpness(
        value=_as_float(value),
        eigenmatrix=Y,
        eigenvector=U,
        residual=_as_float(residual),
        gap=_as_float((value - second).clamp(min=0)),
        method="dense",
    )


def parameter_direction(
    factors: Factors, eigenmatrix: Tensor, input_root: Tensor | None = None
) -> list[Tensor]:
    """The unit vector ``U_i ∝ L_iᵀ Y (R_i S)ᵀ`` of parameter space, shaped like the factors."""
    Y = eigenmatrix if input_root is None else eigenmatrix @ input_root.mT
    lefts, rights = left_factors(factors), right_factors(factors)
    U = [L.mT @ Y @ R.mT for L, R in zip(lefts, rights, strict=True)]
    norm = torch.stack([u.square().sum((-2, -1)) for u in U]).sum(0).sqrt()
    return [u / norm[..., None, None] for u in U]


def hessian_eigenvectors(
    factors: Factors, input_gram: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The nonzero Hessian eigenvalues at a minimizer, descending, with their eigenvectors.

    Args:
        factors: ``[W_1 … W_L]`` of one minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``, float64.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.

    Returns:
        Eigenvalues ``(K,)``, and orthonormal vectors in parameter space ``(K, N)``, in the order of
        :func:`dmf_sharpness.factors.flatten`. The vectors orthogonal to these span the kernel.
    """
    input_root = _checked_root(factors, input_gram)
    _check_single(factors)
    d_0, d_L = factors[0].shape[-1], factors[-1].shape[-2]
    eigenvalues, eigenvectors = torch.linalg.eigh(curvature_matrix(factors, input_root))
    kept = eigenvalues > ROUNDING_LEVEL * eigenvalues[-1]
    Y = _signed(eigenvectors[:, kept].flip(1).mT.unflatten(-1, (d_0, d_L)).mT)
    return eigenvalues[kept].flip(0), flatten(parameter_direction(factors, Y, input_root))


def _check_single(factors: Factors) -> None:
    if factors[0].ndim > 2:
        batch = tuple(factors[0].shape[:-2])
        raise ValueError(f"factors: expected a single minimizer, got a batch of shape {batch}")


def operator_spectrum(factors: Factors, input_gram: Tensor | None = None) -> Tensor:
    """All ``d_0 d_L`` eigenvalues of ``2 J Jᵀ``, descending, zeros included; shape ``(…, d_0 d_L)``.

    The batched companion of :func:`hessian_spectrum`, whose result has no common length.
    """
    input_root = _checked_root(factors, input_gram)
    return torch.linalg.eigvalsh(curvature_matrix(factors, input_root)).flip(-1).clamp(min=0)


def hessian_spectrum(factors: Factors, input_gram: Tensor | None = None) -> Tensor:
    """All nonzero Hessian eigenvalues at a minimizer, descending, multiplicities included.

    Eigenvalues below ``1e-13 λ_max`` are zeros that rounding moved, and are left out.

    Args:
        factors: ``[W_1 … W_L]`` of one minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``, float64.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``; None in matrix factorization.

    Raises:
        TypeError: A factor or the Gram matrix is not a float64 tensor.
        ValueError: As :func:`sharpness`; or a batch was given (:func:`operator_spectrum` takes one).

    Examples:
        >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
        >>> hessian_spectrum([W, W])
        tensor([16., 10., 10.,  4.], dtype=torch.float64)
    """
    check_factors(factors)
    _check_single(factors)
    eigenvalues = operator_spectrum(factors, input_gram)
    return eigenvalues[eigenvalues > ROUNDING_LEVEL * eigenvalues[0]]
