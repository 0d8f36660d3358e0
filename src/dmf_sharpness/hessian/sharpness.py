"""The exact sharpness of a minimizer: the largest Hessian eigenvalue of ``‖M − W_{L:1}‖_F²``.

It is the largest eigenvalue of ``Y ↦ 2 Σ_i (L_iL_iᵀ) Y (R_iᵀR_i)`` on matrices of shape
``(d_L, d_0)``, as derived in :mod:`dmf_sharpness.network.curvature`. The method depends on depth
and widths. In the table, ``d`` is the width of the layers and ``k`` a rank that the method finds.

| method       | chosen for                        | computation                                 |
| ------------ | --------------------------------- | ------------------------------------------- |
| ``scalar``   | ``d_0 = d_L = 1``                 | the formula ``2 Σ_i ‖L_i‖² ‖R_i‖²``         |
| ``depth-1``  | one factor                        | the formula ``2 ‖G‖₂``                      |
| ``depth-2``  | two factors                       | eigenproblems of order ``d_L`` and ``d_0``  |
| ``compiled`` | a single one, ``d_0 d_L ≤ 128²``  | Lanczos and certificate in one C function   |
| ``dense``    | ``d_0 d_L`` up to 256             | an eigenproblem of order ``d_0 d_L``        |
| ``batched``  | batches of small minimizers       | one iteration for the whole batch           |
| ``lanczos``  | a narrow input or output          | products of ``(d_L, d_0)`` matrices         |
| ``low-rank`` | a wide input and output           | ``O(L d² k)`` operations for each step      |

For a single minimizer without input data, of which an input or an output is so much wider than the hidden
layer beside it that this saves time, ``auto`` takes a narrower network with the same sharpness
(:mod:`dmf_sharpness.hessian.narrow_ends`), and the table holds for the widths of that. ``compiled`` needs
the CPU, and a C compiler at installation. If the low-rank result of a wide network misses the tolerance,
``auto`` continues with ``lanczos``, provided that the matrices for it take less than a gigabyte. Otherwise
the result reports ``converged=False``.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, Unpack, cast, get_args

import torch
from torch import Tensor

from dmf_sharpness.arguments import checked_choice, checked_number
from dmf_sharpness.compiled.lanes import available
from dmf_sharpness.hessian import closed_forms
from dmf_sharpness.hessian.batched import batched_top_pair
from dmf_sharpness.hessian.closed_forms import TopPair
from dmf_sharpness.hessian.crossovers import (
    BATCH_SIZE,
    DENSE_ORDER,
    LARGEST_SPLIT,
    WIDE_END,
    suits_compiled,
)
from dmf_sharpness.hessian.direct import direct_result
from dmf_sharpness.hessian.iterative import lanczos, low_rank, one_by_one
from dmf_sharpness.hessian.model_curvature import fitted, refuse_beside_model, solved_model
from dmf_sharpness.hessian.narrow_ends import is_worthwhile, sharpness_of_narrowed
from dmf_sharpness.hessian.observed import (
    at_observed_scale,
    check_observed_residual,
    observed_sharpness,
)
from dmf_sharpness.hessian.result import Sharpness
from dmf_sharpness.hessian.single_compiled import at_once, compiled_sharpness
from dmf_sharpness.network.curvature import checked_root
from dmf_sharpness.network.factors import Factors, measured_factors, widths
from dmf_sharpness.network.linear_model import LinearModel
from dmf_sharpness.network.loss import check_orthogonal_residual
from dmf_sharpness.network.observation import checked_observation
from dmf_sharpness.network.reading import Model, ModelOptions, as_model, is_model
from dmf_sharpness.network.scaling import Scaled, at_safe_scale, plain, times_power

Method = Literal[
    "auto",
    "scalar",
    "depth-1",
    "depth-2",
    "compiled",
    "dense",
    "batched",
    "lanczos",
    "low-rank",
]
"""The names of the methods in the table above; ``auto`` chooses one of the others."""

LARGEST_WHOLE = 2**30
"""The largest memory, in bytes, that ``auto`` may use for ``lanczos`` if ``d_0`` and ``d_L`` are large."""
TOLERANCE = 1e-10
"""The default tolerance of all methods but ``low-rank``."""
LOW_RANK_TOLERANCE = 1e-5
"""The default tolerance of ``low-rank``, for the residual of the eigenvector.

