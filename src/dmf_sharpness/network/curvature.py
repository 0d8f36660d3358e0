"""The operator ``2 J Jᵀ``, whose nonzero spectrum is that of the Hessian at a minimizer.

The loss is ``‖M − W_{L:1}‖_F²``. A change ``U_1 … U_L`` of the factors changes the product, to
first order, by ``J U = Σ_i L_i U_i R_i``. Where the residual is zero, the Hessian of the loss is
``2 JᵀJ``. Its nonzero eigenvalues are those of ``2 J Jᵀ``, because ``JᵀJ`` and ``J Jᵀ`` have the
same nonzero spectrum:

    ``2 J Jᵀ : Y ↦ 2 Σ_i (L_i L_iᵀ) Y (R_iᵀ R_i)``   on matrices ``Y`` of shape ``(d_L, d_0)``.

With the columns of ``Y`` stacked this operator is the matrix ``2 Σ_i (R_iᵀR_i) ⊗ (L_iL_iᵀ)``. Its
order is ``d_0 d_L``, however many parameters there are. An eigenmatrix ``Y`` of the operator gives
the eigenvector ``U_i ∝ L_iᵀ Y R_iᵀ`` of the Hessian in parameter space.

With input data of Gram matrix ``G = X Xᵀ = S Sᵀ`` and a square root ``S``, every ``R_i`` becomes
``R_i S`` (see :mod:`dmf_sharpness.network.loss`). The loss at the minimizer need not be zero then.
It is enough that the residual is orthogonal to the inputs. This holds at every global minimizer,
unless a layer is narrower than the rank of the least-squares solution.
"""

from collections.abc import Sequence

import scipy
import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_tensor
from dmf_sharpness.network.factors import Factors, left_factors, right_factors

LARGE_GRAM = 256
"""From this order on, the root of a Gram matrix is that of a Cholesky decomposition."""
LARGEST_ENTRY = 1e300
"""The largest magnitude of an entry of the input data; the factors may have larger entries."""
Grams = Sequence[Tensor | None]
"""One Gram matrix for each layer, where None stands for the identity."""


