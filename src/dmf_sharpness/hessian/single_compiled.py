"""The sharpness of a single minimizer of moderate size in one compiled call, ``compiled/_single.c``.

The call checks that the factors are finite and, if there is a target, that they fit it. It forms the
products and Gram matrices, finds the top eigenpair, and computes the certificate. For a small network
this takes less time than PyTorch needs to start the products. A large problem is divided among as many
threads as PyTorch may use, with the same bits for any number of them.
"""

import ctypes
import math
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, TypeGuard

import torch
from torch import Tensor

from dmf_sharpness.compiled.lanes import Address, Integer, available, loaded_library, openmp
from dmf_sharpness.hessian import closed_forms
from dmf_sharpness.hessian.crossovers import COMPILED_WIDTH, EXACT_ORDER, suits_compiled
from dmf_sharpness.hessian.eigenmatrix import WholeEigenmatrix
from dmf_sharpness.hessian.narrow_ends import is_worthwhile
from dmf_sharpness.hessian.result import Sharpness
from dmf_sharpness.network.factors import Factors, widths
from dmf_sharpness.network.scaling import SAFE_BITS, SMALLEST

SOLVED = 0
"""The result of the C function ``single_top_pair`` if it has found the eigenpair."""
ROUNDING_LEVEL = 1e-14
"""The relative residual of the eigenpair that counts as rounding."""

LARGE = 2**18
"""From this number of parameters on the threads are PyTorch's.

After a product of PyTorch these wait for work in a loop for a while, and would keep other threads from the
processor. For smaller networks the call has threads of its own.
"""

CONTIGUOUS = torch.contiguous_format
KINDS = (Tensor, torch.nn.Parameter)
"""The types whose memory is read without a look at what a subclass makes of it."""


class _Single(ctypes.Structure):
    """The C struct ``single`` of ``_single.c``, with the same fields in the same order."""

    _fields_ = (
        ("depth", Integer),
        ("widths", Address),
        ("layers", Address),
        ("input_root", Address),
        ("target", Address),
        ("fit", ctypes.c_double),
        ("tolerance", ctypes.c_double),
        ("safe_bits", ctypes.c_double),
        ("smallest", ctypes.c_double),
        ("threads", Integer),
        ("start_threads", Address),
        ("value", Address),
        ("residual", Address),
        ("eigenmatrix", Address),
    )


@cache
def _arrays(depth: int) -> tuple[Any, Any]:
    """The C types of the widths and of the addresses of the layers."""
    return Integer * (depth + 1), Address * depth


def compiled_sharpness(
    factors: Factors, input_root: Tensor | None, tolerance: float
) -> Sharpness | None:
    """The result for a single minimizer on the CPU; None if another method has to be used.

    Args:
        factors: ``W_i`` of shape ``(d_i, d_{i-1})``, already checked, and of such a scale that no
            computation leaves the range of float64.
        input_root: ``S``, shape ``(d_0, d_0)``, or None for the identity.
        tolerance: The wanted upper bound on the residual.
    """
    layers = [W.contiguous() for W in factors]
    root = None if input_root is None else input_root.contiguous()
    return _solved(layers, widths(layers), root, "compiled", tolerance, None, 0.0, math.inf)


def _solved(
    factors: Sequence[Tensor],
    sizes: Sequence[int],
    input_root: Tensor | None,
    method: str,
    tolerance: float,
    target: Tensor | None,
    rtol: float,
    safe_bits: float,
) -> Sharpness | None:
    """The result of the compiled call, which reads contiguous matrices of these sizes."""
    depth, order = len(factors), sizes[0] * sizes[-1]
    integers, addresses = _arrays(depth)
    Y = torch.empty((sizes[-1], sizes[0]), dtype=torch.float64, device="cpu")
    value, residual = ctypes.c_double(), ctypes.c_double()
    d, layers = integers(*sizes), addresses(*[W.data_ptr() for W in factors])
    goal = tolerance / 4
    problem = _Single(
        depth,
        ctypes.addressof(d),
        ctypes.addressof(layers),
        None if input_root is None else input_root.data_ptr(),
        None if target is None else target.data_ptr(),
        rtol,
        min(goal, ROUNDING_LEVEL) if order <= EXACT_ORDER else goal,
        safe_bits,
        SMALLEST,
        1 if order <= EXACT_ORDER else torch.get_num_threads(),
        openmp() if sum(W.numel() for W in factors) >= LARGE else None,
        ctypes.addressof(value),
        ctypes.addressof(residual),
        Y.data_ptr(),
    )
    if loaded_library().single_top_pair(ctypes.byref(problem)) != SOLVED:
        return None
    return Sharpness(
        value=value.value,
        residual=residual.value,
        converged=residual.value <= tolerance,
        tolerance=tolerance,
        method=method,
        _factors=factors,
        _root=input_root,
        _eigenmatrix=WholeEigenmatrix(Y),
        _first=Y.new_tensor(value.value),
        _second=partial(closed_forms.second_eigenvalue, factors, input_root),
    )