The relative error of the eigenvalue is about the square of the residual, divided by the relative gap.
"""
LOW_RANK_LIMIT = 1e-7
"""For a tolerance below this the low-rank iteration would need too many columns to be fast."""


def sharpness(
    factors: Factors | Model | LinearModel,
    input_gram: Tensor | None = None,
    *,
    input_root: Tensor | None = None,
    observed: Tensor | None = None,
    measurements: Tensor | None = None,
    target: Tensor | None = None,
    method: Method = "auto",
    tolerance: float | None = None,
    rtol: float = 1e-10,
    **options: Unpack[ModelOptions],
) -> Sharpness:
    """The exact largest Hessian eigenvalue at a minimizer of ``‖Y − W_{L:1} X‖_F²``.

    The derivation is in section 1 of ``docs/derivation.md``. In matrix factorization ``X`` is the
    identity, and ``Y`` is the target ``M``.

    With ``observed = ω`` the loss is ``Σ_ij ω_ij (M − W_{L:1})_ij²``, as in the completion of a matrix with
    missing entries. With ``measurements = A`` it is ``Σ_k (y_k − ⟨A_k, W_{L:1}⟩)²``. The derivation is in
    ``docs/missing_entries.md``.

    The value must be in the range of float64: zero, or ``λ_max`` between 2.2e-308 and 1.8e308. The
    factors may differ in size. But if they are scaled together such that ``λ_max`` is about 1, the
    product of all ``‖W_i‖₂`` above 1 must be below 1e114. Otherwise ``converged`` is False and
    ``residual`` is NaN, and no error is raised. ``value`` is then ``inf`` if it is too large, zero
    or subnormal if it is too small, and NaN if the factors differ too much in size. No member of a
    batch changes the result of another one.

    Args:
        factors: ``[W_1 … W_L]`` of a minimizer, ``W_i`` of shape ``(…, d_i, d_{i-1})``, float64;
            single precision is refused. Batch dimensions hold several minimizers with the same
            widths. The factors may require gradients, but the result cannot be differentiated. Or a
            deep linear network of PyTorch: a module, a state dict, or the result of
            :func:`dmf_sharpness.from_module`.
        input_gram: ``G = X Xᵀ``, shape ``(d_0, d_0)``, possibly singular; None in matrix
            factorization.
        input_root: A root of ``G`` instead of ``G``, ``S Sᵀ = G``, shape ``(d_0, n)``, such as
            ``X`` itself. If the inputs are nearly collinear, it keeps digits that the Gram matrix loses.
        observed: Which entries of ``M`` are observed, a mask of truth values, or their nonnegative
            weights ``ω``, float64; of shape ``(d_L, d_0)``, or with the batch dimensions of the factors.
            None means all, with weight one.
        measurements: ``A_1 … A_K``, shape ``(K, d_L, d_0)``, or with the batch dimensions of the factors;
            None in matrix factorization.
        target: ``M``, or with input data any least-squares solution such as ``Y X⁺``, shape
            ``(d_L, d_0)`` or ``(…, d_L, d_0)``. If it is given, the factors are checked: the
            residual must be orthogonal to the inputs. If it is None, the product of the factors is
            taken to be the solution. Beside ``observed`` only observed entries of ``M`` are read; the
            others may be NaN. Beside ``measurements`` the target are the outcomes ``y``, shape ``(K,)``
            or ``(…, K)``, and ``Σ_k (y_k − ⟨A_k, W_{L:1}⟩) A_k`` must be zero.
        method: One of the methods in the table of :mod:`dmf_sharpness.hessian.sharpness`; ``auto``
            chooses by depth and widths. Beside ``observed`` or ``measurements``, and for a model with
            biases, frozen or tied layers: ``auto``, ``dense`` or ``lanczos``.
        tolerance: The wanted upper bound on :attr:`Sharpness.residual`, positive. None stands for
            ``1e-10``, and for ``1e-5`` with ``low-rank``, where the relative error of the value is
            about its square.
        rtol: How well the factors have to fit a target: the largest accepted relative residual, or for a
            model with targets the largest :attr:`Sharpness.misfit`.
        **options: For a model the data and conventions of :func:`dmf_sharpness.from_module`: ``inputs``,
            ``targets``, ``reduction``, ``half``, ``trainable``, ``promote``.

    Returns:
        The value with its certificate; eigenvector, gap and upper bound are computed on demand.

    Raises:
        TypeError: A factor, the Gram matrix, its root or the target is not a float64 tensor, or the
            tolerance is not a number.
        ValueError: The shapes do not fit, values are not finite, ``G`` is not a Gram matrix, both
            ``G`` and a root are given, a weight is negative, nothing is observed, two of data,
            ``observed`` and ``measurements`` are given, the method is unknown or does not fit the shapes, the
            tolerance is not positive, or the residual is not orthogonal to the inputs.
            :func:`dmf_sharpness.sharpness_at` accepts such points.
        MemoryError: The method needs more memory than there is.

    Examples:
        At depth 2 the sharpness is ``2 (‖W_1‖₂² + ‖W_2‖₂²)``:

        >>> W_1 = torch.diag(torch.tensor([2.0, 0.5], dtype=torch.float64))
        >>> W_2 = torch.diag(torch.tensor([2.0, 2.0], dtype=torch.float64))
        >>> round(sharpness([W_1, W_2]).value, 12)
        16.0

        Three factors of norm 1: a column, a rotation by 60°, and a row. Their product is the 1 × 1
        matrix ½, and their sharpness is ``2 Σ_i ‖L_i‖² ‖R_i‖² = 6``:

        >>> e_1 = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
        >>> c, s = 0.5, 0.75**0.5
        >>> rotation = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        >>> round(sharpness([e_1, rotation, e_1.mT]).value, 12)
        6.0

        A layer with a bias, on three samples of mean zero: ``2 ‖x‖²``, or ``2 · 3`` if that is more.

        >>> layer = torch.nn.Linear(1, 1).double()
        >>> samples = torch.tensor([[1.0], [-2.0], [1.0]], dtype=torch.float64)
        >>> round(sharpness(layer, inputs=samples).value, 12)
        12.0
    """
    if (
        input_gram is input_root is observed is measurements is None
        and not options
        and isinstance(method, str)
        and method == "auto"
    ):
        found = at_once(factors, target, tolerance, rtol, TOLERANCE)
        if found is not None:
            return found
    rtol = checked_number(rtol, "rtol", least=0)
    if options or is_model(factors):
        refuse_beside_model(
            input_gram=input_gram,
            input_root=input_root,
            observed=observed,
            measurements=measurements,
            target=target,
        )
        return _of_model(factors, method, tolerance, rtol, options)
    factors, norms = measured_factors(factors)
    observation = checked_observation(factors, observed, measurements, (input_gram, input_root))
    root = checked_root(factors, input_gram, input_root)
    method = cast(Method, checked_choice(method, "method", get_args(Method)))
    if tolerance is not None:
        tolerance = checked_number(tolerance, "tolerance", above=0)
    if observation is not None:
        if target is not None:
            check_observed_residual(factors, target, observation, rtol)
        solve_part = partial(observed_sharpness, method=method, tolerance=tolerance or TOLERANCE)
        seen = at_observed_scale(factors, norms, observation, solve_part, lambda found: found.value)
        return _scaled_back(*seen)
    if target is not None:
        check_orthogonal_residual(factors, target, root, rtol)
    solve = partial(_solved, method=method, tolerance=tolerance)
    result, scaled = at_safe_scale(factors, norms, root, solve, lambda solved: solved.value)
    return result if scaled is None else _scaled_back(result, scaled)


def _of_model(
    given: object,
    method: Method,
    tolerance: float | None,
    rtol: float,
    options: ModelOptions,
) -> Sharpness:
    """:func:`sharpness` for a network of PyTorch with its data."""
    model = as_model(cast(Model, given), **options)
    if model.plain:
        root = model.problem.input_root
        found = sharpness(model.factors, input_root=root, method=method, tolerance=tolerance)
    else:
        found = solved_model(model, method, tolerance)
    return fitted(model, found, rtol)


def _solved(
    factors: Factors, root: Tensor | None, method: Method, tolerance: float | None
) -> Sharpness:
    """The result for factors of ordinary size, whose computation does not leave the range of float64."""
    single = factors[0].ndim == 2 and root is None
    if method == "auto" and single and is_worthwhile(widths(factors)):
        solve_inner = partial(_solved, root=None, method=method, tolerance=tolerance)
        return sharpness_of_narrowed(factors, solve_inner)
    chosen = _choose(factors, tolerance) if method == "auto" else method
    limit = tolerance or (LOW_RANK_TOLERANCE if chosen == "low-rank" else TOLERANCE)
    if chosen in _DIRECT:
        top = _solver(chosen, factors)(factors, root)
        return direct_result(factors, root, top, chosen, limit)
    solve = {"compiled": _compiled, "lanczos": lanczos, "low-rank": low_rank}[chosen]
    if factors[0].shape[:-2]:
        return one_by_one(factors, root, chosen, limit, solve)
    result = solve(factors, root, limit)
    wide = method == "auto" and chosen == "low-rank"
    if wide and not result.converged and _whole_bytes(factors) <= LARGEST_WHOLE:
        # The eigenmatrix needs too many columns. Lanczos with whole matrices continues from it.
        start = None if math.isnan(cast(float, result.value)) else result.eigenmatrix
        return lanczos(factors, root, limit, start)
    return result


def _compiled(factors: Factors, root: Tensor | None, tolerance: float) -> Sharpness:
    """The result of the compiled call for a single minimizer; where it finds none, of another method.

    Raises:
        ValueError: The kernels cannot be used, or the factors are not on the CPU.
    """
    if not (available() and factors[0].is_cpu):
        raise ValueError(
            "method: expected kernels that were built and factors on the CPU for 'compiled', got none"
        )
    result = compiled_sharpness(factors, root, tolerance)
    if result is not None:
        return result
    if _fits_dense(factors):
        return direct_result(factors, root, closed_forms.dense(factors, root), "dense", tolerance)
    return lanczos(factors, root, tolerance)


def _fits_dense(factors: Factors) -> bool:
    return factors[0].shape[-1] * factors[-1].shape[-2] <= DENSE_ORDER


def _scaled_back(solved: Sharpness, scaled: Scaled) -> Sharpness:
    """The result for the original factors, from the result for scaled ones."""
    there = torch.as_tensor(solved.value, dtype=torch.float64, device=scaled.exponent.device)
    value = times_power(there, scaled.exponent)
    value = torch.where(scaled.possible, value.masked_fill(scaled.zero, 0.0), torch.nan)
    faithful = scaled.faithful(value, there)
    residual = torch.as_tensor(solved.residual, dtype=torch.float64, device=value.device)
    converged = faithful & torch.as_tensor(solved.converged, device=value.device)
    return replace(
        solved,
        value=plain(value),
        residual=plain(torch.where(faithful, residual, torch.nan)),
        converged=converged if value.ndim else bool(converged),
        _exponent=torch.where(faithful, scaled.exponent, torch.nan),
    )


_DIRECT: dict[str, Callable[[Factors, Tensor | None], TopPair]] = {
    "scalar": closed_forms.scalar,
    "depth-1": closed_forms.one_layer,
    "depth-2": closed_forms.two_layers,
    "dense": closed_forms.dense,
    "batched": batched_top_pair,
}
"""The methods that solve a whole batch at once."""


def _choose(factors: Factors, tolerance: float | None) -> Method:
    """The method that ``auto`` stands for, by depth, widths, size of the batch and tolerance."""
    sizes = widths(factors)
    d_0, d_L = sizes[0], sizes[-1]
    if len(factors) == 1:
        return "depth-1"
    if d_0 * d_L == 1:
        return "scalar"
    single = factors[0].ndim == 2 and factors[0].is_cpu and available()
    if single and suits_compiled(sizes):
        return "compiled"
    if len(factors) == 2 and max(d_0, d_L) <= LARGEST_SPLIT:
        return "depth-2"
    if _fits_dense(factors):
        count = factors[0].shape[:-2].numel()
        return "batched" if count >= BATCH_SIZE and d_0 * d_L >= 16 else "dense"
    tight = tolerance is not None and tolerance < LOW_RANK_LIMIT
    if min(d_0, d_L) < WIDE_END or (tight and _whole_bytes(factors) <= LARGEST_WHOLE):
        return "lanczos"
    return "low-rank"


def _whole_bytes(factors: Factors) -> int:
    """The memory, in bytes, of all ``L_i`` and ``R_i`` of a single minimizer and of their Gram matrices."""
    sizes = widths(factors)
    ends = sizes[0], sizes[-1]
    return 8 * sum((width + end) * end for width in sizes[1:-1] for end in ends)


def _solver(method: str, factors: Factors) -> Callable[[Factors, Tensor | None], TopPair]:
    """The direct solver of a method, which has to fit the depth and the widths."""
    depth, ends = len(factors), (widths(factors)[0], widths(factors)[-1])
    fits = {"scalar": ends == (1, 1), "depth-1": depth == 1, "depth-2": depth == 2}
    if not fits.get(method, True):
        raise ValueError(
            f"method: expected one that fits depth {depth} and the ends (d_0, d_L) = {ends}, "
            f"got {method!r}"
        )
    return _DIRECT[method]