def gram_root(input_gram: Tensor) -> Tensor:
    """A square root ``S`` of an input Gram matrix, ``S Sᵀ = G``.

    It is the symmetric positive semidefinite one, or, from order 256 on, that of a Cholesky decomposition
    with pivoting, which takes a tenth of the time and loses no more digits.

    Args:
        input_gram: ``G = X Xᵀ``, symmetric positive semidefinite, shape ``(d_0, d_0)``.

    Returns:
        ``S``, shape ``(d_0, d_0)``.

    Raises:
        ValueError: ``G`` is not square, not finite or zero; or it is not symmetric or not positive
            semidefinite, up to rounding.
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
    if len(input_gram) >= LARGE_GRAM:
        root = _cholesky_root(input_gram, scale)
        if root is not None:
            return root
    eigenvalues, eigenvectors = torch.linalg.eigh(input_gram)
    lowest, highest = float(eigenvalues.min()), float(eigenvalues.max())
    if lowest < -1e-12 * highest:
        raise ValueError(
            f"input_gram: expected a positive semidefinite matrix, got the eigenvalue {lowest:.3g}"
        )
    # Rounding turns a zero eigenvalue into some ε, whose root √ε is much larger and would not be
    # negligible. So eigenvalues at the level of rounding are set to zero first.
    rounding = torch.finfo(eigenvalues.dtype).eps * len(input_gram) * highest
    roots = torch.where(eigenvalues > rounding, eigenvalues, 0.0).sqrt()
    return (eigenvectors * roots.unsqueeze(-2)) @ eigenvectors.mT


def _cholesky_root(G: Tensor, scale: float) -> Tensor | None:
    """``S = P L`` with ``S Sᵀ = G``, for ``Pᵀ G P = L Lᵀ``; None if ``G`` is not semidefinite to rounding.

    Args:
        G: Symmetric, shape ``(d_0, d_0)``.
        scale: The largest magnitude of an entry, which is at most the largest eigenvalue of a Gram matrix.
    """
    lower, places, rank, _ = scipy.linalg.lapack.dpstrf(G.cpu().numpy(), lower=1)
    L = torch.from_numpy(lower[:, :rank]).tril()
    place = torch.from_numpy(places.astype("int64") - 1)
    # The decomposition ends where no pivot is above rounding. Of a semidefinite matrix only rounding is
    # left then; the eigenvalues of G are at least minus the norm of what is left.
    rest = G.cpu()[place[rank:]][:, place[rank:]] - L[rank:] @ L[rank:].mT
    if float(torch.linalg.matrix_norm(rest)) > 1e-12 * scale:
        return None
    root = torch.zeros(G.shape, dtype=G.dtype, device="cpu")
    root[place, :rank] = L
    return root.to(G.device)


def checked_inputs(input_root: object, factors: Factors) -> Tensor:
    """``input_root`` if it is a finite matrix with ``d_0`` rows that is not zero.

    It may be any root ``S`` of the input Gram matrix, ``S Sᵀ = G``, such as the inputs ``X`` themselves.

    Raises:
        TypeError: It is not a float64 tensor.
        ValueError: Its number of rows is not ``d_0``, it has no columns, is not finite, is zero, or
            has an entry above 1e300.
    """
    d_0, device = factors[0].shape[-1], factors[0].device
    root = checked_tensor(input_root, "input_root", (d_0, None), device=device)
    if not bool(root.any()):
        raise ValueError("input_root: expected a matrix that is not zero, got zeros")
    return _with_room(root, "input_root")


def _with_room(matrix: Tensor, name: str) -> Tensor:
    """``matrix`` if its entries are so small that its norm stays in the range of float64."""
    largest = float(matrix.abs().amax())
    if largest > LARGEST_ENTRY:
        raise ValueError(f"{name}: expected entries up to {LARGEST_ENTRY:.0e}, got {largest:.3g}")
    return matrix


def square_root(input_root: Tensor) -> Tensor:
    """A square root of shape ``(d_0, d_0)`` with the same ``S Sᵀ`` as a root of shape ``(d_0, n)``.

    If ``S`` has more columns than rows, the result is ``Rᵀ`` of the QR decomposition ``Sᵀ = Q R``.
    The product ``S Sᵀ`` is not formed, because its condition number is the square of that of ``S``.
    If ``S`` has fewer columns than rows, zero columns are appended.
    """
    d_0, n = input_root.shape
    if n > d_0:
        return torch.linalg.qr(input_root.mT, mode="r")[1].mT
    return torch.nn.functional.pad(input_root, (0, d_0 - n)) if n < d_0 else input_root


def in_root_coordinates(outputs: Tensor, inputs: Tensor) -> Tensor:
    """The target ``T`` for which ``‖T − W S‖_F²`` and ``‖Y − W X‖_F²`` differ by a constant only.

    ``S`` is the :func:`square_root` of the inputs ``X``.

    Args:
        outputs: ``Y``, shape ``(d_L, n)``.
        inputs: ``X``, shape ``(d_0, n)``.

    Returns:
        ``T``, shape ``(d_L, d_0)``.
    """
    d_0, n = inputs.shape
    if n > d_0:
        return outputs @ torch.linalg.qr(inputs.mT)[0]
    return torch.nn.functional.pad(outputs, (0, d_0 - n))


def checked_root(
    factors: Factors, input_gram: object = None, input_root: object = None
) -> Tensor | None:
    """The square root ``S``, shape ``(d_0, d_0)``, of the input Gram matrix; None without data.

    At most one of ``input_gram`` and ``input_root`` may be given.

    Args:
        factors: ``[W_1 … W_L]``, already checked.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``. Rounding of ``G`` hides directions in which
            the inputs are smaller than about ``1e-8`` times the largest singular value of ``X``.
        input_root: A root of ``G``, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X`` itself.

    Raises:
        TypeError: The given argument is not a float64 tensor.
        ValueError: Both arguments are given; or the shape does not fit, a value is not finite,
            ``G`` is not a Gram matrix, or the given matrix is zero or has an entry above 1e300.
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
    """Refuse a batch of minimizers where a single one is expected.

    Raises:
        ValueError: The factors have batch dimensions.
    """
    if factors[0].ndim > 2:
        batch = tuple(factors[0].shape[:-2])
        raise ValueError(f"factors: expected a single minimizer, got a batch of shape {batch}")


