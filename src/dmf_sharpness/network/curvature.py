"""The operator whose spectrum is the Hessian's at a minimizer of ``‖M − W_{L:1}‖_F²``.

Moving the factors by ``U_1 … U_L`` moves the product by ``J U = Σ_i L_i U_i R_i``. Where the
residual is zero, the Hessian of the loss is ``2 JᵀJ``, and its nonzero eigenvalues are those of

    ``2 J Jᵀ : Y ↦ 2 Σ_i (L_i L_iᵀ) Y (R_iᵀ R_i)``   on matrices ``Y`` of shape ``(d_L, d_0)``.

As a matrix, with the columns of ``Y`` stacked, that is ``2 Σ_i (R_iᵀR_i) ⊗ (L_iL_iᵀ)``, of order
``d_0 d_L`` however many parameters there are. With an eigenmatrix ``Y`` the eigenvector in
parameter space is ``U_i ∝ L_iᵀ Y R_iᵀ``.

With inputs of Gram matrix ``G = S Sᵀ`` every ``R_i`` becomes ``R_i S`` (see
:mod:`dmf_sharpness.network.loss`), where ``S`` is square. Then the loss at the minimizer need not be
zero: the expression asks only that the residual be orthogonal to the inputs, which it is at a global
minimizer unless a layer is narrower than the rank of the least-squares solution.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_tensor
from dmf_sharpness.network.factors import Factors, left_factors, right_factors

LARGEST_ENTRY = 1e300
"""Of inputs; the factors may be larger."""
Grams = Sequence[Tensor | None]
"""One Gram matrix for each layer; None stands for the identity."""


def gram_root(input_gram: Tensor) -> Tensor:
    """The symmetric root ``S`` of an input Gram matrix, ``S S = G``.

    Args:
        input_gram: ``G = X Xᵀ``, symmetric positive semidefinite, shape ``(d_0, d_0)``.

    Raises:
        ValueError: ``G`` is not square, not symmetric, not positive semidefinite to rounding, not
            finite, or zero.
    """
    if input_gram.ndim < 2 or input_gram.shape[-1] != input_gram.shape[-2]:
        shape = tuple(input_gram.shape)
        raise ValueError(f"input_gram: expected a square matrix, got shape {shape}")
    if not bool(torch.isfinite(input_gram).all()):
        raise ValueError("input_gram: expected finite values, got NaN or Inf")
    scale = float(input_gram.abs().amax())
    asymmetry = float((input_gram - input_gram.mT).abs().amax())
    if not asymmetry <= 1e-12 * scale:
        raise ValueError(f"input_gram: expected a symmetric matrix, got |G − Gᵀ| = {asymmetry:.2g}")
    if scale == 0:
        raise ValueError("input_gram: expected a matrix that is not zero, got zeros")
    eigenvalues, eigenvectors = torch.linalg.eigh(input_gram)
    lowest, highest = float(eigenvalues.min()), float(eigenvalues.max())
    if lowest < -1e-12 * highest:
        raise ValueError(
            f"input_gram: expected a positive semidefinite matrix, got the eigenvalue {lowest:.3g}"
        )
    # What rounding moved from zero, ε, would have a root of √ε.
    rounding = torch.finfo(eigenvalues.dtype).eps * len(input_gram) * highest
    roots = torch.where(eigenvalues > rounding, eigenvalues, 0.0).sqrt()
    return (eigenvectors * roots.unsqueeze(-2)) @ eigenvectors.mT


def checked_inputs(input_root: object, factors: Factors) -> Tensor:
    """An input root ``S``, or the inputs ``X`` themselves: a finite matrix of ``d_0`` rows, not zero.

    Raises:
        TypeError: It is not a float64 tensor.
        ValueError: It has another number of rows or no column, is not finite, is zero, or has an entry
            above 1e300.
    """
    d_0, device = factors[0].shape[-1], factors[0].device
    root = checked_tensor(input_root, "input_root", (d_0, None), device=device)
    if not bool(root.any()):
        raise ValueError("input_root: expected a matrix that is not zero, got zeros")
    return _with_room(root, "input_root")


def _with_room(matrix: Tensor, name: str) -> Tensor:
    """A matrix with entries so far from the end of the range that its norm is not beyond it."""
    largest = float(matrix.abs().amax())
    if largest > LARGEST_ENTRY:
        raise ValueError(f"{name}: expected entries up to {LARGEST_ENTRY:.0e}, got {largest:.3g}")
    return matrix


def square_root(input_root: Tensor) -> Tensor:
    """A root of shape ``(d_0, d_0)`` with the same ``S Sᵀ``, from one of shape ``(d_0, n)``.

    Of more columns than rows the QR decomposition ``Sᵀ = Q R`` leaves ``Rᵀ``: ``S Sᵀ`` itself, whose
    condition number is the square of that of ``S``, is not formed.
    """
    d_0, n = input_root.shape
    if n > d_0:
        return torch.linalg.qr(input_root.mT, mode="r")[1].mT
    return torch.nn.functional.pad(input_root, (0, d_0 - n)) if n < d_0 else input_root


def in_root_coordinates(outputs: Tensor, inputs: Tensor) -> Tensor:
    """``T`` with ``‖T − W S‖_F² = ‖Y − W X‖_F²`` but for a constant, ``S`` the :func:`square_root` of ``X``.

    Args:
        outputs: ``Y``, shape ``(d_L, n)``.
        inputs: ``X``, shape ``(d_0, n)``.
    """
    d_0, n = inputs.shape
    if n > d_0:
        return outputs @ torch.linalg.qr(inputs.mT)[0]
    return torch.nn.functional.pad(outputs, (0, d_0 - n))


def checked_root(
    factors: Factors, input_gram: object = None, input_root: object = None
) -> Tensor | None:
    """The root ``S``, shape ``(d_0, d_0)``, of the inputs' Gram matrix, from either; None without data.

    Args:
        factors: ``[W_1 … W_L]``, checked.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``. Directions in which the inputs are below about
            ``1e-8`` of the largest are lost in it.
        input_root: ``S`` with ``S Sᵀ = G``, such as ``X`` itself, shape ``(d_0, n)``.

    Raises:
        TypeError: What is given is not a float64 tensor.
        ValueError: Both are given; shapes do not fit, values are not finite, ``G`` is not a Gram
            matrix, or what is given is zero or has an entry above 1e300.
    """
    if input_root is not None:
        if input_gram is not None:
            raise ValueError("input_root: expected None beside input_gram, got both")
        return square_root(checked_inputs(input_root, factors))
    if input_gram is None:
        return None
    d_0, device = factors[0].shape[-1], factors[0].device
    G = checked_tensor(input_gram, "input_gram", (d_0, d_0), device=device)
    return gram_root(_with_room(G, "input_gram"))


def check_single(factors: Factors) -> None:
    """Reject a batch of minimizers where one is expected.

    Raises:
        ValueError: The factors have batch dimensions.
    """
    if factors[0].ndim > 2:
        batch = tuple(factors[0].shape[:-2])
        raise ValueError(f"factors: expected a single minimizer, got a batch of shape {batch}")


def layer_grams(
    factors: Factors, input_root: Tensor | None = None
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """``[L_i L_iᵀ]``, shape ``(…, d_L, d_L)``, and ``[(R_i S)ᵀ(R_i S)]``, ``(…, d_0, d_0)``.

    The last of the former is the identity, and so is the first of the latter without data: they are
    None, and cost nothing where they are applied.
    """
    lefts = left_factors(factors)
    if input_root is None:
        rights = right_factors(factors)
        first: list[Tensor | None] = [None]
    else:
        inputs = input_root.expand(*factors[0].shape[:-2], *input_root.shape)
        rights = right_factors([inputs, *factors])[1:]
        first = [input_root.mT @ input_root]
    left_grams: list[Tensor | None] = [L @ L.mT for L in lefts[:-1]]
    return [*left_grams, None], [*first, *(R.mT @ R for R in rights[1:])]


def jvp(factors: Factors, direction: Factors, input_root: Tensor | None = None) -> Tensor:
    """The change of the product, ``J U = Σ_i L_i U_i R_i S``, shape ``(…, d_L, r)``."""
    product, tangent = factors[0], direction[0]
    for W, U in zip(factors[1:], direction[1:], strict=True):
        product, tangent = W @ product, U @ product + W @ tangent
    return tangent if input_root is None else tangent @ input_root


def vjp(factors: Factors, Y: Tensor, input_root: Tensor | None = None) -> list[Tensor]:
    """``Jᵀ Y``, that is ``U_i = L_iᵀ Y (R_i S)ᵀ``, shaped like the factors."""
    outer = Y if input_root is None else Y @ input_root.mT
    lefts, rights = left_factors(factors), right_factors(factors)
    return [L.mT @ outer @ R.mT for L, R in zip(lefts, rights, strict=True)]


def apply_curvature(left_grams: Grams, right_grams: Grams, Y: Tensor) -> Tensor:
    """``2 J Jᵀ Y = 2 Σ_i (L_iL_iᵀ) Y (R_iᵀR_i)``, shape of ``Y``, ``(…, d_L, d_0)``."""
    terms = []
    for A, B in zip(left_grams, right_grams, strict=True):
        term = Y if A is None else A @ Y
        terms.append(term if B is None else term @ B)
    return 2 * sum(terms[1:], start=terms[0])


def curvature_matrix(factors: Factors, input_root: Tensor | None = None) -> Tensor:
    """The matrix ``2 Σ_i (R_iᵀR_i) ⊗ (L_iL_iᵀ)`` of order ``d_0 d_L``, columns of ``Y`` stacked."""
    return gram_matrix(*layer_grams(factors, input_root), factors)


def gram_matrix(left_grams: Grams, right_grams: Grams, factors: Factors) -> Tensor:
    """:func:`curvature_matrix` from Gram matrices already at hand, some of which are the identity."""
    d_L, d_0 = factors[-1].shape[-2], factors[0].shape[-1]
    matrix = kronecker_sum(
        [identity(d_L, factors) if A is None else A for A in left_grams],
        [identity(d_0, factors) if B is None else B for B in right_grams],
    )
    return matrix.expand(*factors[0].shape[:-2], -1, -1)


def kronecker_sum(left_grams: Sequence[Tensor], right_grams: Sequence[Tensor]) -> Tensor:
    """``2 Σ_i B_i ⊗ A_i``, shape ``(…, d_0 d_L, d_0 d_L)``: ``2 J Jᵀ`` on stacked columns.

    Args:
        left_grams: ``A_i``, shape ``(…, d_L, d_L)``.
        right_grams: ``B_i``, shape ``(…, d_0, d_0)``.
    """
    # (column j, row i) × (column q, row p): entry (B_i)_jq (A_i)_ip
    terms = [
        B[..., :, None, :, None] * A[..., None, :, None, :]
        for A, B in zip(left_grams, right_grams, strict=True)
    ]
    total = sum(terms[1:], start=terms[0])
    order = total.shape[-1] * total.shape[-2]
    return 2 * total.reshape(*total.shape[:-4], order, order)


def identity(size: int, factors: Factors) -> Tensor:
    """The identity matrix in the type and on the device of the factors."""
    return torch.eye(size, dtype=factors[0].dtype, device=factors[0].device)


def unstacked(vectors: Tensor, factors: Factors) -> Tensor:
    """Matrices ``Y`` ``(…, d_L, d_0)`` whose stacked columns are ``vectors`` ``(…, d_0 d_L)``."""
    shape = (factors[0].shape[-1], factors[-1].shape[-2])
    return vectors.reshape(*vectors.shape[:-1], *shape).mT


def signed(Y: Tensor) -> Tensor:
    """Fix the sign of eigenmatrices: the entry of largest magnitude is positive."""
    entries = Y.flatten(start_dim=-2)
    largest = entries.gather(-1, entries.abs().argmax(-1, keepdim=True))
    return Y * torch.where(largest < 0, -1.0, 1.0)[..., None]


def parameter_direction(
    factors: Factors, eigenmatrix: Tensor, input_root: Tensor | None = None
) -> list[Tensor]:
    """The unit vector ``U_i ∝ L_iᵀ Y (R_i S)ᵀ`` of parameter space, shaped like the factors.

    It is the zero vector where ``Jᵀ Y`` is zero, as for a zero minimizer of depth 3.
    """
    Y = eigenmatrix if input_root is None else eigenmatrix @ input_root.mT
    # Y R_iᵀ and then L_iᵀ from the left, layer by layer: no product of whole layers.
    outputs = [Y]  # Y R_iᵀ, shape (…, d_L, d_{i-1})
    for W in factors[:-1]:
        outputs.append(outputs[-1] @ W.mT)
    lefts = left_factors(factors)
    U = [L.mT @ y for L, y in zip(lefts[:-1], outputs[:-1], strict=True)] + [outputs[-1]]
    norm = torch.stack([u.square().sum((-2, -1)) for u in U]).sum(0).sqrt()
    norm = torch.where(norm > 0, norm, torch.ones_like(norm))
    return [u / norm[..., None, None] for u in U]