def stacked_pair(
    lefts: Tensor,
    rights: Tensor,
    start: Tensor,
    tolerance: float,
    known: tuple[float, Tensor] | None,
) -> tuple[float, Tensor] | None:
    """The largest eigenvalue of ``Y ↦ 2 Σ_i A_i Y B_i``, and its unit eigenmatrix; None if not found.

    Args:
        lefts: ``A_i``, shape ``(L, m, m)``.
        rights: ``B_i``, shape ``(L, n, n)``.
        start: The first Krylov vector, shape ``(m, n)``.
        tolerance: The relative residual at which the iteration stops.
        known: An eigenvalue and its unit eigenmatrix ``(m, n)`` that are subtracted first, or None.
    """
    if not (start.is_cpu and available()):
        return None
    A, B, Y = lefts.contiguous(), rights.contiguous(), start.clone(memory_format=CONTIGUOUS)
    first = None if known is None else known[1].contiguous()
    value = ctypes.c_double()
    status = loaded_library().stacked_top_pair(
        len(A),
        *Y.shape,
        A.data_ptr(),
        B.data_ptr(),
        None if first is None else first.data_ptr(),
        0.0 if known is None else known[0] / 2,
        tolerance,
        torch.get_num_threads(),
        openmp(),
        Y.data_ptr(),
        ctypes.addressof(value),
    )
    return (2 * value.value, Y) if status == SOLVED else None


def at_once(
    factors: object, target: object, tolerance: object, rtol: object, default: float
) -> Sharpness | None:
    """The result for arguments as a caller gave them, if nothing about them is unusual; otherwise None.

    The caller then looks at each of them, and names what is wrong. So all that is accepted here is of
    the exact type, on the CPU and contiguous.

    Args:
        factors: A list or a tuple of matrices of fitting shapes.
        target: None or a matrix.
        tolerance: None or a positive number.
        rtol: A number.
        default: The tolerance that None stands for.
    """
    if tolerance is None:
        tolerance = default
    if (
        type(factors) not in (list, tuple)
        or type(tolerance) is not float
        or type(rtol) is not float
    ):
        return None
    if not (0 < tolerance < math.inf and 0 <= rtol < math.inf and available()):
        return None
    assert isinstance(factors, list | tuple)
    if len(factors) < 2 or not all(map(_ordinary, factors)):
        return None
    sizes = [factors[0].shape[1]]
    for W in factors:
        rows, columns = W.shape
        if columns != sizes[-1] or rows == 0 or columns == 0:
            return None
        sizes.append(rows)
    ends = (sizes[-1], sizes[0])
    scalar = ends == (1, 1) and max(sizes) <= COMPILED_WIDTH
    if not scalar and (is_worthwhile(sizes) or not suits_compiled(sizes)):
        return None
    if target is not None:
        if not (_ordinary(target) and target.shape == ends):
            return None
        target = target.detach()
    method = "scalar" if scalar else "compiled"
    layers = [W.detach() for W in factors]
    return _solved(layers, sizes, None, method, tolerance, target, rtol, SAFE_BITS)


def _ordinary(W: object) -> TypeGuard[Tensor]:
    """Whether a value is a matrix of float64 numbers that lie in memory as compiled code reads them."""
    try:
        return (
            isinstance(W, Tensor)
            and type(W) in KINDS
            and W.dtype == torch.float64
            and W.ndim == 2
            and W.layout == torch.strided
            and W.is_cpu
            and W.is_contiguous()
            and not W.is_neg()
            and W.data_ptr() != 0
        )
    except (
        RuntimeError,
        ValueError,
    ):  # as inside a transform of torch.func, where it has no memory
        return False