def layer_grams(
    factors: Factors, input_root: Tensor | None = None
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """The Gram matrices ``L_i L_iᵀ`` and ``(R_i S)ᵀ(R_i S)`` of all layers.

    The last ``L_i`` is the identity, and without data so is the first ``R_i``. None stands for
    their Gram matrices, so that applying them costs nothing.

    Returns:
        The left Gram matrices, shape ``(…, d_L, d_L)`` each, and the right ones, ``(…, d_0, d_0)`` each.
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


def whole_grams(factors: Factors, input_root: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
    """The pairs ``(L_iL_iᵀ, (R_iS)ᵀ(R_iS))`` of all layers, identities written out."""
    d_L, d_0 = factors[-1].shape[-2], factors[0].shape[-1]
    return [
        (identity(d_L, factors) if A is None else A, identity(d_0, factors) if B is None else B)
        for A, B in zip(*layer_grams(factors, input_root), strict=True)
    ]


def jvp(factors: Factors, direction: Factors, input_root: Tensor | None = None) -> Tensor:
    """The first-order change of the product, ``J U = Σ_i L_i U_i R_i S``, shape ``(…, d_L, r)``."""
    product, tangent = factors[0], direction[0]
    for W, U in zip(factors[1:], direction[1:], strict=True):
        product, tangent = W @ product, U @ product + W @ tangent
    return tangent if input_root is None else tangent @ input_root


def vjp(factors: Factors, Y: Tensor, input_root: Tensor | None = None) -> list[Tensor]:
    """``Jᵀ Y``, the list of ``U_i = L_iᵀ Y (R_i S)ᵀ``, with the shapes of the factors."""
    outer = Y if input_root is None else Y @ input_root.mT
    lefts, rights = left_factors(factors), right_factors(factors)
    return [L.mT @ outer @ R.mT for L, R in zip(lefts, rights, strict=True)]


def apply_curvature(left_grams: Grams, right_grams: Grams, Y: Tensor) -> Tensor:
    """``2 J Jᵀ Y = 2 Σ_i (L_iL_iᵀ) Y (R_iᵀR_i)``, for ``Y`` and the result of shape ``(…, d_L, d_0)``."""
    terms = []
    for A, B in zip(left_grams, right_grams, strict=True):
        term = Y if A is None else A @ Y
        terms.append(term if B is None else term @ B)
    return 2 * sum(terms[1:], start=terms[0])


def curvature_matrix(factors: Factors, input_root: Tensor | None = None) -> Tensor:
    """``2 J Jᵀ`` as a matrix on stacked columns, ``2 Σ_i (R_iᵀR_i) ⊗ (L_iL_iᵀ)``, of order ``d_0 d_L``."""
    return gram_matrix(*layer_grams(factors, input_root), factors)


def gram_matrix(left_grams: Grams, right_grams: Grams, factors: Factors) -> Tensor:
    """:func:`curvature_matrix` from given Gram matrices, where None stands for the identity."""
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
    # The entry in the row of (column j, row i) and the column of (column q, row p) is B_jq A_ip.
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
    """The matrices ``(…, d_L, d_0)`` whose stacked columns are the given vectors ``(…, d_0 d_L)``."""
    shape = (factors[0].shape[-1], factors[-1].shape[-2])
    return vectors.reshape(*vectors.shape[:-1], *shape).mT


def signed(Y: Tensor) -> Tensor:
    """``Y`` or ``−Y``, such that the entry of largest magnitude is positive; shape ``(…, m, n)``.

    An eigenmatrix is determined only up to its sign. This choice makes results comparable.
    """
    entries = Y.flatten(start_dim=-2)
    largest = entries.gather(-1, entries.abs().argmax(-1, keepdim=True))
    return Y * torch.where(largest < 0, -1.0, 1.0)[..., None]


def parameter_direction(
    factors: Factors, eigenmatrix: Tensor, input_root: Tensor | None = None
) -> list[Tensor]:
    """The unit vector ``U_i ∝ L_iᵀ Y (R_i S)ᵀ`` in parameter space, with the shapes of the factors.

    It is the zero vector where ``Jᵀ Y`` is zero, for example at the zero minimizer of depth 3.
    """
    Y = eigenmatrix if input_root is None else eigenmatrix @ input_root.mT
    # Y R_iᵀ is updated layer by layer, so that the products R_i are never formed.
    outputs = [Y]  # Y R_iᵀ, shape (…, d_L, d_{i-1})
    for W in factors[:-1]:
        outputs.append(outputs[-1] @ W.mT)
    lefts = left_factors(factors)
    U = [L.mT @ y for L, y in zip(lefts[:-1], outputs[:-1], strict=True)] + [outputs[-1]]
    norm = torch.stack([u.square().sum((-2, -1)) for u in U]).sum(0).sqrt()
    norm = torch.where(norm > 0, norm, torch.ones_like(norm))
    return [u / norm[..., None, None] for u in U]
