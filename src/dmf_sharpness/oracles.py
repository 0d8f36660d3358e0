"""Independent Hessians, with which the exact expression for the sharpness is compared.

Nothing in this module uses the derivation of that expression. The loss is written directly in terms
of the data, ``‖Y − W_L ⋯ W_1 X‖_F²`` with the raw inputs and outputs, or with these after a rotation
of the samples; automatic differentiation gives its Hessian, and LAPACK or ARPACK the eigenvalues. A
second oracle does without derivatives and without rounding: it takes differences of values of the
loss, in rational arithmetic. This module imports nothing from the package, and no module that
computes the exact expression imports it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import scipy
import torch
from torch import Tensor

HESSIANS_TOGETHER = 2**20
"""The number of entries of the Hessians of a batch that are computed at once."""
GUARD_DIGITS = 10
"""An eigenvalue is computed with this many digits more than are asked for."""
LEAST_GAP = 1e-6
"""Relative to the largest entry of a matrix, float64 tells eigenvalues this far apart from each other."""


def _loss_of_vector(
    widths: Sequence[int], target: Tensor, inputs: Tensor | None
) -> Callable[[Tensor], Tensor]:
    """The loss as a function of all parameters in one vector: layer by layer, each row by row.

    Vectors ``(B, N)`` have the sum of their losses, whose gradient holds the gradients of all of them.
    """

    def loss(parameters: Tensor) -> Tensor:
        signal, position = inputs, 0
        for d_in, d_out in pairwise(widths):
            layer = parameters[..., position : position + d_in * d_out]
            W = layer.reshape(*layer.shape[:-1], d_out, d_in)
            signal = W if signal is None else W @ signal
            position += d_in * d_out
        assert signal is not None
        return (target - signal).pow(2).sum()

    return loss


def dense_hessian(
    factors: Sequence[Tensor],
    target: Tensor,
    inputs: Tensor | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """The Hessian of ``‖Y − W_L ⋯ W_1 X‖_F²`` by automatic differentiation, twice backward.

    Args:
        factors: ``W_i`` of shape ``(d_i, d_{i-1})``.
        target: ``Y``, shape ``(d_L, n)``; in matrix factorization ``M``, shape ``(d_L, d_0)``.
        inputs: ``X``, shape ``(d_0, n)``; None stands for the identity.
        chunk_size: The number of Hessian columns that are computed at once, which limits the
            memory; None computes all of them.

    Returns:
        The Hessian, symmetric, shape ``(N, N)`` for ``N`` parameters. They are ordered layer by
        layer, and row by row within a layer.

    >>> W = torch.ones(1, 1, dtype=torch.float64)
    >>> dense_hessian([W, W], target=W)
    tensor([[2., 2.],
            [2., 2.]], dtype=torch.float64)
    """
    widths = [factors[0].shape[1], *(W.shape[0] for W in factors)]
    parameters = torch.cat([W.reshape(-1) for W in factors])
    return _hessian(_loss_of_vector(widths, target, inputs), parameters, chunk_size)


def dense_hessians(
    factors: Sequence[Tensor],
    targets: Tensor,
    inputs: Tensor | None = None,
    chunk_size: int | None = None,
) -> Iterator[Tensor]:
    """The Hessians :func:`dense_hessian` of a batch, one after the other.

    Small ones are computed together, which takes a fraction of the time. More samples than inputs are
    rotated first: if ``Xᵀ = QR`` with orthonormal columns of ``Q``, then ``‖Y − W X‖²`` is
    ``‖YQ − W Rᵀ‖²`` and a number that does not depend on ``W``. So few samples have the same Hessian.

    Args:
        factors: ``W_i`` of shape ``(B, d_i, d_{i-1})``.
        targets: ``Y``, shape ``(B, d_L, n)``, or ``(d_L, n)`` for all.
        inputs: ``X``, shape ``(d_0, n)``; None stands for the identity.
        chunk_size: As for one Hessian.

    >>> W = torch.ones(2, 1, 1, dtype=torch.float64)
    >>> [float(hessian.sum()) for hessian in dense_hessians([W, W], targets=W)]
    [8.0, 8.0]
    """
    widths = [factors[0].shape[-1], *(W.shape[-2] for W in factors)]
    parameters = torch.cat([W.flatten(1) for W in factors], 1)
    if inputs is not None and inputs.shape[1] > inputs.shape[0]:
        Q, R = torch.linalg.qr(inputs.mT)
        targets, inputs = targets @ Q, R.mT
    targets = targets.expand(len(parameters), *targets.shape[-2:])

    together = max(1, HESSIANS_TOGETHER // parameters.shape[1] ** 2)
    for part, goals in zip(
        torch.split(parameters, together), torch.split(targets, together), strict=True
    ):
        yield from _hessian(_loss_of_vector(widths, goals, inputs), part, chunk_size)


def dense_observed_hessian(factors: Sequence[Tensor], loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The Hessian of ``loss(W_L ⋯ W_1)``, such as a loss of some entries, as in :func:`dense_hessian`.

    Args:
        factors: ``W_i`` of shape ``(d_i, d_{i-1})``.
        loss: A function of the product ``(d_L, d_0)``, written with operations of PyTorch.

    >>> W = torch.ones(1, 1, dtype=torch.float64)
    >>> dense_observed_hessian([W, W], lambda product: 3 * (1 - product).pow(2).sum())
    tensor([[6., 6.],
            [6., 6.]], dtype=torch.float64)
    """

    def of_vector(parameters: Tensor) -> Tensor:
        product, position = None, 0
        for W in factors:
            layer = parameters[position : position + W.numel()].reshape(W.shape)
            product = layer if product is None else layer @ product
            position += W.numel()
        assert product is not None
        return loss(product)

    return _hessian(of_vector, torch.cat([W.reshape(-1) for W in factors]), None)


