"""The results of the methods that solve a whole batch at once: a formula, LAPACK, one iteration for all."""

from functools import partial

from torch import Tensor

from dmf_sharpness.hessian import closed_forms
from dmf_sharpness.hessian.certificate import direction_residual, eigenmatrix_residual
from dmf_sharpness.hessian.closed_forms import TopPair
from dmf_sharpness.hessian.eigenmatrix import WholeEigenmatrix
from dmf_sharpness.hessian.result import Sharpness
from dmf_sharpness.network.curvature import parameter_direction
from dmf_sharpness.network.factors import Factors
from dmf_sharpness.network.scaling import plain

DIRECT_PARAMETERS = 20_000
"""Up to this number of parameters the certificate forms the eigenvector in parameter space."""


def direct_result(
    factors: Factors, root: Tensor | None, top: TopPair, method: str, tolerance: float
) -> Sharpness:
    """The result for the eigenpair of a direct solver, with its residual."""
    size = sum(W.shape[-1] * W.shape[-2] for W in factors)
    if top.value.ndim == 0 and size > DIRECT_PARAMETERS:
        found = eigenmatrix_residual(factors, top.eigenmatrix, float(top.value), root)
        residual = top.value.new_tensor(found)
    else:
        direction = parameter_direction(factors, top.eigenmatrix, root)
        residual = direction_residual(factors, direction, top.value, root)
    converged = residual <= tolerance
    return Sharpness(
        value=plain(top.value),
        residual=plain(residual),
        converged=bool(converged) if converged.ndim == 0 else converged,
        tolerance=tolerance,
        method=method,
        _factors=factors,
        _root=root,
        _eigenmatrix=WholeEigenmatrix(top.eigenmatrix),
        _first=top.value,
        _second=partial(_second_of_direct, top.second, factors, root),
    )


def _second_of_direct(found: Tensor | None, factors: Factors, root: Tensor | None) -> Tensor:
    """The second eigenvalue that the solver has found; if it has none, it is computed by LAPACK."""
    return closed_forms.second_eigenvalue(factors, root) if found is None else found