def _hessian(
    loss: Callable[[Tensor], Tensor], parameters: Tensor, chunk_size: int | None
) -> Tensor:
    """The Hessians ``(…, N, N)`` of a sum of losses, one for each vector of parameters ``(…, N)``."""
    order = parameters.shape[-1]
    point = parameters.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(point), point, create_graph=True)
    columns: list[Tensor] = []
    identity = torch.eye(order, dtype=point.dtype, device=point.device)
    for basis in torch.split(identity, chunk_size or order):
        directions = basis.expand(*point.shape[:-1], *basis.shape).movedim(-2, 0)
        columns += torch.autograd.grad(
            gradient, point, directions, retain_graph=True, is_grads_batched=True
        )
    hessian = torch.cat(columns).movedim(0, -1)
    return 0.5 * (hessian + hessian.mT)


def dense_spectrum(
    factors: Sequence[Tensor],
    target: Tensor,
    inputs: Tensor | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """All ``N`` eigenvalues of :func:`dense_hessian`, descending, shape ``(N,)``; same arguments."""
    return torch.linalg.eigvalsh(dense_hessian(factors, target, inputs, chunk_size)).flip(-1)


def lanczos_sharpness(
    factors: Sequence[Tensor],
    target: Tensor,
    inputs: Tensor | None = None,
    tolerance: float = 1e-12,
) -> float:
    """The largest Hessian eigenvalue, by ARPACK with Hessian-vector products from autograd.

    It serves networks whose dense Hessian would be too large.

    Args:
        factors: ``W_i`` of shape ``(d_i, d_{i-1})``.
        target: ``Y``, shape ``(d_L, n)``; in matrix factorization ``M``, shape ``(d_L, d_0)``.
        inputs: ``X``, shape ``(d_0, n)``; None stands for the identity.
        tolerance: The relative residual ``‖H v − λ v‖ / λ`` at which the iteration stops.

    Raises:
        scipy.sparse.linalg.ArpackNoConvergence: The iteration does not reach the tolerance.

    >>> W = torch.ones(3, 3, dtype=torch.float64)
    >>> round(lanczos_sharpness([W, W], target=W @ W), 9)
    36.0
    """
    widths = [factors[0].shape[1], *(W.shape[0] for W in factors)]
    point = torch.cat([W.reshape(-1) for W in factors]).detach().requires_grad_()
    loss = _loss_of_vector(widths, target, inputs)
    (gradient,) = torch.autograd.grad(loss(point), point, create_graph=True)

    def product(vector: np.ndarray) -> np.ndarray:
        direction = torch.from_numpy(vector.reshape(-1)).to(point.device)
        (image,) = torch.autograd.grad(gradient, point, direction, retain_graph=True)
        found: np.ndarray = image.cpu().numpy()
        return found

    order = len(point)
    operator = scipy.sparse.linalg.LinearOperator((order, order), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(order)
    values = scipy.sparse.linalg.eigsh(
        operator,
        k=1,
        which="LA",
        tol=tolerance,
        v0=start,
        ncv=min(order, 20),
        return_eigenvectors=False,
    )
    return float(values[0])


def exact_hessian(
    factors: Sequence[np.ndarray], outputs: np.ndarray, inputs: np.ndarray | None = None
) -> np.ndarray:
    """The Hessian of ``‖Y − W_L ⋯ W_1 X‖_F²`` at rational factors, without any rounding.

    The loss is a polynomial whose degree in every single parameter is at most two. Second differences
    with the step 1 are therefore its second derivatives, not approximations of them. The values of
    the loss are all that is needed; no derivative is written down.

    Args:
        factors: ``W_i``, shape ``(d_i, d_{i-1})``. The entries of all arguments are numbers that
            :class:`fractions.Fraction` takes: fractions, integers, or floats, for their exact values.
        outputs: ``Y``, shape ``(d_L, n)``; in matrix factorization ``M``, shape ``(d_L, d_0)``.
        inputs: ``X``, shape ``(d_0, n)``; None stands for the identity.

    Returns:
        The Hessian as an array of fractions, shape ``(N, N)``, in the order of :func:`dense_hessian`.

    >>> W = np.array([[Fraction(1, 3)]])
    >>> exact_hessian([W, W], outputs=W @ W).tolist()
    [[Fraction(2, 9), Fraction(2, 9)], [Fraction(2, 9), Fraction(2, 9)]]
    """
    if inputs is None:
        inputs = np.eye(factors[0].shape[1], dtype=int)
    # Without denominators all values are integers, which is fifty times faster.
    layers, units = map(list, zip(*map(_integers, factors), strict=True))
    signal, input_unit = _integers(inputs)
    goal, output_unit = _integers(outputs)
    scale = input_unit * math.prod(units)
    signal, goal = signal * output_unit, goal * scale
    entries = [(layer, *place) for layer, W in enumerate(layers) for place in np.ndindex(W.shape)]

    def loss(*moves: tuple[int, int]) -> int:
        """The loss in units of ``(scale · output_unit)⁻²`` where some parameters are ``± 1`` away."""
        for parameter, sign in moves:
            layer, row, column = entries[parameter]
            layers[layer][row, column] += sign * units[layer]
        product = signal
        for W in layers:
            product = W @ product
        for parameter, sign in moves:
            layer, row, column = entries[parameter]
            layers[layer][row, column] -= sign * units[layer]
        value: int = ((goal - product) ** 2).sum()
        return value

    order, square = len(entries), (scale * output_unit) ** 2
    hessian = np.empty((order, order), dtype=object)
    for a in range(order):
        hessian[a, a] = Fraction(loss((a, 1)) - 2 * loss() + loss((a, -1)), square)
        for b in range(a):
            same = loss((a, 1), (b, 1)) + loss((a, -1), (b, -1))
            opposite = loss((a, 1), (b, -1)) + loss((a, -1), (b, 1))
            hessian[a, b] = hessian[b, a] = Fraction(same - opposite, 4 * square)
    return hessian


def exact_sharpness(
    factors: Sequence[np.ndarray],
    outputs: np.ndarray,
    inputs: np.ndarray | None = None,
    digits: int = 80,
) -> mpmath.mpf:
    """The largest eigenvalue of :func:`exact_hessian`, by mpmath with the given number of digits.

    >>> W = np.array([[Fraction(1, 3)]])
    >>> mpmath.nstr(exact_sharpness([W, W], outputs=W @ W), 40)
    '0.4444444444444444444444444444444444444444'
    """
    return largest_eigenvalue(exact_hessian(factors, outputs, inputs), digits)


def largest_eigenvalue(symmetric: np.ndarray, digits: int) -> mpmath.mpf:
    """The largest eigenvalue of a symmetric matrix of fractions, with the given number of digits.

    Float64 gives the eigenpair to about fifteen digits, and tells it from the others. Newton's method with
    the Jacobian matrix in float64 then adds about ten digits at each step; only the residual is computed with
    all of them. Where the second eigenvalue is too close, all eigenvalues are computed with all digits, which
    takes much longer.

    >>> A = np.array([[Fraction(2), Fraction(1)], [Fraction(1), Fraction(2)]])
    >>> mpmath.nstr(largest_eigenvalue(A, digits=40), 40)
    '3.0'
    """
    with mpmath.workdps(digits + GUARD_DIGITS):
        rows = [[mpmath.mpf(x.numerator) / x.denominator for x in row] for row in symmetric]
        found = _by_newton(rows, digits)
        if found is None:
            found = max(mpmath.eigsy(mpmath.matrix(rows), eigvals_only=True))
    with mpmath.workdps(digits):
        return +found


def _by_newton(rows: list[list[mpmath.mpf]], digits: int) -> mpmath.mpf | None:
    """The largest eigenvalue by Newton's method for ``A x = θ x``; None if it is not told from the next."""
    largest = max(abs(x) for row in rows for x in row)
    if largest == 0:
        return largest
    A = [[x / largest for x in row] for row in rows]
    rounded = np.array([[float(x) for x in row] for row in A])
    values, vectors = np.linalg.eigh(rounded)
    if len(values) > 1 and values[-1] - values[-2] < LEAST_GAP:
        return None
    start = vectors[:, -1:]
    shifted = rounded - values[-1] * np.eye(len(values))
    jacobian = np.block([[shifted, -start], [start.T, np.zeros((1, 1))]])
    x, value = [mpmath.mpf(entry) for entry in start[:, 0].tolist()], mpmath.mpf(float(values[-1]))
    enough = mpmath.mpf(10) ** -(digits + GUARD_DIGITS // 2)
    for _ in range(digits):
        missed = [mpmath.fdot(row, x) - value * entry for row, entry in zip(A, x, strict=True)]
        size = max(map(abs, missed))
        if size <= enough * abs(value):  # for a unit vector this bounds the error of the eigenvalue
            return largest * value
        right = [*(float(entry / size) for entry in missed), 0.0]
        *change, slope = (-np.linalg.solve(jacobian, right)).tolist()
        x = [entry + size * step for entry, step in zip(x, change, strict=True)]
        value += size * slope
    return None


def _integers(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """Integers and their common denominator, with which they are the given numbers."""
    exact = [Fraction(x) for x in matrix.ravel().tolist()]
    unit = math.lcm(*(x.denominator for x in exact))
    numerators = [x.numerator * (unit // x.denominator) for x in exact]
    return np.array(numerators, dtype=object).reshape(matrix.shape), unit
